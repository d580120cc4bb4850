"""What every blending method keeps: its shards, its borders, its word on noise and memory."""

from __future__ import annotations

import tracemalloc

import dask
import numpy as np
import pytest

from cemi_dask.blend import BLENDERS, Multiband, Nearest, blend, render
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Box, Layout

NAMES = list(BLENDERS.classes())
# Small frames allow two coarser bands; asking for two makes the halo as small as it can be.
METHODS = [*map(BLENDERS.parse, NAMES), Multiband(levels=2)]
IDS = [*NAMES, "multiband-2"]
FRAME = (90, 120)

every_method = pytest.mark.parametrize("method", METHODS, ids=IDS)


def uneven(rows=3, cols=4, seed=0):
    """A layout with every oddity: shears, gains, offsets, fractions of px, a hole in the grid."""
    rng = np.random.default_rng(seed)
    n = rows * cols
    x = np.tile(np.arange(cols) * 62.0, rows) + rng.uniform(-5, 5, n)
    y = np.repeat(np.arange(rows) * 50.0, cols) + rng.uniform(-5, 5, n)
    return Layout(
        x,
        y,
        FRAME,
        gain=rng.uniform(0.9, 1.1, n),
        offset=rng.uniform(-5, 5, n),
        shear=rng.choice([0.0, 0.1, -0.1, 0.03], n),
        used=np.arange(n) != 5,
    ).to_origin()


def noise_frames(layout, seed=0):
    shape = (len(layout), *layout.frame_shape)
    return np.random.default_rng(seed).integers(1, 255, shape, np.uint8)


def mosaic_of(layout, frames, method, dtype="float32"):
    return render(Box(0, 0, *layout.shape), frames, layout, method=method, dtype=dtype)


@every_method
@pytest.mark.parametrize("shard_px", [23, 64, 117])
def test_chunks_equal_whole_to_the_bit(method, shard_px):
    layout = uneven()
    frames = Frames.from_array(noise_frames(layout))
    whole = mosaic_of(layout, noise_frames(layout), method)
    with dask.config.set(scheduler="sync"):
        pieces = blend(frames, layout, method=method, shard_px=shard_px, dtype="float32").compute()
    assert pieces.shape == layout.shape
    np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("shard_px", [190, 256])
def test_chunks_equal_whole_with_all_levels_of_multiband(shard_px):
    method = Multiband(levels=5)
    shape = (512, 530)
    assert method.levels_for(shape) == 5
    rng = np.random.default_rng(1)
    layout = Layout(np.array([0.0, 301.3, 10.6]), np.array([0.0, 4.5, 290.2]), shape)
    pixels = rng.integers(1, 255, (3, *shape), np.uint8)
    whole = mosaic_of(layout, pixels, method)
    lazy = blend(
        Frames.from_array(pixels), layout, method=method, shard_px=shard_px, dtype="float32"
    )
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), whole)


@every_method
def test_what_lies_beyond_the_halo_does_not_matter(method):
    layout = uneven(5, 8, seed=2)
    frames = noise_frames(layout, seed=2)
    box = Box(60, 130, 100, 170)
    near = layout.frames_in(box.expand(method.halo_px))
    far = np.setdiff1d(np.flatnonzero(layout.used), near)
    assert len(near) > 2
    assert len(far) > 2
    whole = mosaic_of(layout, frames, method)
    changed = frames.copy()
    changed[far] = 255 - changed[far]
    part = render(box, changed, layout, method=method, dtype=np.float32)
    np.testing.assert_array_equal(part, whole[box.slices])


def test_without_its_halo_multiband_would_not_be_whole():
    class Short(Multiband):
        @property
        def halo_px(self) -> int:
            return 1

    layout = uneven(seed=2)
    frames = noise_frames(layout, seed=2)
    whole = mosaic_of(layout, frames, Multiband(levels=2))
    box = Box(60, 100, 110, 200)
    part = render(box, frames, layout, method=Short(levels=2), dtype=np.float32)
    assert np.nanmax(np.abs(part - whole[box.slices])) > 1


