"""Frames of which nothing is known: partners found on thumbnails, then measured in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from cemi_dask.compute import Compute, named_task
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames, plane
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import Request, measure_all
from cemi_dask.register.candidates import Positions, merged, overlapping, usable
from cemi_dask.register.correlate import Search
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.pair import whole_search
from cemi_dask.register.prepare import Image
from cemi_dask.register.thumbnails import (
    Candidate,
    Lags,
    match_thumbnails,
    reduction,
    thumbnail,
)

_BLOCK = 64  # frames whose thumbnails one item holds twice: about 100 MB
_LEAST = 5.0  # significance; one pair of unrelated thumbnails in a hundred reaches it
_PEAKS = 3  # places per pair: lamellae agree at more than one
_MARGIN = 1.5  # thumbnail pixels that a coarse displacement may be off
_DRIFT = 0.015  # of a frame's size: how far a place reached over several links may be off
_FULL_PAIRS = 1770  # compared at full size where thumbnails leave islands: 60 frames' pairs


def register_unplaced(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> list[PairShift]:
    """Links between frames in any order: only pairs that match are kept.

    Thumbnails of all frames are compared with each other over all displacements. The likely
    partners of each frame are measured at full size near the coarse displacement; the places
    that follow name the rest of the pairs that overlap. Frames still without a link are
    compared at full size with all others, where that is no more than 1770 pairs: their
    structure may be too fine for thumbnails.

    Raises InputError above `max_unplaced_frames`.
    """
    ids = usable(frames)
    if len(ids) > options.max_unplaced_frames:
        raise InputError(
            f"{len(ids)} frames without positions, rows or columns: matching all against all "
            f"stops at {options.max_unplaced_frames}. Give a file-name pattern with row and "
            "column (tiles.pattern), tiles.columns for numbered pictures, stage positions "
            "(tiles.positions), or raise register.max_unplaced_frames: the time grows with "
            "its square."
        )
    factor = reduction(frames.frame_shape, options.thumbnail_px)
    likely = _requests(coarse_candidates(frames, options=options, compute=compute), factor)
    near = measure_all(frames, likely, "likely", options=options, compute=compute)
    pairs = _with_neighbours(frames, near, options=options, compute=compute)
    apart = _between_islands([int(k) for k in ids], pairs)
    if 0 < len(apart) <= _FULL_PAIRS:
        searches = whole_search(frames.frame_shape)
        full = measure_all(
            frames,
            [Request(i, j, searches) for i, j in apart],
            "all",
            options=options,
            compute=compute,
        )
        if any(_holds(p) for p in full):
            pairs = _with_neighbours(frames, merged(pairs, full), options=options, compute=compute)
    return _consistent(frames, pairs)


def _holds(pair: PairShift) -> bool:
    """Whether a pair alone is proof that its frames are neighbours.

    Ambiguous ones are not: any two pictures of the same lamellae agree somewhere.
    """
    return pair.status == "ok"


def _consistent(frames: Frames, pairs: Iterable[PairShift]) -> list[PairShift]:
    """The pairs that hold, and ambiguous ones that can mean the places these lead to."""
    pairs = list(pairs)
    margin = _margin_px(frames)
    kept = {(p.i, p.j): p for p in pairs if _holds(p)}
    for place, _ in _islands(len(frames), pairs):
        for p in pairs:
            step = place[p.j] - place[p.i]
            if p.status == "ambiguous" and np.isfinite(step).all():
                misses = (np.hypot(k.dx_px - step[0], k.dy_px - step[1]) for k in p.peaks)
                if min(misses) <= margin:
                    kept[p.i, p.j] = p
    return [kept[key] for key in sorted(kept)]


def _margin_px(frames: Frames) -> float:
    """How far two frames' places may be off that were reached over several links, px."""
    return _DRIFT * max(frames.frame_shape) + 2


# ---------------------------------------------------------------- thumbnails


def coarse_candidates(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> list[Candidate]:
    """Pairs i < j of usable frames whose thumbnails agree, each frame's best few.

    Items are named ``register-coarse/<block>-<block>``: two blocks of 64 frames compared
    with each other. Thumbnails are made inside the item, so no pixels travel; a frame is read
    once per item that holds it, that is n / 64 times.
    """
    ids = [int(k) for k in usable(frames)]
    blocks = frames.delayed()
    factor = reduction(frames.frame_shape, options.thumbnail_px)
    small = {k: named_task("register-thumbnail", _thumbnail, blocks[k], k, factor) for k in ids}
    parts = [ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK)]
    items = {}
    for a, first in enumerate(parts):
        for b, second in enumerate(parts[a:], start=a):
            both = first if a == b else first + second
            items[f"register-coarse/{a}-{b}"] = named_task(
                "register-coarse",
                _compare,
                [small[k] for k in both],
                (first, second),
                factor,
                options,
            )
    results = compute(items)
    found = [_from_json(entry) for name in items for entry in results[name]]
    return _likely(found, options.partners)


