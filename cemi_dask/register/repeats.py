"""Where an overlap would agree with itself a step away: rivals of the displacement found there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from cemi_dask.register.correlate import (
    Search,
    correlate,
    overlap_boxes,
    overlap_score,
    parabola_vertex,
)
from cemi_dask.register.prepare import Image

_PEAKS = 24  # of the autocorrelation that are looked at
_LEAST_AWAY_PX = 1.5  # of those: nearer is the slope of the middle
_WORTH = 0.85  # of the score found: interpolation between px adds or takes some of it


def repeats(
    fixed: Image, moving: Image, place: tuple[float, float], reach_px: int
) -> npt.NDArray[np.float64]:
    """Steps (k, 2) px, best first, by which the overlap of two pictures nearly repeats itself.

    The pictures (y, x) share an overlap at the displacement `place` (dx, dy) px; steps of up to
    `reach_px` along either axis are peaks of its autocorrelation, as lamellae, several colonies
    of them, or any pattern that comes again have. Their scores are those of one picture with
    the other: noise is not the same in both.
    """
    box = overlap_boxes((fixed.shape[0], fixed.shape[1]), round(place[0]), round(place[1]))[0]
    reach = min(reach_px, min(box.shape) // 2)
    least = _WORTH * overlap_score(fixed, moving, *place)[0]
    if reach < _LEAST_AWAY_PX or least <= 0:
        return np.zeros((0, 2))
    part = np.ascontiguousarray(fixed[box.slices])
    found = correlate(part, part, Search(-reach, reach, -reach, reach), whitening=0.0)
    away = np.abs(np.arange(-reach, reach + 1))
    # Fewer px overlap the further the step: else far repetitions would hide behind near ones.
    shared = np.outer(box.shape[0] - away, box.shape[1] - away)
    level = np.asarray(found.surface / shared, np.float32)
    tops = (level >= scipy.ndimage.maximum_filter(level, 3)) & (level > 0)
    order = sorted(np.argwhere(tops).tolist(), key=lambda at: -level[at[0], at[1]])
    scored = []
    for y, x in order[:_PEAKS]:
        step = np.array(parabola_vertex(level, x, y)) - reach
        score = overlap_score(fixed, moving, *(np.asarray(place) + step))[0]
        if score >= least and np.hypot(*step) >= _LEAST_AWAY_PX:
            scored.append((score, *step))
    return np.array(sorted(scored, reverse=True), float).reshape(-1, 3)[:, 1:]
