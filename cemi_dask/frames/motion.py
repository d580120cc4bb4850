"""The displacement between two frames, fast and to about a pixel: the tracker's kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
PEAK_SIGMAS = 6.0
PEAK_SIGMA_PX = 0.5
PEAK_REACH_PX = 1.2  # reduced px by which a refined place may miss the highest sample
MIDDLE = 0.25  # of the lines, looked at first
CLEAR_SIGMAS, CLEAR = 10.0, 1.5  # height of a peak of theirs, also in that of the next, to go by


@dataclass(frozen=True)
class Slopes:
    """A picture smoothed, and its derivatives along x and y, (y, x) float32."""

    value: F32
    along_x: F32
    along_y: F32


class Look:
    """A frame made ready for matching: `small` is high-passed and averaged by `factor`.

    Its middle lines, spectrum and slopes are computed when they are first asked for.
    """

    def __init__(self, small: F32, factor: int) -> None:
        self.small = small
        self.factor = factor
        self._slopes: Slopes | None = None

    @cached_property
    def middle(self) -> Look:
        """The middle lines of the picture alone."""
        lines = self.small.shape[0]
        kept = max(1, round(MIDDLE * lines))
        top = (lines - kept) // 2
        return Look(self.small[top : top + kept], self.factor)

    @cached_property
    def spectrum(self) -> npt.NDArray[np.complex64]:
        """Spectrum of the picture, tapered and padded to a size that is fast to transform."""
        window_y, window_x = (_taper(n) for n in self.small.shape)
        tapered = self.small * window_y[:, None] * window_x
        spectrum = fft.rfft2(tapered, s=_padded(tapered.shape), workers=1)
        return np.asarray(spectrum, np.complex64)

    def slopes(self, make: Callable[[F32], Slopes]) -> Slopes:
        """The slopes that `make` gives for the picture, made once."""
        if self._slopes is None:
            self._slopes = make(self.small)
        return self._slopes


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
    return Look(reduced(image, factor) if small is None else small, factor)


def measure_motion(
    reference: Look, new: Look, *, min_score: float, expected: tuple[float, float] | None = None
) -> Motion | None:
    """Displacement of `new` against `reference`; None where they share nothing measurable.

    Phase correlation (C. D. Kuglin, D. C. Hines, 1975) finds candidates, highest first; each,
    with the frame widths that the Fourier transform cannot tell apart, is judged by the
    normalised cross-correlation of the shared part. The order matters: in lamellae the
    cross-correlation is as high a period away, the phase correlation is not. Mostly the
    middle lines tell it at a quarter of the cost: a clear peak of theirs is taken where whole
    pictures correlate without doubt. `expected` (dx, dy in full px) is a last candidate, for a
    predicted place whose peak is weak.
    """
    clear = _clear_peak(reference, new)
    if clear is not None:
        shape = _padded(new.middle.small.shape)
        score, pixels, dy, dx = _best_alias(reference.small, new.small, clear, shape)
        if _accepted(score, pixels, min_score, False):
            return Motion(dx * new.factor, dy * new.factor, score)
    surface = _phase_correlation(reference.spectrum, new.spectrum, new.small.shape)
    deviation = float(surface.std())
    # Without a peak the correlation must stand for itself.
    for peak, fine_y, fine_x in _peaks(surface):
        score, pixels, dy, dx = _best_alias(
            reference.small, new.small, (fine_y, fine_x), surface.shape
        )
        sure = peak > PEAK_SIGMAS * deviation
        if _accepted(score, pixels, min_score, sure):
            return Motion(dx * new.factor, dy * new.factor, score)
    if expected is None:
        return None
    start = round(expected[1] / new.factor), round(expected[0] / new.factor)
    score, dy, dx = _climb(reference.small, new.small, start)
    pixels = correlation_at(reference.small, new.small, int(dy), int(dx))[1]
    if _accepted(score, pixels, min_score, False):
        return Motion(dx * new.factor, dy * new.factor, score)
    return None


def peak_height(reference: Look, new: Look) -> float:
    """Height of the highest peak of the phase correlation, in its standard deviations."""
    surface = _phase_correlation(reference.spectrum, new.spectrum, new.small.shape)
    return float(surface.max() / max(float(surface.std()), 1e-12))


def peaks_at(reference: Look, new: Look, place: tuple[float, float]) -> bool:
    """Whether the highest peak of the phase correlation is at a displacement (dx, dy full px).

    Lamellae match nearly as well one period away, but their phase correlation does not. A clear
    peak of the middle lines there will do.
    """
    clear = _clear_peak(reference, new)
    if clear is not None and _meets(clear, place, new.middle):
        return True
    surface = _phase_correlation(reference.spectrum, new.spectrum, new.small.shape)
    return _meets(divmod(int(surface.argmax()), surface.shape[1]), place, new)


def _clear_peak(reference: Look, new: Look) -> tuple[float, float] | None:
    """(y, x) of the highest peak for the middle lines alone; None where others come near it."""
    first, second = reference.middle, new.middle
    surface = _phase_correlation(first.spectrum, second.spectrum, second.small.shape)
    (peak, y, x), (next_peak, _, _) = _peaks(surface, 2)
    clear = peak > CLEAR_SIGMAS * float(surface.std()) and peak > CLEAR * next_peak
    return (y, x) if clear else None


def _meets(peak: tuple[float, float], place: tuple[float, float], new: Look) -> bool:
    """Whether a peak (y, x) of a phase correlation may stand for a place (dx, dy full px)."""
    apart = [
        (at - where / new.factor + size / 2) % size - size / 2
        for at, where, size in zip(peak, place[::-1], _padded(new.small.shape), strict=True)
    ]
    return max(abs(v) for v in apart) <= PEAK_REACH_PX


def _accepted(score: float, pixels: int, min_score: float, sure: bool) -> bool:
    least, sigmas = (min_score, 7.0) if sure else (3 * min_score, 20.0)
    return score >= least and score * np.sqrt(pixels) >= sigmas


def correlation_at(
    first: F32, second: F32, dy: int, dx: int, *, every: int = 1
) -> tuple[float, int]:
    """(normalised cross-correlation, shared pixels) for second(p) = first(p + (dy, dx)).

    The correlation is -1 where the shared part is smaller than `MIN_SHARE` of the frame; it is
    that of `every` so many lines.
    """
    height, width = first.shape
    rows, cols = height - abs(dy), width - abs(dx)
    if rows <= 0 or cols <= 0 or rows * cols < MIN_SHARE * height * width:
        return -1.0, 0
    a = first[max(0, dy) : max(0, dy) + rows : every, max(0, dx) : max(0, dx) + cols]
    b = second[max(0, -dy) : max(0, -dy) + rows : every, max(0, -dx) : max(0, -dx) + cols]
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
    padded = _padded(shape)
    cross = reference * np.conj(new)
    cross *= _smoothing(padded) / (np.abs(cross) + np.float32(1e-12))
    surface: F32 = fft.irfft2(cross, s=padded, workers=1)
    return surface


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size, fast to transform, to which pictures are padded."""
    return tuple(fft.next_fast_len(n, real=True) for n in shape)


