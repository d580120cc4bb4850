"""Tiles with stage positions, and frames of which nothing is known."""

from __future__ import annotations

from cemi_dask.compute import Compute
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import Request, measure_all
from cemi_dask.register.candidates import (
    expected_requests,
    failed,
    merged,
    nominal_positions,
    overlapping,
    usable,
)
from cemi_dask.register.grid import all_pairs
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.pair import whole_search


def register_stage(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> list[PairShift]:
    """All pairs whose nominal boxes overlap; what fails is looked for four times as far."""
    place = nominal_positions(frames)
    pairs = overlapping(place, usable(frames), frames.frame_shape, min_overlap=options.min_overlap)
    requests = expected_requests(pairs, place, options.stage_sigma_px)
    first = measure_all(frames, requests, "stage", options=options, compute=compute)
    retry = expected_requests(
        [(p.i, p.j) for p in failed(first)], place, 4 * options.stage_sigma_px
    )
    second = measure_all(frames, retry, "stage-again", options=options, compute=compute)
    return merged(first, second)


def register_unplaced(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> list[PairShift]:
    """Every frame against every other over all displacements; only pairs that match are kept.

    Raises InputError above `max_unplaced_frames`.
    """
    ids = usable(frames)
    if len(ids) > options.max_unplaced_frames:
        raise InputError(
            f"{len(ids)} frames without positions, rows or columns: matching all against all "
            f"stops at {options.max_unplaced_frames}. Give a file-name pattern with row and "
            f"column, stage positions, or raise register.max_unplaced_frames."
        )
    searches = whole_search(frames.frame_shape)
    requests = [Request(i, j, searches) for i, j in all_pairs(int(k) for k in ids)]
    found = measure_all(frames, requests, "all", options=options, compute=compute)
    return [p for p in found if p.status in ("ok", "ambiguous")]
