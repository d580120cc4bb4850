"""Rows against each other: which offset the probes along them agree on."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.register.votes import Vote, agree

SHAPE = (690, 1024)
TRUTH = (-12.0, 437.0)


def votes(
    length_px: float, off: tuple[float, float], score: float, *, first: int = 0
) -> list[Vote]:
    """One vote for the offset `off` from TRUTH at each of eight places along a row."""
    places = np.linspace(0, length_px, 8)
    x, y = TRUTH[0] + off[0], TRUTH[1] + off[1]
    return [Vote(float(p), x, y, score, True, first + k) for k, p in enumerate(places)]


@pytest.mark.parametrize("length_px", [5_000.0, 123_000.0])
def test_rival_peaks_of_lamellae_do_not_hide_the_offset_of_a_row(length_px: float) -> None:
    right = votes(length_px, (0, 0), 0.9)
    # Each probe's own lattice: elsewhere at each place, nearly as good as the truth.
    rng = np.random.default_rng(0)
    wrong = [
        vote
        for k in range(4)
        for one in [votes(length_px, (0, 0), 0.8)[k]]
        for dx, dy in rng.uniform(35, 70, (3, 2)) * rng.choice([-1, 1], (3, 2))
        for vote in [Vote(one.x_px, one.dx_px + dx, one.dy_px + dy, 0.8, True, one.probe)]
    ]
    found = agree([*wrong, *right], SHAPE)
    assert found is not None
    assert found.at(None) == pytest.approx(TRUTH, abs=0.1)


def test_two_offsets_with_as_many_probes_each_are_refused() -> None:
    other = votes(123_000.0, (300, 0), 0.9, first=8)
    assert agree([*votes(123_000.0, (0, 0), 0.9), *other], SHAPE) is None
    assert agree([], SHAPE) is None
