"""The offset between the indents' x axis and the mosaic's, where it must be sought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.analyse.hardness import Hardness
from cemi_dask.errors import InputError

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

STEPS = 41  # offsets tried
LEAST = 5  # indents that must meet the profile at an offset
Series = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Search:
    """The offset used, and for each measure the p of its r among the best of a search."""

    offset_um: float
    p: dict[str, float]


def search_offset(
    indents: Hardness,
    series: Mapping[str, Series],
    *,
    centre_um: float,
    reach_um: float,
    leading: str,
) -> Search:
    """The offset at which the measure `leading` correlates best with hardness, of 41 tried.

    `series` gives each measure's values at places on the profile. Looking for the best offset
    finds one in anything (the look-elsewhere effect): p of a measure is the share of circular
    shifts of the hardness, each searched as widely, that give an |r| as large as the measure's
    at the offset taken. Raises InputError where fewer than five indents ever meet the profile.
    """
    offsets = centre_um + np.linspace(-reach_um, reach_um, STEPS)
    n = len(indents.value)
    index = (np.arange(n)[None, :] + np.arange(n)[:, None]) % n
    shifted = indents.value[index]  # row k: moved on by k
    strength = {
        name: np.array([_strength(shifted, measure(indents.x_um + o)) for o in offsets])
        for name, measure in series.items()
    }
    own = strength[leading][:, 0]
    if not np.isfinite(own).any():
        raise InputError(
            f"At no offset within {reach_um:g} um of {centre_um:g} um do {LEAST} indents meet a "
            f"measured place of {leading}. Set x_offset_um nearer to the truth."
        )
    best = int(np.nanargmax(own))
    p = {}
    for name, table in strength.items():
        known = np.isfinite(table).any(axis=1)
        if known[best]:
            highest = np.nanmax(table[known], axis=0)
            p[name] = float(np.mean(highest >= table[best, 0] * (1 - 1e-9)))
        else:
            p[name] = NAN
    return Search(float(offsets[best]), p)


def _strength(shifted: FloatArray, measure: FloatArray) -> FloatArray:
    """|r| of one measure with every row of `shifted`, over the indents where it is known."""
    known = np.isfinite(measure)
    if np.count_nonzero(known) < LEAST or np.ptp(measure[known]) == 0:
        return np.full(len(shifted), NAN)
    a = measure[known] - measure[known].mean()
    b = shifted[:, known] - shifted[:, known].mean(axis=1, keepdims=True)
    length = np.sqrt(np.sum(b * b, axis=1) * np.sum(a * a))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(b @ a) / length)
