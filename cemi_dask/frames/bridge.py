"""Where the unbroken stretches of a row lie, which no measurement links."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cemi_dask.frames.row import RowFollower


def bridge(follower: RowFollower) -> tuple[list[tuple[float, float]], list[str]]:
    """Origin (x, y) in px of every stretch in the row, and a warning for every gap.

    The first stretch starts at (0, 0). Gaps are bridged by the mean of the velocities before
    and after, else by the row's median velocity, or, where no motion could be measured at all,
    by the step that gives the overlap aimed at.
    """
    step_px = (1 - follower.options.target) * follower.shape[1]
    origins = [(0.0, 0.0)]
    warnings = []
    for number, (before, after) in enumerate(pairwise(follower.stretches)):
        last, first = before.last, after.first
        elapsed = first.picture.clock - last.picture.clock
        velocity = _velocity_between(follower, number)
        x, y = step_px, 0.0
        if velocity is not None:
            x, y = velocity[0] * elapsed, velocity[1] * elapsed
        origins.append((origins[-1][0] + last.x_px + x, origins[-1][1] + last.y_px + y))
        basis = (
            "no motion could be measured, so the step is a guess"
            if velocity is None
            else f"placed by the mean velocity ({velocity[0]:.1f} px/s along the row)"
        )
        warnings.append(
            f"recorded frames {last.source_index} and {first.source_index} share nothing "
            f"measurable; {basis}"
        )
    return origins, warnings


def _velocity_between(follower: RowFollower, number: int) -> tuple[float, float] | None:
    """Velocity (x, y; px/s) between stretch `number` and the next; None where none is known."""
    known = []
    for stretch, ends in ((number, slice(-2, None)), (number + 1, slice(0, 2))):
        near = [s for s in follower.sights if s.stretch == stretch][ends]
        if len(near) == 2 and near[1].clock > near[0].clock:
            elapsed = near[1].clock - near[0].clock
            x, y = near[1].x_px - near[0].x_px, near[1].y_px - near[0].y_px
            known.append((x / elapsed, y / elapsed))
    if not known:
        return follower.velocity_px_s()
    x, y = np.mean(known, axis=0)
    return float(x), float(y)
