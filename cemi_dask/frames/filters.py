"""High-passed pictures, their noise, and what Gaussians leave of it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from cemi_dask.resample import gaussian_kernel

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
    narrow, wide = gaussian_kernel(narrow_px), gaussian_kernel(wide_px)
    edge = (len(wide) - len(narrow)) // 2
    cross = float(narrow @ wide[edge:-edge]) ** 2
    one, two = float(narrow @ narrow) ** 2, float(wide @ wide) ** 2
    return one, two, one - 2 * cross + two
