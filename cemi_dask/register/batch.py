"""The graph layer of registration: many pairs as a few named lazy items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from cemi_dask.compute import Compute, named_task
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames, plane
from cemi_dask.overlap import PairShift
from cemi_dask.register.correlate import Search
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.pair import measure_prepared
from cemi_dask.register.prepare import Prepared


@dataclass(frozen=True)
class Request:
    """A pair i < j to measure, and the ranges of displacement j - i in which to look."""

    i: int
    j: int
    searches: tuple[Search, ...]


def measure_all(
    frames: Frames,
    requests: Iterable[Request],
    stage: str,
    *,
    options: RegisterOptions,
    compute: Compute,
) -> list[PairShift]:
    """The shift of every requested pair, ordered by (i, j).

    Items are named ``register-pair/<stage>-<first>-<last>`` after the first and last i they
    hold. They are patches of the specimen: neighbours share frames, so each frame is read and
    prepared by few items.
    """
    blocks = frames.delayed()
    shear = frames.table["shear"].to_numpy(float)
    items = {}
    for group in patches(requests, frames.frame_shape, most=options.frames_per_item):
        ids = sorted({r.i for r in group} | {r.j for r in group})
        parts = {k: float(shear[k]) for k in ids}
        items[f"register-pair/{stage}-{group[0].i}-{group[-1].i}"] = named_task(
            "register-pair", _measure_group, [blocks[k] for k in ids], parts, group, options
        )
    results = compute(items) if items else {}
    return [PairShift.from_json(pair) for name in items for pair in results[name]]


def patches(
    requests: Iterable[Request], shape: tuple[int, int], *, most: int
) -> list[list[Request]]:
    """`requests` in groups, ordered by (i, j), of at most `most` different i that lie together.

    Frames are laid out by the displacements expected, in units of their `shape`, and halved
    along the longer side of what they cover until they are few enough (a k-d tree, Bentley 1975).
    """
    of: dict[int, list[Request]] = {}
    for request in sorted(requests, key=lambda r: (r.i, r.j)):
        of.setdefault(request.i, []).append(request)
    place = _laid_out([request for group in of.values() for request in group], shape)
    rest, leaves = [sorted(of)] if of else [], []
    while rest:
        ids = rest.pop()
        if len(ids) <= most:
            leaves.append(sorted(ids))
            continue
        points = np.array([place[i] for i in ids])
        along = points[:, int(np.ptp(points, axis=0).argmax())]
        halves = np.array_split(np.array(ids)[np.argsort(along, kind="stable")], 2)
        rest.extend(half.tolist() for half in halves)
    return [[request for i in leaf for request in of[i]] for leaf in sorted(leaves)]


def _laid_out(
    requests: Sequence[Request], shape: tuple[int, int]
) -> dict[int, npt.NDArray[np.float64]]:
    """About where each frame lies (2) in frame widths and heights, walking from pair to pair."""
    graph = nx.Graph()
    for r in requests:
        search = r.searches[0]
        middle = np.array([search.x_min + search.x_max, search.y_min + search.y_max]) / 2
        graph.add_edge(r.i, r.j, step=middle / (shape[1], shape[0]))
    place: dict[int, npt.NDArray[np.float64]] = {}
    for members in nx.connected_components(graph):
        root = min(members)
        # Without a place of its own, a component starts where its number says, in a row.
        place[root] = np.array([float(root), 0.0])
        for a, b in nx.bfs_edges(graph, root):
            step = graph.edges[a, b]["step"]
            place[b] = place[a] + (step if a < b else -step)
    return place


def _measure_group(
    blocks: Sequence[npt.NDArray[Any]],
    shear: Mapping[int, float],
    requests: Sequence[Request],
    options: RegisterOptions,
) -> list[dict[str, Any]]:
    """One item: `requests`, ordered by i, measured on blocks of frames.

    `shear` maps the frames' numbers, in the order of the blocks, to their shear.
    """
    last = {k: n for n, r in enumerate(requests) for k in (r.i, r.j)}
    pixels = {k: plane(np.asarray(block)) for k, block in zip(shear, blocks, strict=True)}
    ready: dict[int, Prepared] = {}
    results = []
    for n, request in enumerate(requests):
        for k in (request.i, request.j):
            if k not in ready:
                ready[k] = _prepare(pixels[k], k, shear[k], options)
        pair = measure_prepared(
            ready[request.i],
            ready[request.j],
            (request.i, request.j),
            request.searches,
            options=options,
        )
        results.append(pair.to_json())
        if n + 1 == len(requests) or requests[n + 1].i != request.i:
            ready[request.i].forget_gradients()
        for k in {request.i, request.j}:
            if last[k] == n:
                del ready[k]
    return results


def _prepare(
    picture: npt.NDArray[Any], index: int, shear: float, options: RegisterOptions
) -> Prepared:
    try:
        return Prepared(picture, options.highpass_px, options.smooth_px, shear)
    except InputError as error:
        raise InputError(f"Frame {index}: {error}") from error
