"""Subpixel shifts of frames and of single rows with exact phase, and smoothing that interpolates.

cv2.warpAffine and cv2.remap quantise positions to 1/32 px, which is more than the positions'
own error; a filter whose taps are computed for the wanted fraction does not.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# Half the filter's length: pixels nearer than this to a frame's border are made partly of
# mirrored pixels, so another frame is preferred there.
MARGIN_PX = 8

# The filter is fitted for all frequencies below this (cycles/px): periods of 2.5 px and more.
# A wider band would ring more at edges; lamellae are 2.7 px and wider.
BAND_CYCLES_PER_PX = 0.40


def _band_integral(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integral of cos(2 pi f t) over |f| < BAND."""
    width = 2 * BAND_CYCLES_PER_PX
    return width * np.sinc(width * t)


@functools.cache
def _normal_inverse() -> npt.NDArray[np.float64]:
    """Inverse of the normal matrix of the least-squares problem in `shift_taps`."""
    offsets = np.arange(1 - MARGIN_PX, MARGIN_PX + 1, dtype=np.float64)
    normal = _band_integral(offsets[:, None] - offsets[None, :])
    return np.asarray(np.linalg.inv(normal), dtype=np.float64)


def shift_taps(fraction: float) -> npt.NDArray[np.float64]:
    """17 taps that read a signal `fraction` px right of each sample, -0.5 <= fraction <= 0.5.

    Tap k weighs the sample at offset k - 8. They minimise the squared error of the frequency
    response against exp(2 pi i f fraction), integrated over |f| < 0.40 cycles/px, with unit
    gain at f = 0 (general least-squares fractional delay: Laakso et al., IEEE Signal Process.
    Mag. 13 (1996) 30, eqs. 38-44). Sixteen taps are used, symmetric about the half-way point;
    the one on the far side is zero. fraction 0 gives the unit impulse.
    """
    if not -0.5 <= fraction <= 0.5:
        raise ValueError(f"fraction must lie in -0.5..0.5 px, not {fraction}.")
    offsets = np.arange(1 - MARGIN_PX, MARGIN_PX + 1, dtype=np.float64)
    inverse = _normal_inverse()
    free = inverse @ _band_integral(offsets - abs(fraction))
    flat = inverse.sum(axis=1)
    taps = np.zeros(2 * MARGIN_PX + 1)
    taps[1:] = free + flat * (1 - free.sum()) / flat.sum()  # Lagrange multiplier: taps sum to 1
    return taps if fraction >= 0 else taps[::-1].copy()


def shift_frame(
    plane: npt.NDArray[Any],
    right_px: float,
    down_px: float,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
) -> Float32:
    """A frame moved right and down by at most half a pixel, as float32 (h, w).

    The result is ``gain * moved + offset``. Borders are mirrored about the outermost pixel.
    The whole frame is filtered whatever part is wanted, so that a pixel's value never
    depends on the box that asks for it.
    """
    source = np.ascontiguousarray(plane, dtype=np.float32)
    if right_px == 0 and down_px == 0:
        return source * np.float32(gain) + np.float32(offset)
    # Moving the picture right means reading it to the left.
    taps_x = (gain * shift_taps(-right_px)).astype(np.float32)
    taps_y = shift_taps(-down_px).astype(np.float32)
    moved = cv2.sepFilter2D(
        source, cv2.CV_32F, taps_x, taps_y, delta=float(offset), borderType=cv2.BORDER_REFLECT_101
    )
    return np.asarray(moved, dtype=np.float32)


def border_distance_px(at_px: npt.NDArray[Any], length: int) -> Float32:
    """Distance in px of places of a line of `length` px from its nearer end, less the margin.

    `at_px` are pixel coordinates: 0 is the centre of the first pixel. Zero or negative within
    the margin where the shift filter saw mirrored pixels, and outside of the line.
    """
    centre = at_px.astype(np.float32) + np.float32(0.5)
    nearer: Float32 = np.minimum(centre, np.float32(length) - centre) - np.float32(MARGIN_PX)
    return nearer


def shift_rows(
    plane: npt.NDArray[Any], right_px: npt.NDArray[np.float64], *, fill: float = np.nan
) -> Float32:
    """A frame (h, w) whose row y is moved right by ``right_px[y]`` px (any distance), float32.

    Undoes, or makes, the shear of a frame that was scanned while the stage moved. Rows are
    filtered with `shift_taps`, borders mirrored about the outermost pixel; pixels whose place
    lies outside the frame become `fill`.
    """
    height, width = plane.shape
    whole = np.floor(right_px + 0.5).astype(np.int64)
    taps = _row_taps(-(right_px - whole))
    source = np.ascontiguousarray(plane, dtype=np.float32)
    moved = np.full((height, width), fill, np.float32)
    for y in range(height):
        first, last = max(0, int(whole[y])), min(width, width + int(whole[y]))
        if first >= last:
            continue
        row = source[y : y + 1]
        if right_px[y] != whole[y]:
            row = np.asarray(
                cv2.filter2D(row, cv2.CV_32F, taps[y : y + 1], borderType=cv2.BORDER_REFLECT_101),
                np.float32,
            )
        moved[y, first:last] = row[0, first - whole[y] : last - whole[y]]
    return moved


