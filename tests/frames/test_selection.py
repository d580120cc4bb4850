"""Frames are taken at the overlap asked for, also where that is much more than stitching needs."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.selection import Candidate, Selector
from cemi_dask.frames.video import Picture


def taken_overlaps(recorded: int, step_px: float, options: SelectionOptions) -> np.ndarray:
    """Overlaps of the frames taken from a row that moves `step_px` per recorded frame."""
    width, taken = 810, []
    selector = Selector((608, width), options, taken.append)
    picture = np.zeros((1, 1), np.uint8)
    for k in range(recorded):
        newest = Candidate(Picture(k, k, 0.1 * k, picture), k * step_px, 0.0)
        selector.add(newest)
    selector.finish(newest)
    return 1 - np.diff([candidate.x_px for candidate in taken]) / width


@pytest.mark.parametrize("looks", [2, 3, 5, 12])
def test_the_gradient_film_gives_its_63_frames(looks: int) -> None:
    options = SelectionOptions(overlap_min=0.78, overlap_max=0.88, overlap_target=0.835)
    overlaps = taken_overlaps(62 * looks + 1, 133.6 / looks, options)
    # What is recorded allows 133.6 px (83.5 %) exactly.
    assert len(overlaps) == 62
    assert overlaps == pytest.approx(0.835, abs=0.001)


def test_the_default_keeps_its_bounds_with_few_frames() -> None:
    options = SelectionOptions()
    overlaps = taken_overlaps(400, 37.0, options)
    assert overlaps.min() >= options.overlap_min
    assert overlaps.max() <= options.overlap_max
    # 399 x 37 px at the 58 % of a frame that the default aims at.
    assert len(overlaps) == pytest.approx(399 * 37 / (0.58 * 810), abs=2)
