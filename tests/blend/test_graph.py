"""The lazy mosaic: shards depend on what they need and nothing else."""

from __future__ import annotations

import dask
import numpy as np
import pytest
from distributed.protocol import dumps

from cemi_dask.blend import blend
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Layout

FRAME = (60, 80)


def grid_of_frames(rows, cols, seed=0):
    rng = np.random.default_rng(seed)
    n = rows * cols
    x = np.tile(np.arange(cols) * 45.0, rows) + rng.uniform(-3, 3, n)
    y = np.repeat(np.arange(rows) * 37.0, cols) + rng.uniform(-3, 3, n)
    pixels = rng.integers(0, 256, (n, *FRAME), np.uint8)
    return Frames.from_array(pixels), Layout(x, y, FRAME).to_origin()


def test_each_shard_depends_on_exactly_the_frames_that_touch_it():
    frames, layout = grid_of_frames(4, 5)
    mosaic = blend(frames, layout, shard_px=64)
    assert mosaic.name.startswith("blend-shard-")
    graph = mosaic.__dask_graph__()
    for row in range(mosaic.numblocks[0]):
        for col in range(mosaic.numblocks[1]):
            task = graph.layers[mosaic.name][(mosaic.name, row, col)]
            top, left = 64 * row, 64 * col
            expected = {
                (frames.data.name, i, 0, 0)
                for i in range(len(frames))
                if layout.frame_box(i).y0 < top + 64
                and layout.frame_box(i).y1 > top
                and layout.frame_box(i).x0 < left + 64
                and layout.frame_box(i).x1 > left
            }
            assert set(task.dependencies) == expected


def test_one_shard_of_a_huge_layout_is_a_small_message():
    frames, layout = grid_of_frames(60, 60)
    mosaic = blend(frames, layout, shard_px=100)
    task = mosaic.__dask_graph__().layers[mosaic.name][(mosaic.name, 3, 3)]
    size = sum(memoryview(frame).nbytes for frame in dumps(task))
    assert size < 10_000  # the layout of all 3600 frames would be 200 kB


def test_same_call_gives_the_same_keys_and_another_layout_others():
    frames, layout = grid_of_frames(2, 2)
    first, second = blend(frames, layout), blend(frames, layout)
    assert first.name == second.name
    assert blend(frames, layout, method={"method": "feather", "width_px": 9}).name != first.name
    moved = Layout(layout.x_px + 1, layout.y_px, FRAME)
    assert blend(frames, moved).name != first.name


def test_part_of_a_mosaic_reads_only_its_frames():
    read = []

    def load(block_info=None):
        read.append(block_info[None]["chunk-location"][0])
        return np.full((1, *FRAME), 9, np.uint8)

    frames, layout = grid_of_frames(3, 6)
    lazy = dask.array.map_blocks(load, chunks=frames.data.chunks, dtype=np.uint8)
    read.clear()
    corner = blend(frames.with_data(lazy), layout, shard_px=64)[:20, :20]
    assert (corner.compute(scheduler="sync")[5:, 5:] == 9).all()
    assert sorted(read) == layout.frames_in(blend_box(64)).tolist()


def blend_box(side):
    from cemi_dask.geometry import Box

    return Box(0, 0, side, side)


def test_layout_of_other_frames_is_refused():
    frames, layout = grid_of_frames(2, 3)
    other, _ = grid_of_frames(2, 2)
    with pytest.raises(InputError, match=r"6 frames.*4 frames"):
        blend(other, layout)
    with pytest.raises(InputError, match="to_origin"):
        blend(frames, Layout(layout.x_px - 5, layout.y_px, FRAME))
    x = layout.x_px.copy()
    x[2] = np.nan
    with pytest.raises(InputError, match=r"x_px is not finite.*\[2\]"):
        blend(frames, Layout(x, layout.y_px, FRAME))


def test_gain_that_is_not_positive_is_refused():
    frames, layout = grid_of_frames(2, 2)
    gain = np.array([1.0, 1.0, 0.0, 1.0])
    with pytest.raises(InputError, match="gain is 0 for frame 2"):
        blend(frames, Layout(layout.x_px, layout.y_px, FRAME, gain=gain))
    used = gain > 0
    blend(frames, Layout(layout.x_px, layout.y_px, FRAME, gain=gain, used=used))


def test_unknown_place_of_an_unused_frame_does_no_harm():
    frames, layout = grid_of_frames(2, 3)
    x, used = layout.x_px.copy(), np.ones(6, bool)
    x[2], used[2] = np.nan, False
    mosaic = blend(frames, Layout(x, layout.y_px, FRAME, used=used), shard_px=64)
    assert mosaic.compute(scheduler="sync").any()


def test_type_of_the_mosaic_follows_the_frames_unless_given():
    frames, layout = grid_of_frames(2, 2)
    assert blend(frames, layout).dtype == np.uint8
    assert blend(frames, layout, dtype="float32").dtype == np.float32
    double = frames.with_data(frames.data.astype("float64"))
    assert blend(double, layout).compute(scheduler="sync").dtype == np.float32
    with pytest.raises(ConfigError, match="int32"):
        blend(frames, layout, dtype="int32")
