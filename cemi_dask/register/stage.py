"""Tiles with stage positions: pairs whose boxes overlap, searched near their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cemi_dask.compute import Compute
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import measure_all
from cemi_dask.register.candidates import (
    Positions,
    expected_requests,
    failed,
    merged,
    nominal_positions,
    overlapping,
    usable,
)
from cemi_dask.register.options import RegisterOptions

_AGREE_PX = 1.0  # between two ways round to a corner: one lamella apart is further


def register_stage(
    frames: Frames, *, options: RegisterOptions, compute: Compute
) -> list[PairShift]:
    """Pairs whose nominal boxes overlap; what fails is looked for four times as far.

    Pairs that share little more than a corner are measured only where the pairs that share a
    side do not tell their displacement twice over (see `open_corners`).
    """
    place = nominal_positions(frames)
    pairs = overlapping(place, usable(frames), frames.frame_shape, min_overlap=options.min_overlap)
    sides, corners = sides_and_corners(pairs, place, frames.frame_shape)
    sigma = options.stage_sigma_px, 4 * options.stage_sigma_px
    found = measure_near(frames, sides, sigma, "stage", options=options, compute=compute)
    left = open_corners(corners, found)
    rest = measure_near(frames, left, sigma, "corner", options=options, compute=compute)
    return merged(found, rest)


def measure_near(
    frames: Frames,
    pairs: Sequence[tuple[int, int]],
    sigma_px: tuple[float, float],
    stage: str,
    *,
    options: RegisterOptions,
    compute: Compute,
) -> list[PairShift]:
    """`pairs` searched near their nominal places, and what fails again in the second range."""
    place = nominal_positions(frames)
    requests = expected_requests(pairs, place, sigma_px[0])
    first = measure_all(frames, requests, stage, options=options, compute=compute)
    retry = expected_requests([(p.i, p.j) for p in failed(first)], place, sigma_px[1])
    again = measure_all(frames, retry, f"{stage}-again", options=options, compute=compute)
    return merged(first, again)


def sides_and_corners(
    pairs: Sequence[tuple[int, int]], place: Positions, shape: tuple[int, int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """`pairs` whose boxes share half of a frame's height or width, and the rest of them."""
    sides: list[tuple[int, int]] = []
    corners: list[tuple[int, int]] = []
    for i, j in pairs:
        dx, dy = np.abs(place[j] - place[i])
        (sides if dx <= shape[1] / 2 or dy <= shape[0] / 2 else corners).append((i, j))
    return sides, corners


def open_corners(
    corners: Sequence[tuple[int, int]], sides: Sequence[PairShift]
) -> list[tuple[int, int]]:
    """The corner pairs that accepted `sides` leave open.

    Settled is a pair to which two or more ways of two accepted sides lead that agree within
    1 px: measuring it too adds next to nothing (its overlap is the smallest), and any side
    that failed or is wrong leaves all corners around it open.
    """
    step: dict[int, dict[int, complex]] = {}  # frame -> its neighbour -> displacement x + iy
    for pair in sides:
        if pair.status == "ok":
            best = complex(pair.peaks[0].dx_px, pair.peaks[0].dy_px)
            step.setdefault(pair.i, {})[pair.j] = best
            step.setdefault(pair.j, {})[pair.i] = -best
    left = []
    for i, j in corners:
        ahead, behind = step.get(i, {}), step.get(j, {})
        ways = [ahead[k] - behind[k] for k in sorted(ahead.keys() & behind.keys())]
        if len(ways) < 2 or max(abs(way - ways[0]) for way in ways) > _AGREE_PX:
            left.append((i, j))
    return left
