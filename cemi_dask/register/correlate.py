"""Candidate displacements of two frames from their (partly whitened) cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from cemi_dask.geometry import Box
from cemi_dask.register.prepare import Image, LineEnds

Spectrum = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Search:
    """The displacements, in whole px and both ends included, among which a peak is sought."""

    x_min: int
    x_max: int
    y_min: int
    y_max: int

    @classmethod
    def around(cls, dx_px: float, dy_px: float, margin_px: float) -> Search:
        """All displacements within `margin_px` of an expected one."""
        m = int(np.ceil(margin_px))
        x, y = round(dx_px), round(dy_px)
        return cls(x - m, x + m, y - m, y + m)

    def within(self, shape: tuple[int, int], min_side_px: int = 8) -> Search:
        """Cut to displacements at which frames of `shape` still share `min_side_px`."""
        h, w = shape[0] - min_side_px, shape[1] - min_side_px
        clip = [
            int(np.clip(value, -limit, limit))
            for value, limit in zip(
                (self.x_min, self.x_max, self.y_min, self.y_max), (w, w, h, h), strict=True
            )
        ]
        return Search(*clip)

    def binned(self, factor: int) -> Search:
        """The same range in pixels of frames binned by `factor`."""
        low, high = -(-1 // factor), 1
        return Search(
            self.x_min // factor + low,
            -(-self.x_max // factor) + high,
            self.y_min // factor + low,
            -(-self.y_max // factor) + high,
        )


@dataclass(frozen=True)
class Correlation:
    """Correlation over a search range: `surface` (y, x) from displacement (x0, y0) on.

    `correlation_area_px` is the sum over all lags of the product of both crops'
    autocorrelations: unrelated frames with these spectra have a normalised cross-correlation
    of variance correlation_area_px / overlap_px (Bartlett 1935, in two dimensions).
    """

    surface: Image
    x0: int
    y0: int
    correlation_area_px: float


def taper(length: int, ramp: int) -> npt.NDArray[np.float32]:
    """A window of ones with Hann ramps at both ends: borders must not correlate."""
    ramp = max(1, min(ramp, length // 2))
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    window = np.ones(length)
    window[:ramp], window[-ramp:] = rise, rise[::-1]
    return np.asarray(window, np.float32)


def _crops(shape: tuple[int, int], search: Search) -> tuple[Box, Box]:
    """The parts of fixed and moving that can overlap at any displacement searched."""
    h, w = shape
    s = search
    fixed = Box(max(0, s.y_min), max(0, s.x_min), min(h, h + s.y_max), min(w, w + s.x_max))
    moving = Box(max(0, -s.y_max), max(0, -s.x_max), min(h, h - s.y_min), min(w, w - s.x_min))
    return fixed, moving


def _spectrum(image: Image, size: tuple[int, int]) -> Spectrum:
    """Spectrum of a crop, zero mean, tapered, zero-padded to `size`."""
    h, w = image.shape
    # A narrow overlap lies at the border of a wide crop: the ramp must stay short there.
    window_y, window_x = taper(h, min(h // 4, 32)), taper(w, min(w // 4, 32))
    windowed = (image - image.mean(dtype=np.float64).astype(np.float32)) * window_y[:, None]
    windowed *= window_x
    return np.asarray(scipy.fft.rfft2(windowed, size, workers=1), np.complex64)


def _lowpass(size: tuple[int, int], sigma_px: float) -> tuple[Image, Image]:
    """Separable transfer function of a Gaussian on the half spectrum of `size`."""
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    scale = -2 * (np.pi * sigma_px) ** 2
    return (
        np.exp(scale * fy**2).astype(np.float32),
        np.exp(scale * fx**2).astype(np.float32),
    )


def correlate(
    fixed: Image, moving: Image, search: Search, *, whitening: float, smooth_px: float = 0.7
) -> Correlation:
    """Cross-correlation of two (y, x) frames of one shape at the displacements of `search`.

    The cross spectrum is divided by its modulus to the power `whitening` (1: phase
    correlation, Kuglin and Hines 1975) and smoothed by a Gaussian of `smooth_px`, because
    whitening raises the noise of frequencies that carry no signal.
    """
    box_f, box_m = _crops((fixed.shape[0], fixed.shape[1]), search)
    shift_x, shift_y = box_f.x0 - box_m.x0, box_f.y0 - box_m.y0
    lag_x = (search.x_min - shift_x, search.x_max - shift_x)
    lag_y = (search.y_min - shift_y, search.y_max - shift_y)
    # Long enough that no displacement searched is mixed with another one period away.
    need_y = max(lag_y[1] + box_m.shape[0], box_f.shape[0] - lag_y[0])
    need_x = max(lag_x[1] + box_m.shape[1], box_f.shape[1] - lag_x[0])
    size = (scipy.fft.next_fast_len(need_y, True), scipy.fft.next_fast_len(need_x, True))
    f = _spectrum(fixed[box_f.slices], size)
    m = _spectrum(moving[box_m.slices], size)
    low_y, low_x = _lowpass(size, smooth_px)
    area = _correlation_area(f, m, low_y * low_x)
    cross = f * np.conj(m)
    if whitening:
        modulus = np.abs(cross)
        floor = np.float32(1e-6) * modulus.max(initial=np.float32(1e-12))
        cross /= np.maximum(modulus, floor) ** np.float32(whitening)
    cross *= low_y
    cross *= low_x
    full = scipy.fft.irfft2(cross, size, workers=1, overwrite_x=True)
    rows = np.arange(lag_y[0], lag_y[1] + 1) % size[0]
    cols = np.arange(lag_x[0], lag_x[1] + 1) % size[1]
    surface = np.ascontiguousarray(full[np.ix_(rows, cols)], np.float32)
    return Correlation(surface, search.x_min, search.y_min, area)


def _correlation_area(f: Spectrum, m: Spectrum, low: Image) -> float:
    """Sum over lags of the product of two autocorrelations, from spectra (Parseval)."""
    weight = low * low
    power_f = (f.real**2 + f.imag**2) * weight
    power_m = (m.real**2 + m.imag**2) * weight
    total = float(power_f.sum(dtype=np.float64)) * float(power_m.sum(dtype=np.float64))
    if total <= 0:
        return float("inf")
    both = float(np.einsum("ij,ij->i", power_f, power_m).sum(dtype=np.float64))
    return max(1.0, both * power_f.size / total)


def overlap_correlation_area(
    fixed: Image, moving: Image, dx: int, dy: int, *, smooth_px: float = 0.7
) -> float:
    """The correlation area px (see `Correlation`) of the overlap alone; inf where it is flat."""
    box_f, box_m = overlap_boxes((fixed.shape[0], fixed.shape[1]), dx, dy)
    if box_f.empty:
        return float("inf")
    h, w = box_f.shape
    size = (scipy.fft.next_fast_len(h, True), scipy.fft.next_fast_len(w, True))
    low_y, low_x = _lowpass(size, smooth_px)
    f = _spectrum(fixed[box_f.slices], size)
    m = _spectrum(moving[box_m.slices], size)
    return _correlation_area(f, m, low_y * low_x)


def find_peaks(
    surface: Image, count: int, *, radius_px: int = 2
) -> list[tuple[float, float, float]]:
    """The `count` highest local maxima as (x, y, height), subpixel by a parabola, best first."""
    work = surface.copy()
    w = work.shape[1]
    found: list[tuple[float, float, float]] = []
    for _ in range(4 * count):
        y, x = divmod(int(work.argmax()), w)
        if not np.isfinite(work[y, x]) or len(found) == count:
            break
        around = surface[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        # The slope of a suppressed neighbour is no peak of its own.
        if surface[y, x] >= around.max():
            found.append((*parabola_vertex(surface, x, y), float(surface[y, x])))
        work[
            max(0, y - radius_px) : y + radius_px + 1, max(0, x - radius_px) : x + radius_px + 1
        ] = -np.inf
    return found


def parabola_vertex(surface: Image, x: int, y: int) -> tuple[float, float]:
    """(x, y) of the vertex of the parabolas through a maximum and its neighbours."""
    h, w = surface.shape
    vertex = [float(x), float(y)]
    if 0 < x < w - 1:
        vertex[0] += _vertex(surface[y, x - 1 : x + 2])
    if 0 < y < h - 1:
        vertex[1] += _vertex(surface[y - 1 : y + 2, x])
    return vertex[0], vertex[1]


def _vertex(three: Image) -> float:
    left, mid, right = (float(v) for v in three)
    bend = left - 2 * mid + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def overlap_boxes(shape: tuple[int, int], dx: int, dy: int, inset_px: int = 0) -> tuple[Box, Box]:
    """The overlap at a whole-px displacement, in pixels of fixed and of moving."""
    h, w = shape
    fixed = Box(max(0, dy), max(0, dx), min(h, h + dy), min(w, w + dx)).expand(-inset_px)
    return fixed, fixed.shift(-dy, -dx)


def lines_mask(
    fixed: tuple[Box, LineEnds], moving: tuple[Box, LineEnds], inset_px: int = 0
) -> Image:
    """1.0 where both frames' lines hold pixels, 0.0 elsewhere, over an overlap (y, x).

    Each frame comes as its box of the overlap and the ends of its lines, which are shortened
    by `inset_px`.
    """
    first, last = (
        pick(
            [ends[k, box.y0 : box.y1] + inset - box.x0 for box, ends in (fixed, moving)],
            axis=0,
        )[:, None]
        for k, pick, inset in ((0, np.max, inset_px), (1, np.min, -inset_px))
    )
    columns = np.arange(fixed[0].shape[1])
    return np.asarray((columns >= first) & (columns < last), np.float32)


def overlap_score(
    fixed: Image,
    moving: Image,
    dx: float,
    dy: float,
    *,
    ends: tuple[LineEnds, LineEnds] | None = None,
) -> tuple[float, int]:
    """Normalised cross-correlation (-1..1) on the true overlap, and the overlap's pixels.

    Fractions of a pixel are interpolated linearly: lamellae of 2.7 px that are half a pixel off
    hardly correlate. `ends` are those of the lines of rectified frames, which do not fill their
    arrays. 0 where the overlap is empty or one side is flat.
    """
    x, y = round(dx), round(dy)
    box_f, box_m = overlap_boxes((fixed.shape[0], fixed.shape[1]), x, y)
    if box_f.empty:
        return 0.0, 0
    a, b = fixed[box_f.slices], _shifted(moving, box_m, dx - x, dy - y)
    n = a.size
    if ends is not None:
        mask = lines_mask((box_f, ends[0]), (box_m, ends[1]))
        a, b, n = a * mask, b * mask, int(mask.sum(dtype=np.float64))
        if not n:
            return 0.0, 0
    mean_a, mean_b = row_sum(a) / n, row_sum(b) / n
    var_a = row_dot(a, a) / n - mean_a**2
    var_b = row_dot(b, b) / n - mean_b**2
    if var_a <= 1e-12 or var_b <= 1e-12:
        return 0.0, n
    return float((row_dot(a, b) / n - mean_a * mean_b) / np.sqrt(var_a * var_b)), n


def _shifted(image: Image, box: Box, rest_x: float, rest_y: float) -> Image:
    """What lies in `box` once the image (y, x) has moved by fractions of a px; borders repeat."""
    if rest_x == 0 and rest_y == 0:
        return image[box.slices]
    h, w = box.shape
    centre = box.x0 + (w - 1) / 2 - rest_x, box.y0 + (h - 1) / 2 - rest_y
    return np.asarray(cv2.getRectSubPix(image, (w, h), centre))


def row_sum(a: Image) -> float:
    """Sum of pixels; rows in float32, their sum in float64 (precise and fast)."""
    return float(np.einsum("ij->i", a).sum(dtype=np.float64))


def row_dot(a: Image, b: Image) -> float:
    """Sum of products; rows in float32, their sum in float64 (precise and fast)."""
    return float(np.einsum("ij,ij->i", a, b).sum(dtype=np.float64))