@every_method
def test_the_same_call_gives_the_same_mosaic(method):
    layout = uneven(seed=3)
    first, second = (mosaic_of(layout, noise_frames(layout), method) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every_method
def test_exactly_the_pixels_that_frames_cover_are_filled(method):
    layout = uneven(seed=4)
    frames = noise_frames(layout)
    covered = ~np.isnan(mosaic_of(layout, frames, Nearest()))
    assert 0.5 < covered.mean() < 1
    np.testing.assert_array_equal(~np.isnan(mosaic_of(layout, frames, method)), covered)
    np.testing.assert_array_equal(mosaic_of(layout, frames, method, "uint8") > 0, covered)


@every_method
def test_flat_frames_of_any_gain_give_one_flat_picture(method):
    layout = uneven(seed=5)
    levels = (130.0 - layout.offset) / layout.gain
    frames = np.broadcast_to(levels[:, None, None], (len(layout), *FRAME)).astype(np.float32)
    mosaic = mosaic_of(layout, frames, method)
    # Sums of float32: 130 levels to a few of their last bits, 1e-5 each.
    np.testing.assert_allclose(mosaic[~np.isnan(mosaic)], 130.0, atol=2e-4)


@every_method
def test_frames_may_lie_anywhere_or_nowhere(method):
    layout = Layout(np.array([0.0, 400.0]), np.array([0.0, 0.0]), FRAME)
    frames = noise_frames(layout)
    assert np.isnan(render(Box(0, 200, 90, 300), frames, layout, method=method, dtype="f4")).all()
    none = Layout(layout.x_px, layout.y_px, FRAME, used=np.zeros(2, bool))
    assert np.isnan(render(Box(0, 0, 9, 9), frames, none, method=method, dtype="f4")).all()
    same = Layout(np.zeros(2), np.zeros(2), FRAME)
    assert not np.isnan(render(Box(0, 0, *FRAME), frames, same, method=method, dtype="f4")).any()


@every_method
def test_its_word_on_noise_is_true(method):
    # Whole px, so that the shift filter leaves noise alone; two frames share half their width.
    shape = (240, 320)
    layout = Layout(np.array([0.0, 160.0]), np.zeros(2), shape)
    noise = np.random.default_rng(6).normal(0, 20, (2, *shape)).astype(np.float32)
    variance = mosaic_of(layout, 128 + noise, method)[16:-16]
    variance = (variance - 128) ** 2 / 400
    single, shared = variance[:, 16:152].mean(), variance[:, 176:304].mean()
    beside_the_cut = variance[:, 232:248].mean()
    # 26 000 pixels: the variance is known to 0.9 %; 3300 pixels beside the cut: 2.5 %.
    assert single == pytest.approx(1, abs=0.03)
    if method.keeps_noise:
        assert shared == pytest.approx(1, abs=0.05)
        assert beside_the_cut == pytest.approx(1, abs=0.1)
    else:
        assert shared < 0.95
        assert beside_the_cut < 0.8


@every_method
@pytest.mark.parametrize("shear", [0.0, 0.05])
def test_memory_is_what_it_says_at_most(method, shear):
    shape, rows, cols = (230, 340), 5, 4
    layout = Layout(
        np.tile(np.arange(cols) * 190.3, rows),
        np.repeat(np.arange(rows) * 145.4, cols),
        shape,
        shear=np.full(rows * cols, shear),
    ).to_origin()
    frames = list(noise_frames(layout))
    box = Box(0, 0, *layout.shape)
    said = method.memory_bytes(box.expand(method.halo_px).area_px, shape[0] * shape[1], len(frames))
    tracemalloc.start()
    render(box, frames, layout, method=method, dtype=np.uint8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.3 * said < peak < said
