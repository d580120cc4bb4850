"""Final positions of accepted links, free of priors, with standard deviations."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cemi_dask.solve.links import Flags, Floats, Ints, Links
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.robust import Choice, judge
from cemi_dask.solve.system import factor, normal_matrix, right_side, solve_positions

_HUBER = 2.0  # standard deviations up to which a miss counts quadratically
_UNKNOWN_PX = 100.0  # a standard deviation that tells nothing
_LEAST_SCALE = 0.5  # links may state too much about their errors, but not everything
_SAMPLES = 400  # of the random solutions whose scatter gives sigma: 3.5 % precise
_EXACT = 400  # frames up to which sigma is computed exactly


@dataclass(frozen=True)
class Adjustment:
    """Positions (n, 2) px, sigma (n, 2) px against the centre of each frame's component,
    component numbers (n), and the verdict on every link."""

    place: Floats
    sigma_px: Floats
    component: Ints
    choice: Choice


def adjust(links: Links, start: Floats, used: Flags, options: SolveOptions) -> Adjustment:
    """Weighted least squares over the links that hold at `start`, each island by itself.

    Ambiguous links that nothing confirms (bridges of the graph) are left out. Weights are
    inverse covariances, Huber's beyond 2 standard deviations.
    """
    place = start
    choice = judge(links, place, options)
    accepted = _confirmed(links, choice.accepted, len(start))
    scale = 1.0
    information: Floats = np.zeros((0, 2, 2))
    for _ in range(8):
        live = np.flatnonzero(accepted)
        ends = (links.i[live], links.j[live])
        shift, covariance = (v[live] for v in links.chosen(choice.peak))
        base = _inverse(covariance, options)
        miss = _mahalanobis(place, ends, shift, base)
        scale = _spread(miss, scale, ends, _told(covariance))
        weight = np.minimum(1.0, _HUBER * scale / np.maximum(miss, 1e-12))
        information = base * weight[:, None, None]
        moved = solve_positions(place, ends, shift, information)
        change = float(np.abs(moved - place).max(initial=0.0))
        place = moved
        choice = judge(links, place, options)
        now = _confirmed(links, choice.accepted, len(start))
        if change < 1e-5 and (now == accepted).all():
            break
        accepted = now
    live = np.flatnonzero(accepted)
    ends = (links.i[live], links.j[live])
    component = components(len(start), ends, used)
    if len(information) != len(live):  # the last verdict changed the set of links
        covariance = links.chosen(choice.peak)[1][live]
        information = _inverse(covariance, options)
    sigma = max(_LEAST_SCALE, scale) * standard_deviations(len(start), ends, information, component)
    return Adjustment(place, sigma, component, Choice(choice.peak, accepted, choice.scale_px))


def _inverse(covariance: Floats, options: SolveOptions) -> Floats:
    """Information (m, 2, 2) px^-2 of links, their covariance raised by the floor."""
    return np.asarray(np.linalg.inv(covariance + np.eye(2) * options.floor_px**2), np.float64)


def _mahalanobis(place: Floats, ends: tuple[Ints, Ints], shift: Floats, base: Floats) -> Floats:
    off = place[ends[1]] - place[ends[0]] - shift
    return np.asarray(np.sqrt(np.einsum("ma,mab,mb->m", off, base, off)))


def _told(covariance: Floats) -> int:
    """How many numbers links with covariances (m, 2, 2) px^2 tell: two each, one on a lattice."""
    return int((np.linalg.eigvalsh(covariance) < _UNKNOWN_PX**2).sum())


def _spread(miss: Floats, scale: float, ends: tuple[Ints, Ints], told: int) -> float:
    """Standard deviation of misses in units of their expected one, by Huber's weights.

    Of the numbers `told`, positions fitted to the links take as many as frames have, less
    those of one frame per island. 0.922 is the part of a 2-d normal sum of squares that the
    weights keep. Without redundant links the stated covariances are all there is: 1.
    """
    touched, places = np.unique(np.concatenate(ends), return_inverse=True)
    shape = len(touched), len(touched)
    links = coo_array((np.ones(len(miss)), places.reshape(2, -1)), shape=shape)
    islands = connected_components(links, directed=False)[0]
    free = told - 2 * (len(touched) - islands)
    if free <= 0:
        return 1.0
    weight = np.minimum(1.0, _HUBER * scale / np.maximum(miss, 1e-12))
    return max(1e-3, float(np.sqrt((weight * miss**2).sum() / (0.922 * free))))


def _confirmed(links: Links, accepted: Flags, n: int) -> Flags:
    """`accepted` without ambiguous links on which a connection hangs alone."""
    doubtful = accepted & ~links.sure
    if not doubtful.any():
        return accepted
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(zip(links.i[accepted], links.j[accepted], strict=True))
    bridges = {frozenset((int(a), int(b))) for a, b in nx.bridges(graph)}
    alone = np.array(
        [frozenset((int(a), int(b))) in bridges for a, b in zip(links.i, links.j, strict=True)]
    )
    return np.asarray(accepted & ~(doubtful & alone), bool)


def components(n: int, ends: tuple[Ints, Ints], used: Flags) -> Ints:
    """Component number (n): islands of used frames by size, largest 0, then unused frames."""
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(zip(ends[0].tolist(), ends[1].tolist(), strict=True))
    islands = sorted(
        (sorted(members) for members in nx.connected_components(graph)),
        key=lambda members: (not used[members].any(), -len(members), members[0]),
    )
    number = np.zeros(n, np.int64)
    for k, members in enumerate(islands):
        number[members] = k
    return number


def standard_deviations(
    n: int, ends: tuple[Ints, Ints], information: Floats, component: Ints
) -> Floats:
    """Sigma (n, 2) px of every position against the centre of its component.

    From the inverse normal matrix: exactly for small sets, else from the scatter of 400
    solutions for random links (seeded), which costs 400 sparse solves whatever n is.
    """
    if not len(ends[0]):
        return np.zeros((n, 2))
    lu = factor(normal_matrix(n, ends, information))
    if n <= _EXACT:
        draws = lu.solve(_forces_exact(n, ends, information))
    else:
        draws = lu.solve(_forces_random(n, ends, information))
    draws = draws.reshape(n, 2, -1)
    count = np.bincount(component).astype(float)
    centre = np.zeros((len(count), 2, draws.shape[2]))
    np.add.at(centre, component, draws)
    draws = draws - (centre / count[:, None, None])[component]
    total = np.einsum("nak,nak->na", draws, draws)
    return np.asarray(np.sqrt(total if n <= _EXACT else total / _SAMPLES))


def _roots(information: Floats) -> Floats:
    """Matrix square roots (m, 2, 2) of information matrices."""
    values, vectors = np.linalg.eigh(information)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[:, None, :])


def _forces_exact(n: int, ends: tuple[Ints, Ints], information: Floats) -> Floats:
    """One column per link and axis: the force of a miss of one standard deviation."""
    m = len(ends[0])
    root = _roots(information)
    out = np.zeros((n, 2, 2 * m))
    for axis in (0, 1):
        cols = np.arange(m) * 2 + axis
        for a in (0, 1):
            out[ends[1], a, cols] += root[:, a, axis]
            out[ends[0], a, cols] -= root[:, a, axis]
    return out.reshape(2 * n, 2 * m)


def _forces_random(n: int, ends: tuple[Ints, Ints], information: Floats) -> Floats:
    """One column per draw: forces of random misses of every link."""
    rng = np.random.default_rng(0)
    root = _roots(information)
    columns = [
        right_side(n, ends, np.einsum("mab,mb->ma", root, rng.standard_normal((len(root), 2))))
        for _ in range(_SAMPLES)
    ]
    return np.stack(columns, axis=1)
