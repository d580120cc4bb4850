"""Gaussians moved by fractions of a pixel, and what noise is left after them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dct

F32 = npt.NDArray[np.float32]

HIGH_PASS_PX = 63
NOISE_BLOCK_PX, NOISE_FIRST_HIGH, NOISE_BLOCKS = 16, 11, 600


def high_passed(picture: F32) -> F32:
    """A picture (y, x) less its local mean: neither shading nor brightness may correlate."""
    size = min(HIGH_PASS_PX, *picture.shape) | 1
    local = cv2.blur(picture, (size, size), borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.subtract(picture, local), np.float32)


def noise_sigma(picture: F32) -> float:
    """Standard deviation of white noise in grey levels, blind to structure of 2.1 px and more.

    Median absolute block DCT coefficient of the highest frequencies (Donoho and Johnstone
    1994), on at most a few hundred blocks. Compression that drops these makes it too small.
    """
    size = NOISE_BLOCK_PX
    rows, cols = picture.shape[0] // size, picture.shape[1] // size
    step = max(1, round(rows * cols / NOISE_BLOCKS))
    whole = picture[: rows * size, : cols * size].reshape(rows, size, cols, size)
    blocks = whole.transpose(0, 2, 1, 3).reshape(-1, size, size)[::step]
    basis = dct(np.eye(size), axis=0, norm="ortho").astype(np.float32)[NOISE_FIRST_HIGH:]
    return 1.4826 * float(np.median(np.abs(basis @ blocks @ basis.T)))


def noise_shares(narrow_px: float, wide_px: float) -> tuple[float, float, float]:
    """Variance white noise keeps after each of two Gaussians, and in what lies between them."""
    narrow, wide = gaussian(narrow_px), gaussian(wide_px)
    edge = (len(wide) - len(narrow)) // 2
    cross = float(narrow @ wide[edge:-edge]) ** 2
    one, two = float(narrow @ narrow) ** 2, float(wide @ wide) ** 2
    return one, two, one - 2 * cross + two


def reach_px(sigma_px: float) -> int:
    """Half length of the kernels of `gaussian`: it holds a shift of one pixel."""
    return int(np.ceil(4 * sigma_px)) + 1


def gaussian(sigma_px: float, shift_px: float = 0.0) -> F32:
    """Smooths by a Gaussian and reads at x - shift_px: a sampled Gaussian interpolates itself."""
    i = np.arange(-reach_px(sigma_px), reach_px(sigma_px) + 1)
    kernel = np.exp(-((i + shift_px) ** 2) / (2 * sigma_px**2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def gaussian_slope(sigma_px: float) -> F32:
    """The derivative after smoothing by a Gaussian."""
    i = np.arange(-reach_px(sigma_px), reach_px(sigma_px) + 1)
    kernel = np.exp(-(i**2) / (2 * sigma_px**2))
    return np.asarray(i / sigma_px**2 * kernel / kernel.sum(), np.float32)


def filtered(image: F32, along_x: F32, along_y: F32) -> F32:
    """The image correlated with one kernel along x and one along y, borders mirrored."""
    out = cv2.sepFilter2D(image, cv2.CV_32F, along_x, along_y, borderType=cv2.BORDER_REFLECT)
    return np.asarray(out, np.float32)
