"""The displacement between two frames, fast and to about a pixel: the tracker's kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from cemi_dask.frames.texture import F32, reduced

WORKING_WIDTH_PX = 512  # frames are averaged down to about this width before correlation
MIN_SHARE = 0.08  # smallest shared part of a frame that a match may rest on
CANDIDATES = 3
# Unrelated pictures reach about 5 standard deviations in the phase correlation (of 10^5
# places) and, where they hold structure, 15 in the normalised cross-correlation.
PEAK_SIGMAS = 5.5


@dataclass(frozen=True)
class Look:
    """A frame made ready for matching: high-passed, averaged by `factor`, and its spectrum."""

    small: F32
    spectrum: npt.NDArray[np.complex64]
    factor: int


@dataclass(frozen=True)
class Motion:
    """Displacement of the new frame against the reference in px of the full frame, and the
    normalised cross-correlation there (-1..1) on the shared part."""

    dx_px: float
    dy_px: float
    score: float


def reduction(shape: tuple[int, int]) -> int:
    """The factor by which frames of `shape` are averaged before they are matched."""
    return max(1, round(shape[1] / WORKING_WIDTH_PX))


def look_at(image: npt.NDArray[Any], *, factor: int, small: F32 | None = None) -> Look:
    """A frame made ready for matching (`small`: its `reduced` picture, where that exists)."""
    if small is None:
        small = reduced(image, factor)
    window_y, window_x = _taper(small.shape[0]), _taper(small.shape[1])
    padded = tuple(fft.next_fast_len(n, real=True) for n in small.shape)
    tapered = small * window_y[:, None] * window_x
    spectrum = fft.rfft2(tapered, s=padded, workers=1)
    return Look(small, spectrum.astype(np.complex64, copy=False), factor)


def measure_motion(
    reference: Look, new: Look, *, min_score: float, expected: tuple[float, float] | None = None
) -> Motion | None:
    """Displacement of `new` against `reference`; None where they share nothing measurable.

    Phase correlation (C. D. Kuglin, D. C. Hines, 1975) finds candidates; each, with the
    frame widths that the Fourier transform cannot tell apart, is judged by the normalised
    cross-correlation of the shared part. `expected` (dx, dy in full px) is one more
    candidate, so that a predicted place is found even where its peak is weak.
    """
    surface = _phase_correlation(reference.spectrum, new.spectrum, new.small.shape)
    deviation = float(surface.std())
    best: tuple[float, int, int] | None = None
    places = _candidates(surface, new.small.shape)
    if expected is not None:
        places.append((round(expected[1] / new.factor), round(expected[0] / new.factor)))
    for dy, dx in places:
        score, pixels = correlation_at(reference.small, new.small, dy, dx)
        peak = float(surface[dy % surface.shape[0], dx % surface.shape[1]])
        # Without a peak the correlation must stand for itself.
        sure = peak > PEAK_SIGMAS * deviation
        least = (min_score, 7.0) if sure else (3 * min_score, 20.0)
        if score < least[0] or score * np.sqrt(pixels) < least[1]:
            continue
        if best is None or score > best[0]:
            best = score, dy, dx
    if best is None:
        return None
    score, dy, dx = _climb(reference.small, new.small, best)
    fine_y, fine_x = _subpixel(reference.small, new.small, (score, dy, dx))
    return Motion((dx + fine_x) * new.factor, (dy + fine_y) * new.factor, score)


def correlation_at(first: F32, second: F32, dy: int, dx: int) -> tuple[float, int]:
    """(normalised cross-correlation, shared pixels) for second(p) = first(p + (dy, dx)).

    The correlation is -1 where the shared part is smaller than `MIN_SHARE` of the frame.
    """
    height, width = first.shape
    rows, cols = height - abs(dy), width - abs(dx)
    if rows <= 0 or cols <= 0 or rows * cols < MIN_SHARE * height * width:
        return -1.0, 0
    a = first[max(0, dy) : max(0, dy) + rows, max(0, dx) : max(0, dx) + cols]
    b = second[max(0, -dy) : max(0, -dy) + rows, max(0, -dx) : max(0, -dx) + cols]
    # Both pictures are high-passed, so their local means are zero.
    power = float(np.einsum("ij,ij->", a, a)) * float(np.einsum("ij,ij->", b, b))
    if power <= 0:
        return -1.0, 0
    return float(np.einsum("ij,ij->", a, b)) / float(np.sqrt(power)), rows * cols


@lru_cache(maxsize=16)
def _taper(length: int) -> F32:
    """A Tukey window with 12 % flanks: borders must not correlate, half-overlaps must."""
    flank = max(1, round(0.12 * length))
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(flank) + 0.5) / flank)
    window = np.ones(length, np.float32)
    window[:flank] = ramp
    window[-flank:] = ramp[::-1]
    window.setflags(write=False)
    return window


def _phase_correlation(
    reference: npt.NDArray[np.complex64],
    new: npt.NDArray[np.complex64],
    shape: tuple[int, ...],
) -> F32:
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    cross = reference * np.conj(new)
    cross /= np.abs(cross) + np.float32(1e-12)
    surface: F32 = fft.irfft2(cross, s=padded, workers=1)
    return surface


def _candidates(surface: F32, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(dy, dx) of the highest peaks, each with its aliases a frame width apart."""
    height, width = surface.shape
    found: list[tuple[int, int]] = []
    rest = surface.copy()
    for _ in range(CANDIDATES):
        at_y, at_x = divmod(int(rest.argmax()), width)
        for dy in (at_y, at_y - height):
            for dx in (at_x, at_x - width):
                if abs(dy) < shape[0] and abs(dx) < shape[1]:
                    found.append((dy, dx))
        ys = (np.arange(at_y - 2, at_y + 3)) % height
        xs = (np.arange(at_x - 2, at_x + 3)) % width
        rest[np.ix_(ys, xs)] = -np.inf
    return found


def _climb(first: F32, second: F32, start: tuple[float, int, int]) -> tuple[float, int, int]:
    """The best whole-pixel place next to `start` (a predicted place may be some px off)."""
    score, dy, dx = start
    for _ in range(8):
        around = [
            (correlation_at(first, second, dy + sy, dx + sx)[0], dy + sy, dx + sx)
            for sy, sx in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        best = max(around)
        if best[0] <= score:
            break
        score, dy, dx = best
    return score, dy, dx


def _subpixel(first: F32, second: F32, peak: tuple[float, int, int]) -> tuple[float, float]:
    """(dy, dx) of a parabola's vertex through the correlations beside a peak, within 0.5 px."""
    score, dy, dx = peak
    shifts = []
    for sy, sx in ((1, 0), (0, 1)):
        after = correlation_at(first, second, dy + sy, dx + sx)[0]
        before = correlation_at(first, second, dy - sy, dx - sx)[0]
        bend = before - 2 * score + after
        shifts.append(0.0 if bend >= 0 else float(np.clip((before - after) / bend / 2, -0.5, 0.5)))
    return shifts[0], shifts[1]
