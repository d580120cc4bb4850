"""Positions from links some of which are wrong: annealed re-weighting with many peak swaps."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from cemi_dask.solve.links import Flags, Floats, Ints, Links, Priors
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.system import solve_positions

_ROUNDS = 60
_COOLING = 1.5
_SWAP_PX = 10.0  # a miss worth, in outlier limits, a peak without any score
_AMBIGUOUS_WEIGHT = 0.1  # until loops have decided, ambiguous links hardly pull


@dataclass(frozen=True)
class Choice:
    """Which peak each link uses (m), whether it is accepted (m), and the links' usual miss px."""

    peak: Ints
    accepted: Flags
    scale_px: float


def judge(links: Links, place: Floats, options: SolveOptions) -> Choice:
    """What positions (n, 2) say of every link: its peak, and whether it holds.

    A link takes the peak nearest to the solution if that one holds, else its best one. It
    holds within the larger of `outlier_px` and `outlier_sigmas` usual misses.
    """
    m = len(links)
    if not m:
        return Choice(np.zeros(0, np.int64), np.zeros(0, bool), 0.0)
    misses = np.nan_to_num(links.misses(place), nan=np.inf)
    if not options.swap_peaks:
        misses[:, 1:] = np.inf
    nearest = misses.argmin(axis=1).astype(np.int64)
    miss = misses[np.arange(m), nearest]
    scale = _usual_miss(links, miss)
    accepted = links.usable & (miss <= max(options.outlier_px, options.outlier_sigmas * scale))
    return Choice(np.where(accepted, nearest, 0), accepted, scale)


def _usual_miss(links: Links, miss: Floats) -> float:
    """Robust standard deviation px of the misses (m) of sure links.

    Where frames are distorted, loops of few links may close by chance, or put all of the
    distortion on one link: what the links state of themselves is the least.
    """
    sure = links.sure & np.isfinite(miss)
    if not sure.any():
        return 0.0
    stated = np.sqrt(np.einsum("maa->m", links.covariance[sure, 0]) / 2)
    return max(1.4826 * float(np.median(miss[sure])), float(np.median(stated)))


def start_positions(links: Links, priors: Priors) -> Floats:
    """First positions (n, 2): expected ones, else along the best-scored tree of links."""
    place = priors.place.copy()
    if priors.known.all():
        return place
    graph = nx.Graph()
    graph.add_nodes_from(range(len(place)))
    for r in np.flatnonzero(links.usable):
        sure = 1.0 if links.sure[r] else 0.1
        graph.add_edge(
            int(links.i[r]), int(links.j[r]), score=sure * float(links.score[r, 0]), link=int(r)
        )
    tree = nx.maximum_spanning_tree(graph, weight="score")
    for members in nx.connected_components(tree):
        known = [k for k in sorted(members) if priors.known[k]]
        root = known[0] if known else min(members)
        if not known:
            place[root] = 0.0
        for a, b in nx.bfs_edges(tree, root):
            if not np.isfinite(place[b]).all():
                r = tree.edges[a, b]["link"]
                sign = 1.0 if links.i[r] == a else -1.0
                place[b] = place[a] + sign * links.shift[r, 0]
    return place


def robust_positions(links: Links, priors: Priors, options: SolveOptions) -> Floats:
    """Positions (n, 2) px that most links agree on, expected positions helping weakly.

    Geman-McClure weights whose width shrinks from the largest miss to the outlier limit
    (graduated non-convexity, Yang et al. 2020). In each round every link may swap its peak:
    a peak's cost is its miss and, in several widths, how far its score is behind.
    """
    place = start_positions(links, priors)
    live = np.flatnonzero(links.usable)
    if not len(live):
        return place
    ends = (links.i[live], links.j[live])
    shift, covariance = links.shift[live], links.covariance[live]
    best = np.maximum(links.score[live].max(axis=1, keepdims=True), 1e-6)
    behind = np.where(np.isnan(shift[:, :, 0]), np.inf, 1 - links.score[live] / best)
    if not options.swap_peaks:
        behind[:, 1:] = np.inf
    trust = _trust(links)[live]
    expected = priors.place.copy()
    known = priors.known
    expected[~known] = place[~known]
    rows = np.arange(len(live))
    width = 0.0
    for turn in range(_ROUNDS):
        step = place[ends[1]] - place[ends[0]]
        misses = np.nan_to_num(np.linalg.norm(shift - step[:, None], axis=2), nan=np.inf)
        if turn == 0:
            width = max(10.0, float(misses[:, 0].max()))
        # No swaps while positions are still far from where the best peaks put them.
        penalty = max(5 * width, _SWAP_PX * options.outlier_px)
        peak = (misses**2 + (penalty * behind) ** 2).argmin(axis=1)
        miss = misses[rows, peak]
        every = np.full(len(links), np.nan)
        every[live] = miss
        least = max(options.outlier_px, 3 * _usual_miss(links, every))
        weight = trust * (width**2 / (width**2 + miss**2)) ** 2
        floor = np.eye(2) * max(options.floor_px, width / 10) ** 2
        information = np.linalg.inv(covariance[rows, peak] + floor) * weight[:, None, None]
        pull = _prior_weight(place, expected, priors, known)
        # Anchoring at `expected` is least squares with the expected positions as data.
        moved = solve_positions(expected, ends, shift[rows, peak], information, pull)
        change = float(np.abs(moved - place).max())
        place = moved
        if width <= least and change < 1e-3:
            break
        width = max(least, width / _COOLING)
    return place


def _trust(links: Links) -> Floats:
    """How much each link (m) is believed before loops are looked at, 0..1.

    Parts of an overlap disagree at a wrong peak: there the link's own standard deviation is
    many times the usual one, and its score is lower.
    """
    sigma = np.sqrt(np.einsum("maa->m", links.covariance[:, 0]))
    score = np.maximum(links.score[:, 0], 0.0)
    if not links.sure.any():
        return np.where(links.usable, _AMBIGUOUS_WEIGHT, 0.0)
    usual = float(np.median(sigma[links.sure]))
    good = min(1.0, float(np.median(score[links.sure])))
    trust = np.minimum(1.0, (score / max(good, 1e-3)) ** 2) / (1 + (sigma / (5 * usual)) ** 2)
    return np.asarray(trust * np.where(links.sure, 1.0, _AMBIGUOUS_WEIGHT))


def _prior_weight(place: Floats, expected: Floats, priors: Priors, known: Flags) -> Floats:
    """Weight px^-2 (n) of each expected position, small where links contradict it."""
    off = np.linalg.norm(place - expected, axis=1)
    # Ten times softer than stated: links alone shape an island, also while they are unsettled.
    sigma = np.where(known, 10 * priors.sigma_px, 1e4)
    return np.asarray((1 / (1 + (off / sigma) ** 2)) ** 2 / sigma**2)
