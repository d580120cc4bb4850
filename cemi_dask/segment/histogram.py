"""Levels between phases out of a histogram of grey levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError

Floats = npt.NDArray[np.float64]
# (distinct whole numbers, ascending; how often each occurs)
Histogram = tuple[Floats, npt.NDArray[np.int64]]

CLASS_BINS = 128  # of three phases and more: their search grows with a power of it
STEPS = 200
TOLERANCE = 1e-7


def count_numbers(numbers: npt.NDArray[np.generic]) -> Histogram:
    """How often each of some whole numbers occurs."""
    values, counts = np.unique(numbers, return_counts=True)
    return values.astype(np.float64), counts.astype(np.int64)


def add_histograms(parts: Sequence[Histogram]) -> Histogram:
    """The histogram of all parts together; exact, in whatever way they were cut.

    Raises InputError where fewer than two grey levels occur.
    """
    every = np.concatenate([values for values, _ in parts])
    values, place = np.unique(every, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([counts for _, counts in parts]))
    if len(values) < 2:
        raise InputError("The mosaic holds fewer than two grey levels; no level parts them.")
    return values, counts


def otsu_levels(histogram: Histogram, phases: int) -> tuple[float, ...]:
    """The numbers at which classes begin that have the least variance within them.

    Two phases are searched exactly; more on at most 128 bins, by dynamic programming. Raises
    InputError where there are fewer numbers than phases.
    """
    values, counts = histogram
    if len(values) < phases:
        raise InputError(
            f"{len(values)} grey levels cannot be parted into {phases} phases. Ask for fewer."
        )
    if phases > 2 and len(values) > CLASS_BINS:
        edges = np.linspace(values[0], values[-1], CLASS_BINS + 1)
        place = np.clip(np.digitize(values, edges) - 1, 0, CLASS_BINS - 1)
        total = np.bincount(place, counts, CLASS_BINS).astype(np.float64)
        mass = np.bincount(place, counts * values, CLASS_BINS).astype(np.float64)
        kept = total > 0
        starts = edges[:-1][kept]
        return tuple(float(starts[k]) for k in _best_cuts(total[kept], mass[kept], phases))
    cuts = _best_cuts(counts.astype(np.float64), counts * values, phases)
    return tuple(float(values[k]) for k in cuts)


def _best_cuts(counts: Floats, mass: Floats, phases: int) -> list[int]:
    """Indices at which classes begin, so that sum (mass^2 / count) over classes is largest."""
    n = np.concatenate([[0.0], np.cumsum(counts)])
    m = np.concatenate([[0.0], np.cumsum(mass)])
    size = len(counts)
    if phases == 2:
        cut = np.arange(1, size)
        between = m[cut] ** 2 / n[cut] + (m[-1] - m[cut]) ** 2 / (n[-1] - n[cut])
        return [int(cut[np.argmax(between)])]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = (m[None, :] - m[:, None]) ** 2 / (n[None, :] - n[:, None])
    gain = np.where(np.arange(size + 1)[None, :] > np.arange(size + 1)[:, None], gain, -np.inf)
    best, back = gain[0], []
    for _ in range(phases - 1):
        total = best[:, None] + gain
        back.append(np.argmax(total, axis=0))
        best = np.max(total, axis=0)
    cuts, end = [], size
    for choice in reversed(back):
        end = int(choice[end])
        cuts.append(end)
    return cuts[::-1]


def mixture_levels(histogram: Histogram, phases: int) -> tuple[float, ...]:
    """The numbers at which the likelier of neighbouring Gaussians of a mixture changes."""
    values, counts = histogram
    starts = otsu_levels(histogram, phases)
    group = np.digitize(values, starts)
    weight = np.array([counts[group == k].sum() for k in range(phases)], np.float64)
    mean = np.array(
        [np.average(values[group == k], weights=counts[group == k]) for k in range(phases)]
    )
    spread = np.full(phases, np.sqrt(np.average((values - mean[group]) ** 2, weights=counts)))
    least = 1e-3 * (values[-1] - values[0])
    spread = np.maximum(spread, least)
    total = weight.sum()
    for _ in range(STEPS):
        density = weight / spread * np.exp(-0.5 * ((values[:, None] - mean) / spread) ** 2)
        share = density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
        mine = share * counts[:, None]
        weight = np.maximum(mine.sum(axis=0), 1e-9 * total)
        moved = (mine * values[:, None]).sum(axis=0) / weight
        apart = (mine * (values[:, None] - moved) ** 2).sum(axis=0) / weight
        spread = np.maximum(np.sqrt(apart), least)
        done = np.abs(moved - mean).max() < TOLERANCE * (values[-1] - values[0])
        mean = moved
        if done:
            break
    order = np.argsort(mean)
    mean, spread, weight = mean[order], spread[order], weight[order]
    return tuple(
        _crossing(*((float(v[k]), float(v[k + 1])) for v in (mean, spread, weight)))
        for k in range(phases - 1)
    )


def _crossing(
    mean: tuple[float, float], spread: tuple[float, float], weight: tuple[float, float]
) -> float:
    """Where two Gaussians are equally likely, between their means (their middle if nowhere)."""
    at = np.linspace(mean[0], mean[1], 2001)
    score = [
        np.log(w / s) - 0.5 * ((at - m) / s) ** 2
        for m, s, w in zip(mean, spread, weight, strict=True)
    ]
    first = np.flatnonzero(score[1] >= score[0])
    return float(at[first[0]]) if len(first) and first[0] else float(np.mean(mean))
