"""`Overlap`: frames averaged with the frames around them, which show the same places again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.denoise.averaging import average_placed, place_frame
from cemi_dask.denoise.method import Denoiser, Frame, Needs
from cemi_dask.denoise.noise import estimate_noise_model
from cemi_dask.geometry import Layout

# Measured for four frames at once, in the midst of a scan whose frames overlap by 60 %: their 30
# frames, and for each neighbour of one of them what lies on it in four pictures.
BYTES_PER_PX = 280


class Overlap(Denoiser):
    """Mean of a frame and the frames that overlap it, weighted by inverse variance.

    Each neighbour is resampled onto the frame's grid once; where it shows something else than
    the frame, beyond noise, it is left out. Nothing is smoothed; a place that one frame alone
    shows keeps its noise.
    """

    needs: ClassVar[Needs] = "neighbours"

    method: Literal["overlap"] = "overlap"
    feather_px: float = Field(
        default=32.0,
        gt=0,
        description="Distance from a neighbour's border over which its weight rises to the full.",
    )
    max_sigma_px: float = Field(
        default=0.3,
        gt=0,
        description="Neighbours whose place relative to the frame is less certain are left out "
        "(standard deviation along x or y).",
    )

    def memory_bytes(self, frame_px: int) -> int:
        """Bytes for a few neighbouring frames and all that overlap them."""
        return BYTES_PER_PX * frame_px

    def neighbours(self, index: int, layout: Layout) -> npt.NDArray[np.int64]:
        """The used frames of the same island that overlap frame `index`, where places are sure.

        Standard deviations are against the middle of the island, and neighbours share most of
        their errors, so their root sum of squares is an upper bound. NaN (not known) is taken
        for sure.
        """
        near = super().neighbours(index, layout)
        unsure = [
            np.hypot(values[near], values[index]) > self.max_sigma_px
            for values in (layout.sigma_x_px, layout.sigma_y_px)
        ]
        return near[~np.logical_or(*unsure)]

    def clean_among(self, frame: Frame, neighbours: Sequence[Frame], layout: Layout) -> Frame:
        """The averaged picture, float32; constant neighbours, which show nothing, are left out.

        A frame without noise, or without neighbours, stays as it is.
        """
        own = estimate_noise_model(frame)
        placed = []
        for place, other in enumerate(neighbours, 1):
            if other.min() == other.max():
                continue
            pair, noise = layout.part(np.array([0, place])), estimate_noise_model(other)
            found = place_frame(other, noise, pair, feather_px=self.feather_px)
            if found is not None:
                placed.append(found)
        if not placed or own.mean_variance == 0:
            return frame
        return average_placed(frame, own, placed)
