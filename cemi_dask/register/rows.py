"""Rows of video frames: chained along x first, then row against row, whose offsets are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from cemi_dask.compute import Compute
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import Request, measure_all
from cemi_dask.register.candidates import (
    Positions,
    expected_requests,
    failed,
    merged,
    nominal_positions,
    overlapping,
    usable,
)
from cemi_dask.register.chain import chain_positions
from cemi_dask.register.correlate import Search
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.stage import measure_near, open_corners
from cemi_dask.register.votes import RowOffset, Vote, agree

_CROSS_SIGMA_PX = 8.0  # of a row-to-row displacement predicted from its neighbours
_REACH_FRAMES = 1.6  # how far apart, in frame widths, the starts of two rows may lie at first


@dataclass(frozen=True)
class RowResult:
    """Pairs of all rows, positions px (n, 2) in one frame of reference, and their sigma px.

    Positions are NaN for rows whose offset was not found; `notes` says which.
    """

    pairs: list[PairShift]
    positions: Positions
    sigma_px: npt.NDArray[np.float64]
    notes: list[str] = field(default_factory=list)


def register_rows(frames: Frames, *, options: RegisterOptions, compute: Compute) -> RowResult:
    """Pairs within and across rows, and where that puts every frame.

    Rows are those of the column `row`; only differences of nominal positions inside one row
    are used. Neighbouring rows must overlap along y; their starts may differ by more than
    a frame in x.
    """
    rows = _rows(frames)
    inner = _within_rows(frames, rows, options=options, compute=compute)
    tracked = nominal_positions(frames)
    local = np.full_like(tracked, np.nan)
    for ids in rows.values():
        members = set(ids.tolist())
        links = [p for p in inner if p.i in members]
        local[ids] = chain_positions(ids, tracked[ids], links, options.track_sigma_px)
        local[ids] -= local[ids].min(axis=0)
    offsets = _row_offsets(frames, rows, local, options=options, compute=compute)
    positions, notes = _joined(rows, local, offsets)
    cross = _across(frames, rows, local, offsets, inner, options=options, compute=compute)
    sigma = np.where(np.isfinite(positions[:, 0]), 20.0, np.inf)
    return RowResult(merged(inner, cross), positions, sigma, notes)


def _rows(frames: Frames) -> dict[int, npt.NDArray[np.int64]]:
    """Row number -> numbers of its frames in the order of recording (unused ones too)."""
    table = frames.table
    out = {}
    for row in sorted(int(r) for r in table["row"].unique()):
        ids = np.flatnonzero(table["row"].to_numpy() == row)
        order = np.argsort(table["source_index"].to_numpy()[ids], kind="stable")
        out[row] = ids[order].astype(np.int64)
    return out


def _within_rows(
    frames: Frames,
    rows: dict[int, npt.NDArray[np.int64]],
    *,
    options: RegisterOptions,
    compute: Compute,
) -> list[PairShift]:
    """Neighbours t, t + 1 and t, t + 2 of every row; what fails is looked for in a wider range."""
    tracked = nominal_positions(frames)
    used = set(usable(frames).tolist())
    wanted: list[tuple[int, int]] = []
    for ids in rows.values():
        live = [int(k) for k in ids if int(k) in used]
        near = {(a, b) for s in (1, 2) for a, b in zip(live, live[s:], strict=False)}
        touching = overlapping(
            tracked, np.array(live, np.int64), frames.frame_shape, min_overlap=options.min_overlap
        )
        wanted += [p for p in touching if p in near or p[::-1] in near]
    sigma = options.track_sigma_px, 8 * options.track_sigma_px
    return measure_near(frames, wanted, sigma, "row", options=options, compute=compute)


def _row_offsets(
    frames: Frames,
    rows: dict[int, npt.NDArray[np.int64]],
    local: Positions,
    *,
    options: RegisterOptions,
    compute: Compute,
) -> dict[tuple[int, int], RowOffset | None]:
    """Where each row lies against the one above it, None where nothing agrees.

    First near the same relative place; rows still unplaced are searched twice as far, then
    with every frame of the next row.
    """
    names = list(rows)
    used = set(usable(frames).tolist())
    offsets: dict[tuple[int, int], RowOffset | None] = {pair: None for pair in pairwise(names)}
    for attempt, reach in enumerate((_REACH_FRAMES, 3 * _REACH_FRAMES)):
        open_pairs = [pair for pair, offset in offsets.items() if offset is None]
        requests: list[Request] = []
        owner: dict[tuple[int, int], tuple[int, int]] = {}
        for above, below in open_pairs:
            live = [[int(k) for k in rows[r] if int(k) in used] for r in (above, below)]
            for a, b in _probes(live, local, frames.frame_shape, reach, options.row_probes):
                key = (min(a, b), max(a, b))
                owner[key] = (above, below)
                requests.append(Request(*key, _probe_searches(frames.frame_shape)))
        stage = f"probe{attempt}"
        found = measure_all(frames, requests, stage, options=options, compute=compute)
        for pair in open_pairs:
            votes = [
                v
                for p in found
                if owner[p.i, p.j] == pair
                for v in _votes(p, set(rows[pair[0]].tolist()), local)
            ]
            offsets[pair] = agree(votes, frames.frame_shape)
    return offsets


def _probe_searches(shape: tuple[int, int]) -> tuple[Search, ...]:
    """Rows overlap along y, whichever way up; along x a probe may be off by most of a frame."""
    h, w = shape
    x = (3 * w) // 4
    return (
        Search(-x, x, -h, h),
        Search(-x, x, (7 * h) // 10, h),
        Search(-x, x, -h, -(7 * h) // 10),
    )


def _probes(
    live: Sequence[Sequence[int]],
    local: Positions,
    shape: tuple[int, int],
    reach: float,
    count: int,
) -> list[tuple[int, int]]:
    """Frames of one row, spread along it, each with the frames of the next row near its place."""
    above, below = live
    if not above or not below:
        return []
    order = sorted(above, key=lambda k: local[k, 0])
    picks = {order[int(q)] for q in np.linspace(0, len(order) - 1, count + 2)[1:-1].round()}
    out = []
    for k in sorted(picks):
        apart = {m: local[m, 0] - local[k, 0] for m in below}
        near = sorted(
            (m for m in below if abs(apart[m]) <= reach * shape[1]), key=apart.__getitem__
        )
        # Half a frame apart is close enough: the search itself spans three quarters.
        last = -np.inf
        for m in near:
            if apart[m] - last >= 0.45 * shape[1]:
                out.append((k, m))
                last = apart[m]
    return out


def _votes(pair: PairShift, above: set[int], local: Positions) -> list[Vote]:
    """The row offset (below minus above) that each peak of a probe implies."""
    flip = pair.i not in above
    a, b = (pair.j, pair.i) if flip else (pair.i, pair.j)
    sign = -1.0 if flip else 1.0
    votes = []
    for peak in pair.peaks:
        dx = local[a, 0] + sign * peak.dx_px - local[b, 0]
        dy = local[a, 1] + sign * peak.dy_px - local[b, 1]
        votes.append(
            Vote(float(local[a, 0]), float(dx), float(dy), peak.score, pair.status != "rejected", a)
        )
    return votes


def _joined(
    rows: dict[int, npt.NDArray[np.int64]],
    local: Positions,
    offsets: dict[tuple[int, int], RowOffset | None],
) -> tuple[Positions, list[str]]:
    """All rows in the frame of reference of the first; a missing step is the median step."""
    known = [o for o in offsets.values() if o is not None]
    place = np.full_like(local, np.nan)
    origin, notes = np.zeros(2), []
    names = list(rows)
    place[rows[names[0]]] = local[rows[names[0]]]
    for above, below in pairwise(names):
        offset = offsets[above, below]
        if offset is not None:
            step = offset.at(None)
        elif known:
            step = np.median([o.at(None) for o in known], axis=0)
            notes.append(
                f"Row {below} shows nothing in common with row {above}: "
                f"it was placed by the median step of the other rows."
            )
        else:
            notes.append(f"Row {below} shows nothing in common with row {above}.")
            break
        origin = origin + step
        place[rows[below]] = local[rows[below]] + origin
    return place, notes


def _across(
    frames: Frames,
    rows: dict[int, npt.NDArray[np.int64]],
    local: Positions,
    offsets: dict[tuple[int, int], RowOffset | None],
    inner: Sequence[PairShift],
    *,
    options: RegisterOptions,
    compute: Compute,
) -> list[PairShift]:
    """Overlapping pairs of neighbouring rows; the failed ones again near their neighbours.

    Pairs that share less than half of a frame's width are measured only where the others and the
    pairs within rows (`inner`) do not tell them (see `open_corners`).
    """
    used = set(usable(frames).tolist())
    live = {row: [int(k) for k in ids if int(k) in used] for row, ids in rows.items()}
    requests: list[Request] = []
    for (above, below), offset in offsets.items():
        if offset is not None:
            requests += _cross_requests(
                (live[above], live[below]), local, offset, frames.frame_shape, options
            )
    half = frames.frame_shape[1] / 2
    sides = [r for r in requests if abs(r.searches[0].x_min + r.searches[0].x_max) / 2 <= half]
    near = measure_all(frames, sides, "cross", options=options, compute=compute)
    told = {(r.i, r.j) for r in sides}
    corners = {(r.i, r.j): r for r in requests if (r.i, r.j) not in told}
    left = [corners[pair] for pair in open_corners([*corners], [*inner, *near])]
    rest = measure_all(frames, left, "cross-corner", options=options, compute=compute)
    first = merged(near, rest)
    retry: list[Request] = []
    for above, below in offsets:
        top = set(live[above])
        mine = [p for p in first if (p.i in top) != (p.j in top)]
        mine = [p for p in mine if {p.i, p.j} <= top | set(live[below])]
        good = [v for p in mine if p.status == "ok" for v in _votes(p, top, local)[:1]]
        lost = {(p.i, p.j) for p in failed(mine)}
        if good and lost:
            ends = [[k for k in live[r] if any(k in q for q in lost)] for r in (above, below)]
            again = _cross_requests(
                (ends[0], ends[1]), local, RowOffset(good), frames.frame_shape, options
            )
            retry += [r for r in again if (r.i, r.j) in lost]
    second = measure_all(frames, retry, "cross-again", options=options, compute=compute)
    return merged(first, second)


def _cross_requests(
    live: tuple[list[int], list[int]],
    local: Positions,
    offset: RowOffset,
    shape: tuple[int, int],
    options: RegisterOptions,
) -> list[Request]:
    """Requests for the pairs of two rows that overlap once the lower one is moved by `offset`."""
    above, below = live
    if not above or not below:
        return []
    place = local.copy()
    for k in below:
        place[k] = local[k] + offset.at(float(local[k, 0] + offset.at(None)[0]))
    ids = np.array([*above, *below], np.int64)
    top = set(above)
    wanted = [
        (i, j)
        for i, j in overlapping(place, ids, shape, min_overlap=options.min_overlap)
        if (i in top) != (j in top)
    ]
    return expected_requests(wanted, place, _CROSS_SIGMA_PX)
