"""The shear of pictures whose lines were scanned one after the other while the stage moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

WINDOW = 30  # matched pictures on either side over which shear and motion are balanced
EVEN = 0.01  # by which shears of neighbours may differ in even motion
LEAST_SIGHTS = 6
LEAST_RANGE = 0.01  # of relative shears: less comes from noise and jitter
LEAST_FIT = 0.8  # part of the relative shears that the velocities must explain


@dataclass(frozen=True)
class Sight:
    """A matched picture: when it was complete (s), its number, its place (px) and its shear.

    Place and shear are against the first picture of its unbroken stretch.
    """

    clock: float
    source_index: int
    x_px: float
    y_px: float
    shear: float
    stretch: int


def seconds_per_line(sights: Sequence[Sight]) -> float | None:
    """Time from line to line, s, from how shears change with the velocity; None: not seen.

    A picture taken at velocity v is sheared by v times this, so where the stage stops or turns
    the relative shears of the pictures tell it without a refresh line. Least squares over the
    steps between pictures, with one unknown shear per stretch.
    """
    top, bottom, total, most = 0.0, 0.0, 0.0, 0.0
    for clock, x, relative in _stretches(sights).values():
        if len(clock) < LEAST_SIGHTS:
            continue
        velocity = np.diff(x) / np.diff(clock)
        shear = (relative[1:] + relative[:-1]) / 2
        v, s = velocity - velocity.mean(), shear - shear.mean()
        top, bottom, total = top + v @ s, bottom + v @ v, total + s @ s
        most = max(most, float(np.ptp(shear)))
    if most < LEAST_RANGE or top <= 0 or top**2 < LEAST_FIT * bottom * total:
        return None
    return float(top / bottom)


def row_shear(sights: Sequence[Sight], line_s: float) -> F64:
    """Shear (px in x per px in y) of every sight, from the motion and `line_s` per line.

    Shear is velocity times `line_s`, so over a window of pictures the mean shear is the way
    they went by the time it took; that gives what all have in common, and the shears measured
    between pictures the rest. 0 where a stretch has one picture only.
    """
    stretches = _stretches(sights)
    out = np.zeros(len(sights))
    for n, sight in enumerate(sights):
        clock, x, relative = stretches[sight.stretch]
        at = int(np.searchsorted(clock, sight.clock))
        near = slice(max(0, at - WINDOW), at + WINDOW + 1)
        t, way, shear = clock[near], x[near], relative[near]
        if len(t) < 2:
            continue
        # Between pictures of other shear the stage stopped or started, nobody knows when.
        even = np.abs(np.diff(shear)) < EVEN
        even = even if even.any() else np.ones_like(even)
        elapsed, gone = np.diff(t)[even], np.diff(way)[even]
        between = ((shear[1:] + shear[:-1]) / 2)[even]
        common = (line_s * gone.sum() - between @ elapsed) / elapsed.sum()
        out[n] = sight.shear + float(common)
    return out


def _stretches(sights: Sequence[Sight]) -> dict[int, tuple[F64, F64, F64]]:
    """(clock, x, relative shear) of the pictures of every stretch, in order of time."""
    found = {}
    for number in {s.stretch for s in sights}:
        own = sorted((s for s in sights if s.stretch == number), key=_clock)
        own = [s for n, s in enumerate(own) if n == 0 or s.clock > own[n - 1].clock]
        columns = np.array([(s.clock, s.x_px, s.shear) for s in own], np.float64).reshape(-1, 3)
        found[number] = (columns[:, 0], columns[:, 1], columns[:, 2])
    return found


def _clock(sight: Sight) -> float:
    return sight.clock
