"""Overlaps of lamellae that all run alike: what a pair tells there, and what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from cemi_dask.overlap import Lattice
from cemi_dask.register.correlate import overlap_boxes, taper
from cemi_dask.register.prepare import Image, Prepared, white_noise

Vector = npt.NDArray[np.float64]

_ON_LINE = 0.15  # periods by which a peak may be off the nearest line
_LEAST_SHARE = 0.15  # of the structure's variance that the wave must hold
_BARE_SHARE = 0.8  # from there on, the overlap is a lattice whatever the peaks say
_LEAST_AWAY_PX = 3.0  # between peaks, before they tell anything of a lattice
_STEPS = 3  # of Newton's method to the wave's frequency
_SIDE_PX = 24  # least side of an overlap in which a frequency can be told


def find_lattice(
    fixed: Prepared, moving: Prepared, rivals: Sequence[tuple[float, float]]
) -> Lattice | None:
    """The lattice on which the `rivals` lie: displacements (dx, dy) px, best first.

    One plane wave, the strongest of the overlap, is fitted to both frames there. It is the
    lattice if the rivals lie a whole number of periods from the first, across the lamellae, or
    if it holds nearly all of the variance that is not white noise. The phase between the
    frames then tells the displacement across the lamellae, but for whole periods; nothing
    tells it along them. None where the rivals have another reason, or stand too close to tell.
    """
    first = np.asarray(rivals[0], float)
    apart = np.asarray(rivals[1:], float).reshape(-1, 2) - first
    whole = np.round(first).astype(int)
    seen = _overlap_waves(fixed, moving, whole)
    if seen is None:
        return None
    parts, wave, share = seen
    waves = [part.amplitude(wave) for part in parts]
    powers = [2 * abs(amplitude) ** 2 for amplitude in waves]
    off = apart @ wave
    told = np.hypot(*apart.T).max(initial=0.0) >= _LEAST_AWAY_PX
    if share < (_LEAST_SHARE if told else _BARE_SHARE):
        return None
    if np.abs(off - np.round(off)).max(initial=0.0) > _ON_LINE:
        return None
    turn = float(np.angle(waves[1] * np.conj(waves[0]))) / (2 * np.pi)
    step = wave / (wave @ wave)  # one period across the lamellae, px
    at = whole + turn * step
    # Of the phase of a wave in white noise (Rife and Boorstyn 1974), for both frames.
    phase = sum(
        (part.variance - p) / (p * part.count) for p, part in zip(powers, parts, strict=True)
    )
    sigma = float(np.sqrt(max(phase, 0.0)) / (2 * np.pi) * np.hypot(*step))
    return Lattice(float(wave[0]), float(wave[1]), float(at[0]), float(at[1]), sigma)


def _overlap_waves(
    fixed: Prepared, moving: Prepared, whole: npt.NDArray[np.int64]
) -> tuple[list[_Part], Vector, float] | None:
    """Both frames' parts of the overlap at a whole-px displacement, the wave that is strongest
    in them, and the least part of their structure's variance that it holds; None where small.
    """
    boxes = overlap_boxes(fixed.shape, int(whole[0]), int(whole[1]))
    if min(boxes[0].shape) < _SIDE_PX:
        return None
    parts = [
        _Part.of(picture.detail[box.slices])
        for picture, box in zip((fixed, moving), boxes, strict=True)
    ]
    wave = _strongest(parts)
    share = min(2 * abs(part.amplitude(wave)) ** 2 / part.structure for part in parts)
    return parts, wave, share


@dataclass(frozen=True)
class _Part:
    """One frame's overlap (y, x), windowed and of zero mean, with what its sums need.

    `variance` is that of the pixels, `structure` what white noise does not explain of it;
    `count` is the number of pixels that the window leaves.
    """

    pixels: Image
    weight: float
    count: float
    variance: float
    structure: float

    @classmethod
    def of(cls, picture: Image) -> _Part:
        """`picture` under a Hann window."""
        windows = [taper(length, length // 2) for length in picture.shape]
        weight = float(np.prod([w.sum() for w in windows]))
        squares = float(np.prod([(w**2).sum() for w in windows]))
        pixels = (picture - picture.mean()) * windows[0][:, None] * windows[1]
        variance = float(picture.var())
        left = max(variance - white_noise(picture) ** 2, 1e-9)
        return cls(pixels, weight, weight**2 / squares, variance, left)

    def amplitude(self, wave: Vector) -> complex:
        """Half the complex amplitude of the wave exp(2 pi i wave . (x, y))."""
        height, width = self.pixels.shape
        along_x = np.exp(-2j * np.pi * wave[0] * np.arange(width))
        along_y = np.exp(-2j * np.pi * wave[1] * np.arange(height))
        return complex(along_y @ (self.pixels @ along_x)) / self.weight


def _strongest(parts: Sequence[_Part]) -> Vector:
    """The frequency (x, y) in cycles per px at which both parts together hold most power."""
    size = [scipy.fft.next_fast_len(2 * length, True) for length in parts[0].pixels.shape]
    power = sum(np.abs(scipy.fft.rfft2(part.pixels, size, workers=1)) ** 2 for part in parts)
    y, x = np.unravel_index(int(np.argmax(power)), np.shape(power))
    wave = np.array([x / size[1], scipy.fft.fftfreq(size[0])[y]])
    small = np.array([0.125 / parts[0].pixels.shape[1], 0.125 / parts[0].pixels.shape[0]])
    around = small * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
    for _ in range(_STEPS):
        # The peak is broad in both axes and even: parabolas along each are enough.
        p = [sum(abs(part.amplitude(wave + d)) ** 2 for part in parts) for d in around]
        bend = np.array([p[1] + p[2] - 2 * p[0], p[3] + p[4] - 2 * p[0]])
        slope = np.array([p[1] - p[2], p[3] - p[4]]) / 2
        wave = wave + small * np.clip(-slope / np.minimum(bend, -1e-30), -2, 2)
    return wave
