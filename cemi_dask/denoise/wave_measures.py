"""What is left of lamellae, and how much of a picture a reference does not explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BLOCK_PX = 128
# Periods (px) among which the lamellae are sought, and those that count as structure.
LAMELLA_PX = (2.4, 24.0)
STRUCTURE_PX = (2.4, 32.0)
BAND = 1.2  # the lamellae's band: their frequency divided and multiplied by this


@dataclass(frozen=True)
class WaveMeasures:
    """Measures of a picture against a reference from their spectra.

    period_px: the reference's strongest period, px. power: power of the picture in the band of
    20 % around it, relative to the reference's (1 is ideal; noise adds, blur takes away).
    modulation: share of the reference's modulation there that the picture has in the same
    places (real part of cross spectrum over power; 1 is ideal, noise does not count).
    unexplained_pct: per cent of the picture's power at periods of 2.4-32 px that is not
    proportional, frequency by frequency, to the reference (1 - coherence). The reference's
    own white noise is taken out of its power. NaN where a picture is below 32 px.
    """

    period_px: float
    power: float
    modulation: float
    unexplained_pct: float

    @classmethod
    def of(cls, picture: Float32, reference: Float32, reference_sigma: float) -> WaveMeasures:
        """Measures of two pictures (y, x) of one shape; `reference_sigma` in grey levels."""
        side = min(BLOCK_PX, *picture.shape)
        if side < 32:
            return cls(*([float("nan")] * 4))
        own, theirs, cross = _spectra(picture, reference, side)
        theirs = np.maximum(theirs - reference_sigma**2, 1e-3 * theirs)
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
        centre = _strongest(theirs, frequency)
        band = (frequency > centre / BAND) & (frequency < centre * BAND)
        low, high = 1 / STRUCTURE_PX[1], 1 / STRUCTURE_PX[0]
        structure = (frequency >= low) & (frequency <= high)
        rings = np.rint(frequency * side).astype(int)[structure]
        total = [np.bincount(rings, a[structure]) for a in (own, theirs, cross)]
        explained = total[2] ** 2 / np.maximum(total[1], 1e-12)
        unexplained = 1 - float(explained.sum() / max(float(total[0].sum()), 1e-12))
        return cls(
            1 / centre,
            float(own[band].sum() / theirs[band].sum()),
            float(cross[band].sum() / theirs[band].sum()),
            100 * float(np.clip(unexplained, 0, 1)),
        )


def _spectra(a: Float32, b: Float32, side: int) -> tuple[Float64, Float64, Float64]:
    """Mean power spectra of a and b and real part of their cross spectrum, each (side, side).

    Averages over half-overlapping Hann-windowed blocks (Welch 1967), scaled so that white
    noise of variance v gives v.
    """
    window = np.multiply.outer(*(np.hanning(side + 1)[:-1],) * 2)
    scale = 1 / float(np.sum(window**2))
    own, theirs, cross = (np.zeros((side, side)) for _ in range(3))
    tops, lefts = (range(0, n - side + 1, max(1, side // 2)) for n in a.shape)
    for top in tops:
        for left in lefts:
            parts = [p[top : top + side, left : left + side].astype(np.float64) for p in (a, b)]
            fa, fb = (scipy.fft.fft2((p - p.mean()) * window) for p in parts)
            own += np.abs(fa) ** 2
            theirs += np.abs(fb) ** 2
            cross += (fa * np.conj(fb)).real
    count = len(tops) * len(lefts) / scale
    return own / count, theirs / count, cross / count


def _strongest(power: Float64, frequency: Float64) -> float:
    """Frequency (cycles/px) at which power, summed over all directions, is largest.

    The sum over a ring grows with frequency, which makes up for the fall of power that
    coarse structure brings.
    """
    side = len(frequency)
    rings = np.rint(frequency * side).astype(int)
    total = np.bincount(rings.ravel(), (power * frequency).ravel())
    first, last = int(np.ceil(side / LAMELLA_PX[1])), int(side / LAMELLA_PX[0])
    return (first + int(np.argmax(total[first : last + 1]))) / side
