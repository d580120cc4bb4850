"""Frames whose scan is bent: made straight, in place, and the same however the mosaic is cut."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pytest

from cemi_dask.blend import BLENDERS, Average, Feather, blend, render
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Box, Layout
from cemi_dask.simulate import ScanField
from tests.blend.test_shear import FRAME, MIXED, centres, scene, upright_line, whole

METHODS = [cls() for cls in BLENDERS.classes().values()]
FIELD = ScanField(barrel_px=3.0, drift_px=1.5).on(FRAME)


def bent_tiles(picture, *, shear=0.0, seed=0):
    """3 x 3 float frames of `picture` at random places, bent by `FIELD`, and their layout."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.arange(3) * 70.0, 3) + rng.uniform(-4, 4, 9)
    y = np.repeat(np.arange(3) * 50.0, 3) + rng.uniform(-4, 4, 9)
    slant = np.broadcast_to(shear, 9).astype(float)
    layout = Layout(x, y, FRAME, shear=slant, distortion=FIELD).to_origin()
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]].astype(float)
    bend = FIELD.at(columns, rows)
    frames = [
        picture(rows + y0 + bend[..., 1], columns + x0 + s * (rows - 44.5) + bend[..., 0])
        for x0, y0, s in zip(layout.x_px, layout.y_px, layout.shear, strict=True)
    ]
    return np.array(frames, np.float32), layout


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
@pytest.mark.parametrize("shear", [0.0, MIXED], ids=["plain", "sheared"])
def test_mosaic_of_bent_frames_equals_the_scene(method, shear):
    frames, layout = bent_tiles(scene, shear=shear)
    mosaic = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    inside = mosaic[20:-20, 32:-32]  # 9 px of shear, 4 of jitter, 4 cut off, the filter's margin
    y, x = np.mgrid[: mosaic.shape[0], : mosaic.shape[1]]
    assert not np.isnan(inside).any()
    # Once per pass the filter's own error of 0.3 grey levels of +-75.
    assert np.abs(inside - scene(y, x)[20:-20, 32:-32]).max() < 0.8


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_upright_line_is_straight_and_bent_where_the_field_is_not_told(method):
    frames, layout = bent_tiles(upright_line)
    known = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    assert np.abs(centres(known[16:-16]) - 152.3).max() < 0.05
    forgotten = replace(layout, distortion=None)
    bent = render(whole(layout), frames, forgotten, method=method, dtype=np.float32)
    assert np.ptp(centres(bent[16:-16])) > 0.5


def test_gain_and_offset_apply_to_bent_frames():
    layout = replace(
        Layout(np.array([5.2]), np.array([4.7]), FRAME, distortion=FIELD),
        gain=np.array([1.5]),
        offset=np.array([-7.0]),
    )
    frame = np.full((1, *FRAME), 100, np.uint8)
    mosaic = render(Box(0, 0, 100, 140), frame, layout, method=Average(), dtype=np.float32)
    np.testing.assert_allclose(mosaic[np.isfinite(mosaic)], 143.0, atol=1e-3)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
@pytest.mark.parametrize("shard_px", [31, 64])
def test_chunks_equal_whole_with_bent_frames(method, shard_px):
    pixels = np.random.default_rng(0).integers(0, 256, (9, *FRAME), np.uint8)
    _, layout = bent_tiles(scene, shear=MIXED)
    frames = Frames.from_array(pixels)
    with dask.config.set(scheduler="sync"):
        total = blend(frames, layout, method=method, shard_px=4096, dtype="float32")
        pieces = blend(frames, layout, method=method, shard_px=shard_px, dtype="float32")
        assert total.numblocks == (1, 1)
        np.testing.assert_array_equal(pieces.compute(), total.compute())


def test_a_bent_frame_loses_its_curved_sides_and_nothing_else():
    layout = Layout(np.array([10.25]), np.array([3.0]), FRAME, distortion=FIELD)
    mosaic = render(
        Box(0, 0, 100, 140), np.zeros((1, *FRAME), np.uint8), layout, method=Average(), dtype="u1"
    )
    cut = 1 + int(np.ceil(FIELD.max_px))
    expected = np.zeros((100, 140), np.uint8)
    expected[3 + cut : 93 - cut, 10 + cut : 130 - cut] = 1
    np.testing.assert_array_equal(mosaic, expected)


def test_another_field_is_another_mosaic():
    frames, layout = bent_tiles(scene)
    stack = Frames.from_array(frames)
    other = replace(layout, distortion=ScanField(barrel_px=2.0).on(FRAME))
    names = {blend(stack, k, method=Feather()).name for k in (layout, other)}
    assert len(names) == 2
