"""Steps by which an overlap repeats itself."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.register.prepare import Image
from cemi_dask.register.repeats import repeats

SHAPE, STEP = (96, 240), (170.0, 3.0)  # of the frames, and their displacement (x, y), px


def looks(*vectors: tuple[float, float], noise: float, patch: bool = False) -> tuple[Image, Image]:
    """Two looks at plane waves of `vectors` in cycles per px, with a patch of texture if asked."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[: SHAPE[0] + 8, : SHAPE[1] + 180]
    scene = np.sum([np.cos(2 * np.pi * (u * xs + v * ys)) for u, v in vectors], axis=0)
    if patch:
        scene[20:70, 180:230] = 2 * rng.standard_normal((50, 50))
    dx, dy = (int(v) for v in STEP)
    seen = scene[: SHAPE[0], : SHAPE[1]], scene[dy : dy + SHAPE[0], dx : dx + SHAPE[1]]
    a, b = (np.asarray(s + noise * rng.standard_normal(s.shape), np.float32) for s in seen)
    return a, b


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_two_waves_repeat_where_whole_periods_of_both_meet(noise: float) -> None:
    steps = repeats(*looks((0.25, 0.0), (0.0, 0.2), noise=noise), STEP, 12)
    assert len(steps)
    assert steps == pytest.approx(np.round(steps / [4, 5]) * [4, 5], abs=0.3)
    assert not len(repeats(*looks((0.25, 0.0), (0.0, 0.2), noise=noise), STEP, 3))


def test_a_patch_of_texture_keeps_lamellae_from_repeating() -> None:
    assert len(repeats(*looks((0.25, 0.03), noise=0.3), STEP, 24))
    assert not len(repeats(*looks((0.25, 0.03), noise=0.3, patch=True), STEP, 24))


def test_pictures_that_do_not_agree_have_no_repeats() -> None:
    a = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    assert repeats(a, -a, (0.0, 0.0), 16).shape == (0, 2)
