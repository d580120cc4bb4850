"""Islands tied by overlaps of bare lamellae: which whole number of periods fits them all.

A link whose overlap is one wave of lamellae (`Lattice`) tells a displacement across them, but
for whole periods, and nothing along them. Alone it links nothing. Several, with lamellae that
run in different directions, leave one place for an island near where it is expected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage

from cemi_dask.solve.adjust import Adjustment
from cemi_dask.solve.links import Flags, Floats, Ints, Links
from cemi_dask.solve.place import Expected

_STEP_PX = 0.5  # of the grid on which places are tried,
_COARSE_PX = 0.4  # and what a wave may miss there
_FLOOR_PX = 0.03  # standard deviation added to a wave's own: the island's inner errors
_REACH = 4.0  # standard deviations of the expected place that are searched
_CAP = 25.0  # squared standard deviations: what a wave that does not fit costs
_LEAD = 24.0  # of cost by which the best place must lead any other (odds of e^12)
_OTHER_PX = 1.0  # apart: another place
_FITS = 3.0  # standard deviations within which a wave fits
_MOST_CHANCE = 0.01  # expected number of places that fit by chance
_FREE_PX = 1e3  # standard deviation along lamellae: nothing is known
_SURE_PERIODS = 1 / 6  # to which a displacement is known before the period is taken as known
_MOST_PLACES = 1_000_000  # tried for one island


@dataclass(frozen=True)
class Waves:
    """The lattice links among m links: their numbers `of` (k), wave vectors `wave` (k, 2) in
    cycles per px, a displacement on the lattice `at` (k, 2) px and its `sigma_px` (k)."""

    of: Ints
    wave: Floats
    at: Floats
    sigma_px: Floats

    @classmethod
    def among(cls, links: Links) -> Waves:
        """Those of `links`."""
        of = np.array([n for n, pair in enumerate(links.pairs) if pair.lattice], np.int64)
        found = [pair.lattice for pair in links.pairs if pair.lattice]
        return cls(
            of,
            np.array([(w.wave_x, w.wave_y) for w in found], float).reshape(-1, 2),
            np.array([(w.dx_px, w.dy_px) for w in found], float).reshape(-1, 2),
            np.array([w.sigma_px for w in found], float),
        )

    def __len__(self) -> int:
        return len(self.of)

    def misses(self, displacement: Floats) -> Floats:
        """How far displacements (k, 2) are from the nearest line of their lattice, px (k)."""
        periods = np.einsum("ka,ka->k", displacement - self.at, self.wave)
        return np.asarray((periods - np.round(periods)) / np.hypot(*self.wave.T))

    def pick(self, which: Flags) -> Waves:
        """Some of them."""
        return Waves(self.of[which], self.wave[which], self.at[which], self.sigma_px[which])


def without_waves(links: Links) -> Links:
    """The links with lattice links out of use: their peaks are chance."""
    usable = links.usable.copy()
    usable[Waves.among(links).of] = False
    return replace(links, usable=usable)


def with_waves(links: Links, place: Floats, sigma_px: Floats, island: Ints) -> Links:
    """The links at positions (n, 2) px, with the lattice links inside islands put to use.

    Each gets one peak: the displacement of the positions, moved across the lamellae to the
    nearest line, free along them. Used are those whose frames are placed against each other
    to a sixth of a period (`sigma_px` (n, 2) of the positions), so that the line is the right
    one; the others keep no peak.
    """
    waves = Waves.among(links)
    i, j = links.i[waves.of], links.j[waves.of]
    step = place[j] - place[i]
    doubt = np.linalg.norm(np.hypot(sigma_px[i], sigma_px[j]), axis=1)
    known = np.isfinite(step).all(axis=1) & (island[i] == island[j])
    known &= doubt < _SURE_PERIODS / np.hypot(*waves.wave.T)
    told, step = waves.pick(known), step[known]
    across = told.wave / np.hypot(*told.wave.T)[:, None]
    outer = np.einsum("ka,kb->kab", across, across)
    shift, covariance = links.shift.copy(), links.covariance.copy()
    usable, sure = links.usable.copy(), links.sure.copy()
    shift[waves.of] = np.nan
    shift[told.of, 0] = step - told.misses(step)[:, None] * across
    covariance[told.of, 0] = (
        outer * (told.sigma_px**2)[:, None, None] + (np.eye(2) - outer) * _FREE_PX**2
    )
    usable[waves.of], sure[waves.of] = known, known
    return replace(links, shift=shift, covariance=covariance, usable=usable, sure=sure)


def join_islands(found: Adjustment, links: Links, expected: Expected) -> tuple[Floats, Ints]:
    """Positions (n, 2) px and island numbers (n) after waves have tied islands to the largest.

    Only an island of which something is expected can be tied.
    """
    place, island = found.place.copy(), found.component.copy()
    waves = Waves.among(links)
    refused: set[int] = set()
    while True:
        ends = np.stack([links.i[waves.of], links.j[waves.of]], axis=1)
        sides = island[ends]
        tied = (sides == 0).any(axis=1) & (sides != 0).any(axis=1)
        counts = np.bincount(sides[tied].max(axis=1), minlength=1)
        counts[list(refused)] = 0
        number = int(counts.argmax())
        if counts[number] < 3:
            return place, island
        mine = tied & (sides == number).any(axis=1)
        move = _move(number, waves.pick(mine), ends[mine], (place, island), expected)
        if move is None:
            refused.add(number)
            continue
        place[island == number] += move
        island[island == number] = 0
        refused = set()


def _move(
    number: int,
    waves: Waves,
    ends: Ints,
    places: tuple[Floats, Ints],
    expected: Expected,
) -> Floats | None:
    """The translation (2) px of island `number` that all waves fit, None where none stands out."""
    place, island = places
    start = expected.move(place, np.flatnonzero(island == number))
    if start is None:
        return None
    centre, sigma = start[0], expected.scale * start[1]
    # As displacements j - i: moving the island adds `sign` times the translation.
    sign = np.where(island[ends[:, 1]] == number, 1.0, -1.0)
    step = place[ends[:, 1]] - place[ends[:, 0]] + sign[:, None] * centre
    length = np.hypot(*waves.wave.T)
    towards = sign[:, None] * waves.wave
    periods = np.einsum("ka,ka->k", step - waves.at, waves.wave)
    own = np.hypot(waves.sigma_px, _FLOOR_PX) * length  # in periods
    reach = _REACH * sigma
    if (2 * reach / _STEP_PX) ** 2 > _MOST_PLACES or _by_chance(towards, own, reach) > _MOST_CHANCE:
        return None

    def cost(moves: Floats, spread: Floats | float) -> Floats:
        turns = moves @ towards.T + periods
        misses = (turns - np.round(turns)) / spread
        own_cost = (moves**2).sum(axis=-1) / sigma**2
        return np.asarray(np.minimum(misses**2, _CAP).sum(axis=-1) + own_cost)

    axis = np.arange(-reach, reach + _STEP_PX, _STEP_PX)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    coarse = cost(grid, _COARSE_PX * length)
    lowest = coarse <= scipy.ndimage.minimum_filter(coarse, 3)
    likely = lowest & (coarse <= coarse.min() + _LEAD)
    fitted = np.stack([_fitted(move, towards, periods, own) for move in grid[likely]])
    costs = cost(fitted, own)
    best = int(costs.argmin())
    away = np.hypot(*(fitted - fitted[best]).T) > _OTHER_PX
    turns = fitted[best] @ towards.T + periods
    fits = np.abs(turns - np.round(turns)) <= _FITS * own
    if not fits.all() or (costs[away] < costs[best] + _LEAD).any():
        return None
    return np.asarray(fitted[best] + centre)


def _fitted(move: Floats, towards: Floats, periods: Floats, own: Floats) -> Floats:
    """`move` at the least squares of the lines nearest to it."""
    for _ in range(3):
        turns = towards @ move + periods
        step = np.linalg.lstsq(towards / own[:, None], (np.round(turns) - turns) / own, rcond=1e-6)
        move = move + step[0]
    return move


def _by_chance(towards: Floats, own: Floats, reach: float) -> float:
    """How many places within `reach` px fit all waves, were their phases random.

    The two waves whose lines cross most often say how many crossings there are; each other
    wave fits a part of them by chance.
    """
    crossings = np.abs(
        towards[:, None, 0] * towards[None, :, 1] - towards[:, None, 1] * towards[:, 0]
    )
    first, second = np.unravel_index(int(crossings.argmax()), crossings.shape)
    others = np.delete(own, [first, second])
    area = (2 * reach) ** 2
    return float(area * crossings[first, second] * np.prod(np.minimum(1.0, 2 * _FITS * others)))
