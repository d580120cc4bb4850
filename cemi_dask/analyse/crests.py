"""Lamellae followed along their length: chords across them, and the mean profile of one period.

The phase of the wave that the local spectrum found is fitted to the patch as a quadratic
polynomial of the place, by least squares, in windows that grow from the patch's centre:
straight lamellae and arcs. Places of equal phase lie on one line along the lamellae, and
averaging over them takes the noise away without blurring across.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from cemi_dask.analyse.waves import Wave

NAN = float("nan")
Floats = npt.NDArray[np.float64]

# Sigma of the window over the patch's side, and Gauss-Newton steps taken in it.
GROWTH = ((0.1, 2), (0.17, 2), (0.27, 1), (0.4, 1))
# The phase has six unknowns and is fitted to every third pixel where the wave is strong (in
# rows of 128 px they lie aslant, so that no direction is sampled coarsely).
THINNING, STRONG = 3, 300.0
LARGEST_STEP_RAD = 1.5  # of the phase, two sigma from the centre
STEPS_PER_PERIOD = 16
CHORD_SMOOTHING = STEPS_PER_PERIOD / 7  # sigma: noise out, the wave itself keeps 2/3
LIKE = (0.6, 1.4)  # of the median spacing; outside, noise made a crossing or took one away
LEAST_SPACINGS = 3
MOST_HARMONICS = 8
HIGHEST = 0.48  # cycles per px that pixels still resolve


@dataclass(frozen=True)
class Crests:
    """What following the lamellae of one patch gives.

    `chord_period_px`: mean distance between borders of one kind along the normal, NaN where
    too few are met; `harmonics`: cosine amplitudes of the mean profile, grey levels, the first
    positive; `variance`: of each of them, from what the profile does not explain.
    """

    chord_period_px: float
    harmonics: Floats
    variance: float


def follow_crests(
    grey: npt.NDArray[Any], inside: npt.NDArray[np.bool_], wave: Wave
) -> Crests | None:
    """Chords and mean profile of the lamellae in a patch (y, x); None where they get lost."""
    height, width = grey.shape
    y, x = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    yy, xx = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
    keep = inside.ravel()
    values, yy, xx = grey.ravel()[keep].astype(np.float64), yy[keep], xx[keep]
    some = slice(None, None, THINNING if wave.strength > STRONG else None)
    coefficients = _followed(
        values[some] - values.mean(), _terms(yy[some], xx[some]), wave, side=min(height, width)
    )
    if coefficients is None:
        return None
    phase = coefficients @ _terms(yy, xx)
    scale = _local_period(yy, xx, coefficients)
    return Crests(_chord_period(values, phase, scale), *_harmonics(values, phase, wave.period_px))


def _terms(y: Floats, x: Floats) -> Floats:
    """What the phase is a sum of: (5, n)."""
    return np.stack([x, y, x * x, x * y, y * y])


def _local_period(y: Floats, x: Floats, coefficients: Floats) -> float:
    """Mean over all places of the px that one turn of the phase takes along the normal."""
    a, b, c, d, e = coefficients
    slope = np.hypot(a + 2 * c * x + d * y, b + d * x + 2 * e * y)
    return float(np.mean(2 * np.pi / np.maximum(slope, 1e-6)))


def _followed(values: Floats, terms: Floats, wave: Wave, *, side: int) -> Floats | None:
    """Coefficients of the phase (rad), None where the fit runs away from the wave it began with."""
    coefficients = 2 * np.pi * np.array([wave.fx, wave.fy, 0.0, 0.0, 0.0])
    for growth, steps in GROWTH:
        sigma = growth * side
        near = np.exp(-0.5 * (terms[2] + terms[4]) / sigma**2)
        take = near > 0.05
        scale = np.array([sigma, sigma, sigma**2, sigma**2, sigma**2])[:, None]
        part, weight, local = terms[:, take], near[take], values[take]
        for _ in range(steps):
            step = _step(local, coefficients @ part, part / scale, weight)
            largest = np.abs(step).max() * 2
            coefficients += step * min(1.0, LARGEST_STEP_RAD / max(largest, 1e-12)) / scale[:, 0]
    found = np.hypot(*coefficients[:2]) / (2 * np.pi)
    if abs(found * wave.period_px - 1) > LIKE[1] - 1:
        return None
    return np.asarray(coefficients)


def _step(values: Floats, phase: Floats, basis: Floats, weight: Floats) -> Floats:
    """The change of the phase's coefficients that one Gauss-Newton step makes."""
    cosine, sine = np.cos(phase), np.sin(phase)
    linear = np.stack([np.ones_like(phase), cosine, sine])
    amplitude = _solved(linear, values, weight)
    slope = amplitude[2] * cosine - amplitude[1] * sine
    design = np.concatenate([linear, slope * basis])
    return _solved(design, values, weight)[3:]