def _thumbnail(block: npt.NDArray[Any], index: int, factor: int) -> Image:
    picture = plane(np.asarray(block))
    if picture.dtype.kind == "f" and not np.isfinite(picture).all():
        raise InputError(
            f"Frame {index}: A frame holds NaN or infinite pixels: repair or leave it out."
        )
    return thumbnail(picture, factor)


def _compare(
    thumbnails: Sequence[Image],
    ids: tuple[Sequence[int], Sequence[int]],
    factor: int,
    options: RegisterOptions,
) -> list[list[Any]]:
    """One item: the likely pairs between two blocks of frames (or inside one), as JSON."""
    first, second = ids
    lags = Lags.of(thumbnails[0].shape, min_overlap=options.min_overlap)
    fixed = lags.stack(thumbnails[: len(first)])
    if first == second:
        moving = fixed
        pairs = list(combinations(range(len(first)), 2))
    else:
        moving = lags.stack(thumbnails[len(first) :])
        pairs = [(a, b) for a in range(len(first)) for b in range(len(second))]
    places = np.array(pairs, np.int64).reshape(-1, 2)
    found = match_thumbnails(fixed, moving, places, lags, least=_LEAST, peaks=_PEAKS)
    numbered = [
        Candidate(
            first[c.i],
            second[c.j],
            tuple(round(x * factor, 2) for x in c.dx_px),
            tuple(round(y * factor, 2) for y in c.dy_px),
            tuple(round(s, 3) for s in c.significance),
        )
        for c in found
    ]
    kept = _likely(numbered, options.partners)
    return [[c.i, c.j, list(c.dx_px), list(c.dy_px), list(c.significance)] for c in kept]


def _from_json(entry: list[Any]) -> Candidate:
    i, j, dx, dy, significance = entry
    return Candidate(i, j, tuple(dx), tuple(dy), tuple(significance))


def _likely(found: Iterable[Candidate], count: int) -> list[Candidate]:
    """Candidates that are among the `count` most significant ones of one of their frames."""
    by_frame: dict[int, list[Candidate]] = {}
    for candidate in sorted(found, key=lambda c: (-c.significance[0], c.i, c.j)):
        for k in (candidate.i, candidate.j):
            by_frame.setdefault(k, []).append(candidate)
    kept = {(c.i, c.j): c for listed in by_frame.values() for c in listed[:count]}
    return [kept[key] for key in sorted(kept)]


def _requests(likely: Iterable[Candidate], factor: int) -> list[Request]:
    """Full-size searches around the places that thumbnails averaged by `factor` gave."""
    margin = _MARGIN * factor + 2
    return [
        Request(
            c.i,
            c.j,
            tuple(Search.around(x, y, margin) for x, y in zip(c.dx_px, c.dy_px, strict=True)),
        )
        for c in likely
    ]


# ---------------------------------------------------------------- what follows from links


def _with_neighbours(
    frames: Frames, pairs: list[PairShift], *, options: RegisterOptions, compute: Compute
) -> list[PairShift]:
    """`pairs`, and all pairs that overlap where the links among them put the frames."""
    held = {(p.i, p.j) for p in pairs if _holds(p)}
    requests = []
    for place, members in _islands(len(frames), pairs):
        found = overlapping(place, members, frames.frame_shape, min_overlap=options.min_overlap)
        margin = _margin_px(frames)
        for i, j in found:
            if (i, j) not in held:
                dx, dy = place[j] - place[i]
                requests.append(Request(i, j, (Search.around(float(dx), float(dy), margin),)))
    again = measure_all(frames, requests, f"follow-{len(held)}", options=options, compute=compute)
    # Where a place is known, a measurement near it counts for more than one anywhere.
    return merged([p for p in pairs if _holds(p)], again)


def _islands(
    count: int, pairs: Iterable[PairShift]
) -> Iterator[tuple[Positions, npt.NDArray[np.int64]]]:
    """(positions (count, 2) px, members) of every set of two and more linked frames.

    Positions follow the tree of the links with the best scores.
    """
    graph = nx.Graph()
    for p in pairs:
        if _holds(p):
            graph.add_edge(p.i, p.j, cost=1 - p.peaks[0].score, pair=p)
    tree = nx.minimum_spanning_tree(graph, weight="cost")
    for members in nx.connected_components(tree):
        place = np.full((count, 2), np.nan)
        start = min(members)
        place[start] = 0.0
        for a, b in nx.bfs_edges(tree, start):
            best = tree.edges[a, b]["pair"].peaks[0]
            sign = 1.0 if a < b else -1.0
            place[b] = place[a] + sign * np.array((best.dx_px, best.dy_px))
        yield place, np.array(sorted(members), np.int64)


def _between_islands(ids: Sequence[int], pairs: Iterable[PairShift]) -> list[tuple[int, int]]:
    """Pairs i < j of frames `ids` that no chain of links joins."""
    graph = nx.Graph()
    graph.add_nodes_from(ids)
    graph.add_edges_from((p.i, p.j) for p in pairs if _holds(p))
    island = {k: n for n, part in enumerate(nx.connected_components(graph)) for k in part}
    return [(a, b) for a, b in combinations(sorted(ids), 2) if island[a] != island[b]]