def resample_rows(plane: npt.NDArray[Any], x_px: npt.NDArray[np.float64]) -> Float32:
    """Row y of a frame (h, w) read at the places ``x_px[y]`` (h, k), as float32 (h, k).

    The filter is that of `shift_taps`, its fraction rounded to 1/2048 px. Borders are mirrored
    about the outermost pixel; places outside the frame become NaN. Columns are read by handing
    over, and taking back, the transpose.
    """
    height, width = plane.shape
    taps = _tap_table()
    inside = (x_px >= 0) & (x_px <= width - 1)
    x = np.where(inside, x_px, 0.0)
    whole = np.rint(x)
    phase = np.rint((x - whole + 0.5) * _PHASES).astype(np.int32)
    source = np.pad(np.asarray(plane, np.float32), ((0, 0), (MARGIN_PX, MARGIN_PX)), mode="reflect")
    start = np.arange(height, dtype=np.int32)[:, None] * source.shape[1]
    first = whole.astype(np.int32) + start
    flat = source.ravel()
    out = np.zeros(x_px.shape, np.float32)
    for k in range(2 * MARGIN_PX + 1):
        out += taps[k].take(phase) * flat.take(first + k)
    out[~inside] = np.nan
    return out


def resample(
    plane: npt.NDArray[Any], along_x: npt.NDArray[np.float64], along_y: npt.NDArray[np.float64]
) -> Float32:
    """A frame (H, W) read at curved places, in two passes (Catmull and Smith 1980): (h, w).

    Row r of the frame is read at the columns ``along_x[r]`` (H, w), and column c of what comes
    out at the rows ``along_y[:, c]`` (h, w). Places outside are those mirrored at the border.
    """
    lines = _read_rows(plane, along_x)
    return np.ascontiguousarray(_read_rows(lines.T, along_y.T).T)


def _read_rows(plane: npt.NDArray[Any], x_px: npt.NDArray[np.float64]) -> Float32:
    """`resample_rows` at mirrored places, some rows at a time: their arrays fit into the cache."""
    last = plane.shape[1] - 1
    out = np.empty(x_px.shape, np.float32)
    for start in range(0, len(x_px), _STRIP):
        rows = slice(start, start + _STRIP)
        mirrored = np.clip(last - np.abs(last - np.abs(x_px[rows])), 0, last)
        out[rows] = resample_rows(plane[rows], mirrored)
    return out


_STRIP = 32
_PHASES = 2048


@functools.cache
def _tap_table() -> npt.NDArray[np.float32]:
    """Taps (17, 2049) of the fractions -0.5..0.5 px in steps of 1/2048."""
    return np.ascontiguousarray(_row_taps(np.linspace(-0.5, 0.5, _PHASES + 1)).T)


def _row_taps(fractions: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """`shift_taps` of many fractions (n,) as one array (n, 17)."""
    offsets = np.arange(1 - MARGIN_PX, MARGIN_PX + 1, dtype=np.float64)
    inverse = _normal_inverse()
    free = _band_integral(offsets - np.abs(fractions)[:, None]) @ inverse  # symmetric
    flat = inverse.sum(axis=1)
    taps = np.zeros((len(fractions), 2 * MARGIN_PX + 1))
    taps[:, 1:] = free + flat * (1 - free.sum(axis=1, keepdims=True)) / flat.sum()
    return np.where(fractions[:, None] >= 0, taps, taps[:, ::-1]).astype(np.float32)


def reach_px(sigma_px: float) -> int:
    """Half length of the kernels of `gaussian_kernel`: it holds a shift of one pixel."""
    return int(np.ceil(4 * sigma_px)) + 1


def gaussian_kernel(sigma_px: float, shift_px: float = 0.0, *, reach: int | None = None) -> Float32:
    """Correlation kernel (2 reach + 1) that smooths by a Gaussian and reads at x - shift_px.

    A sampled Gaussian is its own interpolator: at a frequency f (cycles/px) the error is
    exp(-2 pi^2 sigma^2 (1 - 2 f)) of the value, 1e-4 at a period of 4 px and sigma 1.
    `reach` defaults to `reach_px`.
    """
    end = reach_px(sigma_px) if reach is None else reach
    i = np.arange(-end, end + 1)
    kernel = np.exp(-((i + shift_px) ** 2) / (2 * sigma_px**2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def gaussian_slope(sigma_px: float, *, reach: int | None = None) -> Float32:
    """Correlation kernel that gives the derivative after smoothing by a Gaussian."""
    end = reach_px(sigma_px) if reach is None else reach
    i = np.arange(-end, end + 1)
    kernel = np.exp(-(i**2) / (2 * sigma_px**2))
    return np.asarray(i / sigma_px**2 * kernel / kernel.sum(), np.float32)


def separable(image: Float32, along_x: npt.NDArray[Any], along_y: npt.NDArray[Any]) -> Float32:
    """The image correlated with one kernel along x and one along y, borders mirrored."""
    out = cv2.sepFilter2D(image, cv2.CV_32F, along_x, along_y, borderType=cv2.BORDER_REFLECT)
    return np.asarray(out, np.float32)