def _solved(design: Floats, values: Floats, weight: Floats) -> Floats:
    """Weighted least squares; `design` (terms, n)."""
    heavy = design * weight
    normal = heavy @ design.T
    ridge = 1e-9 * np.trace(normal) / len(normal)
    return np.asarray(np.linalg.solve(normal + ridge * np.eye(len(normal)), heavy @ values))


def _chord_period(values: Floats, phase: Floats, scale_px: float) -> float:
    """Mean spacing in px of rising and falling borders along the normal; a turn is `scale_px`."""
    step = np.rint(phase * (STEPS_PER_PERIOD / (2 * np.pi))).astype(np.int64)
    step -= step.min()
    count = np.bincount(step).astype(np.float64)
    total = np.bincount(step, values)
    # Axis-parallel lamellae of whole periods leave steps empty: smoothing bridges them.
    smooth, filled = (
        scipy.ndimage.gaussian_filter1d(v, CHORD_SMOOTHING, mode="constant") for v in (total, count)
    )
    enough = filled > 0.25 * filled.max()
    line = np.where(enough, smooth / np.where(enough, filled, 1.0), NAN)
    # The level between the phases, where both are: the mean over one period around.
    wide = scipy.ndimage.uniform_filter1d(np.where(enough, line, 0.0), STEPS_PER_PERIOD)
    share = scipy.ndimage.uniform_filter1d(enough.astype(np.float64), STEPS_PER_PERIOD)
    line -= np.where(share > 0.99, wide, NAN)
    spacings = np.concatenate([_spacings(line, sign) for sign in (1.0, -1.0)])
    if len(spacings) < LEAST_SPACINGS:
        return NAN
    middle = np.median(spacings)
    like = spacings[(spacings > LIKE[0] * middle) & (spacings < LIKE[1] * middle)]
    return float(like.mean() / STEPS_PER_PERIOD * scale_px)


def _spacings(line: Floats, sign: float) -> Floats:
    """Distances in steps between successive zeros of a line in one direction."""
    here, there = sign * line[:-1], sign * line[1:]
    with np.errstate(invalid="ignore"):
        at = np.flatnonzero((here < 0) & (there >= 0))
    return np.diff(at + here[at] / (here[at] - there[at]))


def _harmonics(values: Floats, phase: Floats, period_px: float) -> tuple[Floats, float]:
    """(cosine amplitudes of the mean profile, variance of each).

    The sines, which a symmetric profile does not have, tell how far it is from one.
    """
    count = int(np.clip(np.floor(HIGHEST * period_px), 1, MOST_HARMONICS))
    first = np.stack([np.ones_like(phase), np.cos(phase), np.sin(phase)])
    _, cosine, sine = _solved(first, values, np.ones_like(values))
    once = (first[1] + 1j * first[2]) * np.exp(-1j * np.arctan2(sine, cosine))
    turned = np.multiply.accumulate(np.broadcast_to(once, (count, len(phase))), axis=0)
    design = np.concatenate([np.ones((1, len(phase))), turned.real, turned.imag])
    fitted = _solved(design, values, np.ones_like(values))
    rest = values - fitted @ design
    odd = float(np.sum(fitted[count + 1 :] ** 2)) / count
    return fitted[1 : count + 1], float(2 * np.mean(rest**2) / len(values) + odd)
