"""Is there anything in a frame? Blank, saturated, sharp: kernels on single grey pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.frames.options import SelectionOptions

F32 = npt.NDArray[np.float32]

SHARPNESS_STEP = 4
HIGH_PASS_PX = 31  # on the reduced picture: removes vignetting and slow shading


def reduced(image: npt.NDArray[Any], factor: int) -> F32:
    """The picture averaged over `factor` x `factor` px, float32, less its local mean.

    Shading slower than about 31 reduced px is gone, so that neither vignetting nor a
    brightness step between frames looks like texture.
    """
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    size = width // factor, height // factor
    trimmed = image[:height, :width]
    small = cv2.resize(trimmed, size, interpolation=cv2.INTER_AREA) if factor > 1 else trimmed
    size = HIGH_PASS_PX, HIGH_PASS_PX
    local = cv2.boxFilter(small, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.subtract(small, local, dtype=cv2.CV_32F), np.float32)


def structure(small: F32) -> tuple[float, float]:
    """(contrast, correlation) of a high-passed picture.

    contrast: standard deviation in grey levels. correlation: the largest magnitude of the
    autocorrelation at lags 1 to 3 px along x and y. White noise of any strength has none
    (standard error 1/sqrt(number of pixels)); specimen structure, blurred by the
    microscope, has. The mean of each line is taken off first, because SEM noise from line to
    line correlates along x.
    """
    lines = small - cv2.reduce(small, 1, cv2.REDUCE_AVG)
    power = float(np.vdot(lines, lines))
    if power <= 0:
        return 0.0, 0.0
    best = 0.0
    for lag in (1, 2, 3):
        along_x = float(np.einsum("ij,ij->", lines[:, lag:], lines[:, :-lag]))
        along_y = float(np.vdot(lines[lag:], lines[:-lag]))
        best = max(best, abs(along_x) / power, abs(along_y) / power)
    return float(np.sqrt(power / lines.size)), best


def refusal(image: npt.NDArray[Any], small: F32, options: SelectionOptions) -> str:
    """Why a picture is unfit for stitching, "blank" or "saturated", or "" where it is fit.

    `small` is the `reduced` picture. Weak structure counts in 8-bit pictures only: deeper
    ones may use any part of their range.
    """
    contrast, correlation = structure(small)
    weak = contrast * np.sqrt(correlation) < options.blank_contrast
    blank = correlation < options.blank_correlation or (weak and image.dtype == np.uint8)
    if saturation(image) > options.saturated_fraction:
        return "saturated"
    return "blank" if blank or contrast == 0 else ""


def saturation(image: npt.NDArray[Any]) -> float:
    """Fraction of pixels (every second line) at the top grey level; 0 for float."""
    if image.dtype.kind == "f":
        return 0.0
    sample = image[::2]
    return float(np.count_nonzero(sample >= np.iinfo(image.dtype).max)) / sample.size


def sharpness(image: npt.NDArray[Any]) -> float:
    """Vollath's F4 of a picture: fine structure in grey levels squared, blind to white noise.

    mean g(x) g(x+1) - mean g(x) g(x+2), averaged over x and y (D. Vollath, J. Microscopy
    147 (1987) 279); noise that does not correlate from pixel to pixel cancels, where the
    variance of the Laplacian would measure little else. From every fourth line and column.
    """
    total = 0.0
    for axis, part in ((1, image[::SHARPNESS_STEP]), (0, image[:, ::SHARPNESS_STEP])):
        picture = part.astype(np.float32)
        picture -= np.float32(cv2.mean(picture)[0])
        here, near, far = (
            picture[n : n - 2 or None] if axis == 0 else picture[:, n : n - 2 or None]
            for n in range(3)
        )
        total += float(np.einsum("ij,ij->", here, near - far)) / max(1, here.size)
    return total / 2
