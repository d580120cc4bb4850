"""Tiles with stage positions: pairs whose boxes overlap, searched near their places."""

from __future__ import annotations

from cemi_dask.compute import Compute
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import measure_all
from cemi_dask.register.candidates import (
    expected_requests,
    failed,
    merged,
    nominal_positions,
    overlapping,
    usable,
)
from cemi_dask.register.options import RegisterOptions


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
