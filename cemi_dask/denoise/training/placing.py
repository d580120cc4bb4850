"""`Placing`: a network's output moved onto the pixels of another frame, differentiably.

Imports torch, so import it late.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from cemi_dask.resample import MARGIN_PX, shift_taps

Floats = npt.NDArray[np.float64]


class Placing:
    """Moves each picture of a batch by a fraction of a pixel, and changes its grey levels.

    Picture k goes `right_px[k]` right and `down_px[k]` down (n, -0.5..0.5) and becomes
    ``scale[k] * moved + offset[k]``. The filter is that of `cemi_dask.resample.shift_frame`
    (exact phase up to 0.40 cycles/px); of its result only what no border has touched is kept,
    so that (n, 1, y, x) becomes (n, 1, y - 16, x - 16), the picture less 8 px on each side.
    """

    def __init__(self, right_px: Floats, down_px: Floats, scale: Floats, offset: Floats) -> None:
        # Moving the picture right means reading it to the left.
        self.taps_x = _taps(-right_px)[:, None, None, :]
        self.taps_y = _taps(-down_px)[:, None, :, None]
        self.scale, self.offset = (
            torch.from_numpy(values.astype(np.float32))[:, None, None, None]
            for values in (scale, offset)
        )

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """The placed pictures, float32, on the device of `output` (n, 1, y, x)."""
        device, count = output.device, len(output)
        pictures = output.float().transpose(0, 1)  # as channels, each with a filter of its own
        pictures = functional.conv2d(pictures, self.taps_y.to(device), groups=count)
        pictures = functional.conv2d(pictures, self.taps_x.to(device), groups=count)
        moved = pictures.transpose(0, 1)
        return self.scale.to(device) * moved + self.offset.to(device)


def _taps(fractions: Floats) -> torch.Tensor:
    """`shift_taps` of each fraction, (n, 17) float32."""
    taps = np.stack([shift_taps(float(fraction)) for fraction in fractions])
    assert taps.shape[1] == 2 * MARGIN_PX + 1  # noqa: S101
    return torch.from_numpy(taps.astype(np.float32))
