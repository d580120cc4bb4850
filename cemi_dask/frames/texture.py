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
    level = np.asarray(small, np.float32)
    local = cv2.blur(level, (HIGH_PASS_PX, HIGH_PASS_PX), borderType=cv2.BORDER_REFLECT)
    return np.subtract(level, local, dtype=np.float32)


def structure(small: F32) -> tuple[float, float]:
    """(contrast, correlation) of a high-passed picture.

    contrast: standard deviation in grey levels. correlation: the largest magnitude of the
    autocorrelation at lags 1 to 3 px along x and y. White noise of any strength has none
    (standard error 1/sqrt(number of pixels)); specimen structure, blurred by the
    microscope, has. The mean of each line is taken off first, because SEM noise from line to
    line correlates along x.
    """
    lines = small - small.mean(axis=1, keepdims=True, dtype=np.float32)
    power = float(np.vdot(lines, lines))
    if power <= 0:
        return 0.0, 0.0
    best = 0.0
    for lag in (1, 2, 3):
        along_x = float(np.einsum("ij,ij->", lines[:, lag:], lines[:, :-lag]))
        along_y = float(np.einsum("ij,ij->", lines[lag:], lines[:-lag]))
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
    """Fraction of pixels (every second line and column) at the top grey level; 0 for float."""
    if image.dtype.kind == "f":
        return 0.0
    sample = image[::2, ::2]
    return float(np.count_nonzero(sample >= np.iinfo(image.dtype).max)) / sample.size


def sharpness(image: npt.NDArray[Any]) -> float:
    """Vollath's F4 of a picture: fine structure in grey levels squared, blind to white noise.

    mean g(x) g(x+1) - mean g(x) g(x+2), averaged over x and y (D. Vollath, J. Microscopy
    147 (1987) 279); noise that does not correlate from pixel to pixel cancels, where the
    variance of the Laplacian would measure little else. From every fourth line and column.
    """
    total = 0.0
    for part in (image[::SHARPNESS_STEP], image[:, ::SHARPNESS_STEP].T):
        picture = part.astype(np.float32)
        picture -= picture.mean(dtype=np.float64).astype(np.float32)
        near = np.einsum("ij,ij->", picture[:, :-2], picture[:, 1:-1])
        far = np.einsum("ij,ij->", picture[:, :-2], picture[:, 2:])
        total += float(near - far) / max(1, picture[:, :-2].size)
    return total / 2
