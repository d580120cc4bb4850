"""Whether noise may be learnt from: what two registered looks at one place tell of it.

Their difference holds no specimen, only noise. It is taken in Fourier space, where moving a
picture by a fraction of a pixel leaves the power of its noise as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.method import FloatFrame, Frame

CORRELATED = 0.1  # of neighbouring pixels' noise; white noise of 96 px squared shows 0.01
CLIPPED = 0.005  # share of pixels at the ends of the range


def noise_power(
    first: FloatFrame, second: FloatFrame, right_px: float, down_px: float
) -> npt.NDArray[np.float64]:
    """Power spectrum (y, x) of the noise of either picture; its mean is the noise's variance.

    `first` lies on `second` when it is moved by `right_px`, `down_px` (fractions of a pixel).
    Half the power of their difference under a Hann window, as both bring their noise.
    """
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in first.shape))
    a, b = (np.fft.fft2(window * (picture - picture.mean())) for picture in (first, second))
    down, right = (np.fft.fftfreq(size) for size in first.shape)
    phase = np.exp(-2j * np.pi * (right_px * right[None, :] + down_px * down[:, None]))
    power = np.abs(a * phase - b) ** 2 / 2
    return np.asarray(power / (window**2).sum(), np.float64)


def noise_variance(first: FloatFrame, second: FloatFrame, right_px: float, down_px: float) -> float:
    """Variance of the noise of either of two looks at one place; see `noise_power`."""
    return float(noise_power(first, second, right_px, down_px).mean())


@dataclass(frozen=True)
class NoiseFacts:
    """What was measured of the noise of a run's frames.

    sigma: standard deviation, of the range 0..1; along_x, along_y: correlation of the noise of
    neighbouring pixels, -1..1; clipped: share of pixels at the ends of the range.
    """

    sigma: float
    along_x: float
    along_y: float
    clipped: float

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values, four digits each."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}

    def warnings(self) -> list[str]:
        """What makes training from these frames worse than it should be, in words."""
        found = []
        if max(abs(self.along_x), abs(self.along_y)) > CORRELATED:
            found.append(
                f"The noise of neighbouring pixels is correlated ({self.along_x:.2f} along x, "
                f"{self.along_y:.2f} along y), as compression leaves it. Networks trained on it "
                "keep some of it: record without loss, or take the shipped network."
            )
        if self.clipped > CLIPPED:
            found.append(
                f"{self.clipped:.1%} of the pixels are at the ends of the grey range. Clipped "
                "noise has another mean than the picture, so bright or dark places come out too "
                "weak in contrast. Record with lower contrast or another brightness."
            )
        return found


def noise_facts(
    looks: Iterable[tuple[FloatFrame, FloatFrame, float, float]], frames: Iterable[Frame]
) -> NoiseFacts:
    """The noise of some registered `looks`, as `noise_power` takes them, all of one size, and
    the clipping of some `frames` as recorded."""
    power = np.mean([noise_power(*look) for look in looks], axis=0)
    correlation = np.fft.ifft2(power).real  # Wiener and Khinchin
    variance = correlation[0, 0]
    return NoiseFacts(
        float(np.sqrt(variance)),
        float(correlation[0, 1] / variance) if variance else 0.0,
        float(correlation[1, 0] / variance) if variance else 0.0,
        float(np.mean([clipped_share(frame) for frame in frames])),
    )


def clipped_share(frame: Frame) -> float:
    """Share of the pixels at the ends of an integer type's range; 0 for floats, without ends."""
    if frame.dtype.kind == "f":
        return 0.0
    limits = np.iinfo(frame.dtype)
    return float(np.mean((frame == limits.min) | (frame == limits.max)))
