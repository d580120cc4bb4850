"""What is computed once per frame before it is paired: detail without shading, and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.geometry import line_offsets
from cemi_dask.resample import gaussian_kernel, gaussian_slope, separable, shift_rows

Image = npt.NDArray[np.float32]

# First column of each line of a rectified frame that holds recorded pixels, and the column
# after its last: (2, h).
LineEnds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gradients:
    """A smoothed frame and its derivatives along x and y, (y, x) float32."""

    value: Image
    along_x: Image
    along_y: Image


@dataclass
class Prepared:
    """A frame (y, x) of any dtype made ready for matching; derived arrays are kept.

    `highpass_px` is the box over which shading is averaged away, `smooth_px` the Gaussian
    sigma used for refinement. A frame with `shear` (px in x per px in y, see `Layout`) is
    rectified: its lines are moved to where they belong, so that displacements are those of
    middle lines; under 0.05 px over the frame's height nothing is moved. Raises InputError
    for a frame that is not a finite picture.
    """

    raw: npt.NDArray[Any]
    highpass_px: int
    smooth_px: float
    shear: float = 0.0

    def __post_init__(self) -> None:
        if self.raw.ndim != 2:
            raise InputError(f"A frame must be (y, x), not of shape {self.raw.shape}.")
        if self.raw.dtype.kind == "f" and not np.isfinite(self.raw).all():
            raise InputError("A frame holds NaN or infinite pixels: repair or leave it out.")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px."""
        return int(self.raw.shape[0]), int(self.raw.shape[1])

    @cached_property
    def offsets_px(self) -> npt.NDArray[np.float64] | None:
        """How far each line (h) is moved right; None for a frame without shear."""
        return line_offsets(self.shear, self.shape[0])

    def line_ends(self, factor: int = 1) -> LineEnds:
        """Where the lines of `binned(factor)` begin and end, once they are moved."""
        height, width = self.shape
        ends = np.zeros((2, height), np.int64)
        ends[1] = width
        if self.offsets_px is not None:
            ends = np.clip(ends + np.floor(self.offsets_px + 0.5).astype(np.int64), 0, width)
        if factor == 1:
            return ends
        lines = ends[:, : height // factor * factor].reshape(2, -1, factor)
        return np.stack([-(-lines[0].max(axis=1) // factor), lines[1].min(axis=1) // factor])

    @cached_property
    def detail(self) -> Image:
        """The frame minus its local mean: shading must not correlate. 0 beside moved lines."""
        if self.offsets_px is None:
            return self._recorded_detail
        return shift_rows(self._recorded_detail, self.offsets_px, fill=0.0)

    @cached_property
    def _recorded_detail(self) -> Image:
        """`detail` as it was recorded, no line moved."""
        image = self.raw.astype(np.float32)
        size = min(self.highpass_px, *self.shape) | 1
        # Sums of whole numbers take half the time.
        source = self.raw if self.raw.dtype in (np.uint8, np.uint16) else image
        local = cv2.boxFilter(source, cv2.CV_32F, (size, size), borderType=cv2.BORDER_REFLECT)
        return np.asarray(image - local, np.float32)

    @cached_property
    def placed(self) -> npt.NDArray[Any]:
        """`raw` with its lines moved by whole px, 0 beside them: grey levels keep their noise."""
        if self.offsets_px is None:
            return self.raw
        width = self.shape[1]
        whole = np.floor(self.offsets_px + 0.5).astype(np.int64)
        out = np.zeros_like(self.raw)
        for rows in np.split(np.arange(len(whole)), np.flatnonzero(np.diff(whole)) + 1):
            lines, move = slice(int(rows[0]), int(rows[-1]) + 1), int(whole[rows[0]])
            first, last = max(0, move), min(width, width + move)
            if first < last:
                out[lines, first:last] = self.raw[lines, first - move : last - move]
        return out

    def binned(self, factor: int) -> Image:
        """`detail` averaged over factor x factor px (rest rows and columns cut)."""
        if factor == 1:
            return self.detail
        return self._binned2 if factor == 2 else _bin(self.detail, factor)

    @cached_property
    def _binned2(self) -> Image:
        return _bin(self.detail, 2)

    @cached_property
    def gradients(self) -> Gradients:
        """`detail` smoothed by the Gaussian, and its exact derivatives."""
        smooth = gaussian_kernel(self.smooth_px, 0.0)
        slope = gaussian_slope(self.smooth_px)
        return Gradients(
            separable(self.detail, smooth, smooth),
            separable(self.detail, slope, smooth),
            separable(self.detail, smooth, slope),
        )

    def forget_gradients(self) -> None:
        """Free the gradients' memory; they come back when asked for."""
        self.__dict__.pop("gradients", None)

    @cached_property
    def texture(self) -> float:
        """Standard deviation of what is structure, over that of noise, both after smoothing.

        White noise of unknown strength is estimated; 0 means a flat or a purely noisy frame.
        """
        s = 1.5
        # Binned by 2 first: a quarter of the pixels say the same after that smoothing.
        halved = self._binned2 if self.offsets_px is None else _bin(self._recorded_detail, 2)
        variance = float(np.var(cv2.GaussianBlur(halved, (0, 0), s / 2)))
        share = self.noise_variance(s)
        return float(np.sqrt(max(0.0, variance - share) / share))

    def noise_variance(self, smooth_px: float) -> float:
        """Variance of white noise after smoothing by a Gaussian s: sigma^2 / (4 pi s^2)."""
        return max(self._noise**2, 1e-6) / (4 * np.pi * smooth_px**2)

    @cached_property
    def _noise(self) -> float:
        # Moving lines by fractions of a px would take noise away just where it is measured.
        return white_noise(self._recorded_detail)


def white_noise(picture: Image) -> float:
    """Standard deviation of white noise in a picture (y, x), from second differences.

    Immerkaer 1996, with the median over blocks of 3 x 3 px in place of the mean. Of a large
    picture every so many rows of blocks are taken that 20 000 remain, which tell it to 1 %.
    """
    h, w = picture.shape[0] // 3 * 3, picture.shape[1] // 3 * 3
    every = 3 * max(1, h * w // 9 // 20_000)
    down = picture[0:h:every] - 2 * picture[1:h:every] + picture[2:h:every]
    bends = np.abs(down[:, 0:w:3] - 2 * down[:, 1:w:3] + down[:, 2:w:3])
    return float(np.median(bends)) / 0.6745 / 6


def _bin(image: Image, factor: int) -> Image:
    h, w = image.shape[0] // factor, image.shape[1] // factor
    cut = image[: h * factor, : w * factor]
    return np.asarray(cv2.resize(cut, (w, h), interpolation=cv2.INTER_AREA), np.float32)
