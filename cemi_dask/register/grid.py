"""Tiles of a grid whose pitch is not known: neighbours agree on one displacement per direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cemi_dask.compute import Compute
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift, Peak
from cemi_dask.register.batch import Request, measure_all
from cemi_dask.register.candidates import Positions, merged, usable
from cemi_dask.register.correlate import Search
from cemi_dask.register.options import RegisterOptions

_DIRECTIONS = {"right": (0, 1), "below": (1, 0)}
_RANGES = ((20, 65), (60, 85), (80, 100))  # displacements of neighbours, % of a frame's side
_AGREE = 0.04  # of the frame's size: how far real pitches of one direction scatter


def neighbours(frames: Frames) -> dict[str, list[tuple[int, int]]]:
    """Pairs (frame, its neighbour) per direction, from the columns row and col.

    The order is along the direction, so the second number may be the smaller one. Raises
    InputError where two frames share a place.
    """
    ids = usable(frames)
    places: dict[tuple[int, int], int] = {}
    table = frames.table
    for k, row, col in zip(ids, table["row"].iloc[ids], table["col"].iloc[ids], strict=True):
        if (int(row), int(col)) in places:
            raise InputError(
                f"Frames {places[int(row), int(col)]} and {k} are both at row {row}, column "
                f"{col}. Correct the grid's pattern or order."
            )
        places[int(row), int(col)] = int(k)
    return {
        name: [
            (k, places[r + dr, c + dc])
            for (r, c), k in sorted(places.items())
            if (r + dr, c + dc) in places
        ]
        for name, (dr, dc) in _DIRECTIONS.items()
    }


def register_grid(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> tuple[list[PairShift], Positions]:
    """Pairs of direct neighbours, and the position px (n, 2) that the common pitch predicts.

    A wide search comes first; what disagrees with the consensus of its direction, or found
    nothing, is measured again close to the consensus. Positions are NaN where a direction
    has no consensus.
    """
    links = neighbours(frames)
    shape = frames.frame_shape
    first, by_direction = _wide_both_ways(frames, links, options=options, compute=compute)
    again: list[Request] = []
    pitch: dict[str, tuple[float, float]] = {}
    for name, pairs in links.items():
        found = by_direction[name]
        centre = consensus(found, shape)
        if centre is None:
            continue
        pitch[name] = (centre[0], centre[1])
        margin = max(_AGREE * max(shape), 3 * centre[2])
        for (a, b), pair in zip(pairs, found, strict=True):
            if not _agrees(pair, centre, margin):
                again.append(_request(a, b, (Search.around(centre[0], centre[1], margin),)))
    second = measure_all(frames, again, "grid-again", options=options, compute=compute)
    # An irregular pitch is real: what passed the null test falls only to a better result.
    return merged(first, second), _predicted(frames, pitch)


def _wide_both_ways(
    frames: Frames,
    links: dict[str, list[tuple[int, int]]],
    *,
    options: RegisterOptions,
    compute: Compute,
) -> tuple[list[PairShift], dict[str, list[PairShift]]]:
    """First measurements: of all pairs, and per direction counted along it.

    Columns may be numbered against x and rows against y: a direction in which most pairs
    with texture fail is searched the other way too, and the better way is kept.
    """
    shape = frames.frame_shape
    best: dict[str, list[PairShift]] = {}
    for stage, sign in (("grid", 1), ("grid-turned", -1)):
        wanted = {name: pairs for name, pairs in links.items() if _unsettled(best.get(name))}
        requests = [
            _request(a, b, _wide(name, shape, sign))
            for name, pairs in wanted.items()
            for a, b in pairs
        ]
        measured = measure_all(frames, requests, stage, options=options, compute=compute)
        by_pair = {(p.i, p.j): p for p in measured}
        for name, pairs in wanted.items():
            found = [_directed(by_pair[min(a, b), max(a, b)], a) for a, b in pairs]
            if name not in best or _strength(found) > _strength(best[name]):
                best[name] = found
    starts = {name: [a for a, _ in pairs] for name, pairs in links.items()}
    first = [
        _directed(pair, start)
        for name, found in best.items()
        for pair, start in zip(found, starts[name], strict=True)
    ]
    return first, best


def _unsettled(found: list[PairShift] | None) -> bool:
    """Whether fewer than half of the pairs with texture were measured."""
    if found is None:
        return True
    textured = [p for p in found if p.status != "empty"]
    return sum(p.status == "ok" for p in textured) * 2 < len(textured)


def _strength(found: list[PairShift]) -> float:
    return sum(p.peaks[0].score for p in found if p.status == "ok")


def _wide(name: str, shape: tuple[int, int], sign: int) -> tuple[Search, ...]:
    """Neighbours along one axis: large, middle and narrow overlaps, each searched by itself.

    Only what can overlap takes part in a correlation, so a narrow overlap is not drowned.
    """
    h, w = shape
    length, across = (w, h // 3) if name == "right" else (h, w // 3)
    parts = [
        tuple(sorted((sign * length * a // 100, sign * length * b // 100))) for a, b in _RANGES
    ]
    if name == "right":
        return tuple(Search(a, b, -across, across) for a, b in parts)
    return tuple(Search(-across, across, a, b) for a, b in parts)


def _request(a: int, b: int, searches: tuple[Search, ...]) -> Request:
    if a < b:
        return Request(a, b, searches)
    turned = (Search(-s.x_max, -s.x_min, -s.y_max, -s.y_min) for s in searches)
    return Request(b, a, tuple(turned))


def _directed(pair: PairShift, start: int) -> PairShift:
    """The pair with its displacements turned where `start` is not its frame i (and back)."""
    if pair.i == start:
        return pair
    peaks = tuple(Peak(-p.dx_px, -p.dy_px, p.score, p.cov_px2) for p in pair.peaks)
    return replace(pair, peaks=peaks)


def consensus(
    pairs: Sequence[PairShift], shape: tuple[int, int]
) -> tuple[float, float, float] | None:
    """(dx, dy, scatter) px on which most pairs agree, None where nothing was found.

    Votes are the best peaks of accepted pairs, and, with a small weight, those of rejected
    ones; the place with the largest total score within 4 % of a frame wins.
    """
    votes = np.array(
        [
            (p.peaks[0].dx_px, p.peaks[0].dy_px, p.peaks[0].score * weight)
            for p in pairs
            if p.peaks
            for weight in (1.0 if p.status in ("ok", "ambiguous") else 0.2,)
        ]
    )
    if not len(votes):
        return None
    radius = _AGREE * max(shape)
    apart = np.abs(votes[:, None, :2] - votes[None, :, :2]).max(axis=2)
    total = (np.maximum(votes[:, 2], 0) * (apart <= radius)).sum(axis=1)
    near = votes[apart[int(total.argmax())] <= radius]
    centre = np.median(near[:, :2], axis=0)
    scatter = 1.4826 * float(np.median(np.abs(near[:, :2] - centre).max(axis=1)))
    return float(centre[0]), float(centre[1]), scatter


def _agrees(pair: PairShift, centre: tuple[float, float, float], margin: float) -> bool:
    if pair.status not in ("ok", "ambiguous"):
        # Without texture a second look finds nothing either.
        return pair.status == "empty"
    best = pair.peaks[0]
    return max(abs(best.dx_px - centre[0]), abs(best.dy_px - centre[1])) <= margin


def _predicted(frames: Frames, pitch: dict[str, tuple[float, float]]) -> Positions:
    row = frames.table["row"].to_numpy(float)
    col = frames.table["col"].to_numpy(float)
    place = np.zeros((len(frames), 2))
    for index, name in ((col, "right"), (row, "below")):
        step = pitch.get(name, (np.nan, np.nan))
        if np.ptp(index) > 0:
            place += (index - index.min())[:, None] * np.asarray(step)
    return place