@lru_cache(maxsize=16)
def _smoothing(shape: tuple[int, ...]) -> F32:
    """Spectral weights that give a peak the shape of a Gaussian of `PEAK_SIGMA_PX`.

    A bare peak half a pixel off the grid loses 60 % of its height.
    """
    square = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.rfftfreq(shape[1]) ** 2
    weights = np.exp(-2 * (np.pi * PEAK_SIGMA_PX) ** 2 * square).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _peaks(surface: F32, count: int = CANDIDATES) -> list[tuple[float, float, float]]:
    """(height, y, x) of the highest peaks, to a fraction of a pixel, highest first."""
    height, width = surface.shape
    rest = surface.copy()
    found = []
    for _ in range(count):
        at_y, at_x = divmod(int(rest.argmax()), width)
        ys, xs = np.arange(at_y - 2, at_y + 3) % height, np.arange(at_x - 2, at_x + 3) % width
        peak = float(surface[at_y, at_x])
        fine_y = _vertex(surface[ys[1:4], at_x])
        fine_x = _vertex(surface[at_y, xs[1:4]])
        found.append((peak, at_y + fine_y, at_x + fine_x))
        rest[np.ix_(ys, xs)] = -np.inf
    return found


def _vertex(three: F32) -> float:
    """Where a Gaussian through three samples has its top, within half a sample of the middle."""
    before, middle, after = np.log(np.maximum(three, three[1] * 1e-3 + 1e-12))
    bend = float(before - 2 * middle + after)
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _best_alias(
    first: F32, second: F32, place: tuple[float, float], shape: tuple[int, ...]
) -> tuple[float, int, float, float]:
    """(score, shared pixels, dy, dx) of the best of the places that one peak may stand for.

    The Fourier transforms of `shape` cannot tell them apart.
    """
    wraps = [(y, x) for y in (0, shape[0]) for x in (0, shape[1])]
    places = [(place[0] - y, place[1] - x) for y, x in wraps]
    # Some of the lines tell which of the four it is.
    dy, dx = max(
        places, key=lambda p: correlation_at(first, second, round(p[0]), round(p[1]), every=4)[0]
    )
    score, pixels = max(
        correlation_at(first, second, y, x) for y in _beside(dy) for x in _beside(dx)
    )
    return score, pixels, dy, dx


def _beside(place: float) -> tuple[int, ...]:
    """The whole pixel nearest to a place, or both beside it where it lies between."""
    low = int(np.floor(place))
    if abs(place - low - 0.5) < 0.3:
        return low, low + 1
    return (round(place),)


def _climb(first: F32, second: F32, start: tuple[int, int]) -> tuple[float, float, float]:
    """(score, dy, dx) uphill from `start`: a predicted place may be some px off."""
    dy, dx = start
    score = correlation_at(first, second, dy, dx)[0]
    for _ in range(8):
        around = [
            (correlation_at(first, second, dy + sy, dx + sx)[0], dy + sy, dx + sx)
            for sy, sx in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        best = max(around)
        if best[0] <= score:
            break
        score, dy, dx = best
    return score, float(dy), float(dx)
