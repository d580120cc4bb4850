"""The shear of pictures whose lines were scanned one after the other while the stage moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

REACH = 3  # matched pictures on either side that tell the velocity at one of them
EVEN = 0.15  # by which steps of an even motion may differ,
EVEN_PX = 2.0  # or by so many px per step
WINDOW = 30  # matched pictures on either side over which both measures of shear are balanced
LEAST_RANGE = 0.01  # of relative shears: less comes from noise and jitter
LEAST_FIT = 0.8  # part of the relative shears that the velocities must explain


@dataclass(frozen=True)
class Sight:
    """A matched picture: when it was complete (s), its number, its place (px) and its shear.

    Place and shear are against the first picture of its unbroken stretch; those of a `rough`
    one are only interpolated.
    """

    clock: float
    source_index: int
    x_px: float
    y_px: float
    shear: float
    stretch: int
    rough: bool = False


def velocities(sights: Sequence[Sight]) -> tuple[F64, npt.NDArray[np.bool_]]:
    """(velocity along x at every sight, px/s; whether the motion is even there).

    A straight line is fitted to the neighbours up to which the steps stay alike. NaN for a
    sight without neighbours.
    """
    straight = [n for n, s in enumerate(sights) if not s.rough]
    found = np.full(len(sights), np.nan)
    even = np.zeros(len(sights), bool)
    found[straight], even[straight] = _velocities([sights[n] for n in straight])
    return found, even


def _velocities(sights: Sequence[Sight]) -> tuple[F64, npt.NDArray[np.bool_]]:
    clock = np.array([s.clock for s in sights])
    x = np.array([s.x_px for s in sights])
    stretch = np.array([s.stretch for s in sights])
    found = np.full(len(sights), np.nan)
    even = np.zeros(len(sights), bool)
    linked = (np.diff(stretch) == 0) & (np.diff(clock) > 0)
    step = np.where(linked, np.diff(x), np.nan) / np.where(linked, np.diff(clock), 1.0)
    pause = np.where(linked, np.diff(clock), 1.0)
    slack = np.maximum(EVEN * np.abs(step), EVEN_PX / pause)
    for n in range(len(sights)):
        sides = [k for k in (n - 1, n) if 0 <= k < len(step) and np.isfinite(step[k])]
        if not sides:
            continue
        alike = abs(step[sides[0]] - step[sides[-1]]) <= max(slack[sides[0]], slack[sides[-1]])
        even[n] = alike
        if not alike:
            found[n] = float(np.mean(step[sides]))
            continue
        usual = float(np.mean(step[sides]))
        first, last = n, n
        while first > 0 and n - first < REACH and abs(step[first - 1] - usual) <= slack[first - 1]:
            first -= 1
        while last < len(step) and last - n < REACH and abs(step[last] - usual) <= slack[last]:
            last += 1
        at = clock[first : last + 1] - clock[first : last + 1].mean()
        found[n] = float(at @ x[first : last + 1] / (at @ at))
    return found, even


def seconds_per_line(sights: Sequence[Sight]) -> float | None:
    """Time from line to line, s, from how shears change with the velocity; None: not seen.

    A picture taken at velocity v is sheared by v times this, so where the stage stops or turns
    the relative shears of the pictures tell it without a refresh line.
    """
    speed, even = velocities(sights)
    shear = np.array([s.shear for s in sights])
    stretch = np.array([s.stretch for s in sights])
    top, bottom, total, most = 0.0, 0.0, 0.0, 0.0
    for number in np.unique(stretch):
        use = (stretch == number) & even & np.isfinite(speed)
        if use.sum() < 2 * REACH:
            continue
        v, s = speed[use] - np.median(speed[use]), shear[use] - np.median(shear[use])
        v, s = v - v.mean(), s - s.mean()
        top, bottom, total = top + v @ s, bottom + v @ v, total + s @ s
        most = max(most, float(np.ptp(s)))
    if most < LEAST_RANGE or top <= 0 or top**2 < LEAST_FIT * bottom * total:
        return None
    return float(top / bottom)


def row_shear(sights: Sequence[Sight], line_s: float) -> F64:
    """Shear (px in x per px in y) of every sight, from the velocity and `line_s` per line.

    The velocity tells the shear of an even motion; where the stage starts or stops, the
    shears measured between pictures carry it on.
    """
    speed, even = velocities(sights)
    relative = np.array([s.shear for s in sights])
    stretch = np.array([s.stretch for s in sights])
    offset = np.where(even & np.isfinite(speed), speed * line_s - relative, np.nan)
    out = np.zeros(len(sights))
    for n in range(len(sights)):
        near = slice(max(0, n - WINDOW), n + WINDOW + 1)
        known = offset[near][(stretch[near] == stretch[n]) & np.isfinite(offset[near])]
        if len(known):
            out[n] = relative[n] + float(np.median(known))
        elif np.isfinite(speed[n]):
            out[n] = speed[n] * line_s
    return out
