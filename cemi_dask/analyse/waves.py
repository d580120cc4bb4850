"""Where lamellae repeat: the strongest wave in patches of a cell, by the local spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from cemi_dask.analyse.cell import weighted_median

# Relative to the cell's median period: what is nearer always counts, what is farther never.
LEAST_APART, MOST_APART = 0.1, 0.25
MIN_PEAK = 30.0  # power of a peak over the mean power of the band
PERIODS_PER_PATCH = 6.0  # fewer, and the peak is broader than the period may be wrong
BAND_MARGIN = 1.25  # beyond the longest period: a peak at the band's end has no neighbour


@dataclass(frozen=True)
class Wave:
    """A wave in a picture: cycles per px along y and x, power over the mean of the band."""

    fy: float
    fx: float
    strength: float

    @property
    def period_px(self) -> float:
        """Distance from crest to crest."""
        return float(1.0 / np.hypot(self.fy, self.fx))

    @property
    def axis_rad(self) -> float:
        """Direction along the crests, 0..pi, from x towards y (clockwise on the screen)."""
        return float((np.arctan2(self.fy, self.fx) + np.pi / 2) % np.pi)


@dataclass(frozen=True)
class Patch:
    """A part of a cell that shows one wave; `area_px` of it is lamellar."""

    ys: slice
    xs: slice
    wave: Wave
    area_px: int


def find_waves(
    grey: npt.NDArray[Any],
    lamellar: npt.NDArray[np.bool_],
    *,
    patch_px: int,
    min_lamellar: float,
    band_px: tuple[float, float],
) -> list[Patch]:
    """The patches of a cell (y, x) that show a wave, without outliers.

    Patches of `patch_px` that are lamellar by at least `min_lamellar` are asked for waves
    with a period in `band_px`. Where those found are so long that few fit in a patch, the
    cell is cut again, into larger patches.
    """
    found = _in_patches(grey, lamellar, patch_px, min_lamellar, band_px)
    middle = _middle(found)
    needed = int(np.ceil(PERIODS_PER_PATCH * middle)) if found else 0
    if needed > patch_px:
        found = _in_patches(grey, lamellar, needed, min_lamellar, band_px) or found
        middle = _middle(found)
    # A patch on a colony border, a scratch or the arms of a dendrite may peak elsewhere. It
    # is left out, also where such patches are so many that they widen the spread.
    apart = np.array([abs(p.wave.period_px - middle) for p in found])
    if not len(apart):
        return []
    limit = np.clip(5.0 * np.median(apart), LEAST_APART * middle, MOST_APART * middle)
    return [p for p, off in zip(found, apart, strict=True) if off <= limit]


def _middle(found: list[Patch]) -> float:
    if not found:
        return float("nan")
    periods = np.array([p.wave.period_px for p in found])
    return weighted_median(periods, np.array([p.area_px for p in found]))


def _in_patches(
    grey: npt.NDArray[Any],
    lamellar: npt.NDArray[np.bool_],
    patch_px: int,
    min_lamellar: float,
    band_px: tuple[float, float],
) -> list[Patch]:
    found = []
    for ys in _spread(grey.shape[0], patch_px):
        for xs in _spread(grey.shape[1], patch_px):
            inside = lamellar[ys, xs]
            if inside.mean() < min_lamellar:
                continue
            wave = strongest_wave(grey[ys, xs], inside, band_px=band_px)
            if wave is not None:
                found.append(Patch(ys, xs, wave, int(inside.sum())))
    return found


def _spread(length: int, patch_px: int) -> list[slice]:
    """Slices of at most `patch_px` that cover `length`, evenly spread."""
    size = min(length, patch_px)
    count = -(-length // size)
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    return [slice(start, start + size) for start in starts]


def strongest_wave(
    grey: npt.NDArray[Any], inside: npt.NDArray[np.bool_], *, band_px: tuple[float, float]
) -> Wave | None:
    """The strongest wave in a patch (y, x) with a period in `band_px`, None where none stands out.

    The patch, less its mean over `inside`, is tapered with a Hann window and zero-padded to
    twice its size; a parabola through the logarithm of the power at the peak and its
    neighbours gives the frequency to about a hundredth of a cycle per patch.
    """
    shortest, longest = band_px[0], min(BAND_MARGIN * band_px[1], min(grey.shape) / 3)
    height, width = grey.shape
    weight = np.outer(_hann(height), _hann(width)) * inside
    value = np.where(inside, grey, 0).astype(np.float64)
    tapered = (value - (value * weight).sum() / weight.sum()) * weight
    size = [scipy.fft.next_fast_len(2 * n, real=True) for n in grey.shape]
    power = np.abs(scipy.fft.rfft2(tapered, s=size)) ** 2
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    radius = np.hypot(fy, fx)
    band = np.where((radius >= 1 / longest) & (radius <= 1 / shortest), power, -1.0)
    row, col = divmod(int(np.argmax(band)), band.shape[1])
    # Power of noise is exponential: the largest of 10^4 is about 10 times its mean, and twice
    # that where blur favours its low frequencies.
    background = np.mean(band[band >= 0])
    if not power[row, col] > MIN_PEAK * background:
        return None
    wave = Wave(
        float(fy[row, 0] + _vertex(power, row, col, axis=0) / size[0]),
        float(fx[0, col] + _vertex(power, row, col, axis=1) / size[1]),
        float(power[row, col] / background),
    )
    return wave if wave.period_px <= 1.02 * band_px[1] else None


def _hann(length: int) -> npt.NDArray[np.float64]:
    # Without the zeros at both ends: every pixel counts.
    return np.asarray(np.hanning(length + 2)[1:-1])


def _vertex(power: npt.NDArray[np.float64], row: int, col: int, *, axis: int) -> float:
    """Offset in bins, -0.5..0.5, of the vertex of a parabola through log power at (row, col)."""
    height, width = power.shape
    if axis == 0:
        line = [power[(row + k) % height, col] for k in (-1, 0, 1)]
    else:
        # Column 0 mirrors: power at -fx equals power at +fx and -fy.
        left = power[row, col - 1] if col else power[-row % height, 1]
        right = power[row, col + 1] if col + 1 < width else power[-row % height, col - 1]
        line = [left, power[row, col], right]
    a, b, c = np.log(np.maximum(line, np.finfo(np.float64).tiny))
    curvature = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0
