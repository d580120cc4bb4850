"""The render kernel: any box of the mosaic equals the scene the frames were cut from."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.blend import BLENDERS, Average, Feather, First, Linear, Nearest, render
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box, Layout

METHODS = [cls() for cls in BLENDERS.classes().values()]
FRAME = (90, 120)


def scene(y, x):
    """Band-limited grey levels at any place: waves of 3 to 30 px."""
    waves = [(3.0, 0.3, 0.1), (5.4, 1.1, 2.0), (30.0, 2.2, 0.7)]
    return 120 + sum(
        25 * np.cos(2 * np.pi / p * (x * np.cos(a) + y * np.sin(a)) + f) for p, a, f in waves
    )


def tiles(rows=3, cols=3, *, gain=None, offset=None, seed=0):
    """Float frames cut from the scene at random places, 40 % overlap, and their layout."""
    rng = np.random.default_rng(seed)
    n = rows * cols
    x = np.tile(np.arange(cols) * 70.0, rows) + rng.uniform(-4, 4, n)
    y = np.repeat(np.arange(rows) * 50.0, cols) + rng.uniform(-4, 4, n)
    layout = Layout(x, y, FRAME).to_origin()
    gain = np.ones(n) if gain is None else gain
    offset = np.zeros(n) if offset is None else offset
    layout = Layout(layout.x_px, layout.y_px, FRAME, gain=gain, offset=offset)
    yy, xx = np.mgrid[: FRAME[0], : FRAME[1]]
    frames = [
        (scene(yy + layout.y_px[i], xx + layout.x_px[i]) - offset[i]) / gain[i] for i in range(n)
    ]
    return np.array(frames, np.float32), layout


def whole(layout):
    return Box(0, 0, *layout.shape)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_mosaic_equals_the_scene_inside_and_across_borders(method):
    frames, layout = tiles()
    mosaic = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    y, x = np.mgrid[: mosaic.shape[0], : mosaic.shape[1]]
    error = (mosaic - scene(y, x))[16:-16, 16:-16]
    # Errors at frame borders would be tens of grey levels; the filter's own is 0.3.
    assert np.nanmax(np.abs(error)) < 0.5


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_any_box_equals_that_part_of_the_whole_to_the_bit(method):
    frames, layout = tiles(seed=1)
    frames = frames + np.random.default_rng(2).normal(0, 25, frames.shape).astype(np.float32)
    total = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    rng = np.random.default_rng(3)
    height, width = layout.shape
    for _ in range(40):
        y0, x0 = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
        y1, x1 = int(rng.integers(y0 + 1, height + 1)), int(rng.integers(x0 + 1, width + 1))
        box = Box(y0, x0, y1, x1)
        part = render(box, frames, layout, method=method, dtype=np.float32)
        np.testing.assert_array_equal(part, total[box.slices])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_every_method_marks_what_no_frame_covers(method):
    layout = Layout(np.array([0.0, 150.0]), np.array([0.0, 0.0]), FRAME)
    frames = np.zeros((2, *FRAME), np.uint8)
    integers = render(Box(0, 0, 90, 270), frames, layout, method=method, dtype=np.uint8)
    # Black pixels are data: they become 1, so that 0 means "no frame here" and nothing else.
    assert (integers[:, :120] == 1).all()
    assert (integers[:, 150:] == 1).all()
    assert (integers[:, 120:150] == 0).all()
    floats = render(Box(0, 0, 90, 270), frames, layout, method=method, dtype=np.float32)
    np.testing.assert_array_equal(np.isnan(floats), integers == 0)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_a_frame_on_whole_pixels_comes_out_unchanged(method):
    frame = np.random.default_rng(0).integers(1, 255, FRAME, np.uint8)
    layout = Layout(np.array([7.0]), np.array([3.0]), FRAME)
    mosaic = render(Box(3, 7, 93, 127), [frame], layout, method=method, dtype=np.uint8)
    np.testing.assert_array_equal(mosaic, frame)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_frames_that_are_not_used_leave_no_trace(method):
    frames, layout = tiles()
    frames[4] = 250
    used = np.arange(len(frames)) != 4
    without = Layout(layout.x_px, layout.y_px, FRAME, used=used)
    mosaic = render(whole(without), frames, without, method=method, dtype=np.float32)
    y, x = np.mgrid[: mosaic.shape[0], : mosaic.shape[1]]
    assert np.nanmax(np.abs(mosaic - scene(y, x))[16:-16, 16:-16]) < 45  # mirrored at holes
    covered = np.abs(mosaic - 250) < 1
    assert not covered[layout.frame_box(4).slices].any()


def test_gain_and_offset_bring_frames_to_one_brightness():
    rng = np.random.default_rng(5)
    frames, layout = tiles(gain=rng.uniform(0.9, 1.1, 9), offset=rng.uniform(-9, 9, 9))
    mosaic = render(whole(layout), frames, layout, method=Feather(width_px=20), dtype=np.float32)
    y, x = np.mgrid[: mosaic.shape[0], : mosaic.shape[1]]
    assert np.nanmax(np.abs(mosaic - scene(y, x))[16:-16, 16:-16]) < 0.6


def constant_pair(left, right):
    """Two flat frames side by side, the second beginning at x = 60 px (half overlap)."""
    frames = np.stack([np.full(FRAME, left, np.uint8), np.full(FRAME, right, np.uint8)])
    return frames, Layout(np.array([0.0, 60.0]), np.array([0.0, 0.0]), FRAME)


def test_feather_rises_steadily_from_one_frame_to_the_other():
    frames, layout = constant_pair(50, 200)
    row = render(Box(45, 0, 46, 180), frames, layout, method=Feather(width_px=40), dtype="uint8")[0]
    assert (np.diff(row.astype(int)) >= 0).all()
    assert np.diff(row.astype(int)).max() <= 8  # no step anywhere: 150 levels over 44 px
    assert row[60] == 50  # within the margin of the second frame the first is alone
    assert row[119] == 200


def test_average_is_the_mean_wherever_both_frames_are_sound():
    frames, layout = constant_pair(50, 200)
    row = render(Box(45, 0, 46, 180), frames, layout, method=Average(), dtype=np.uint8)[0]
    assert (row[68:112] == 125).all()
    assert set(row) == {50, 125, 200}


def test_nearest_changes_over_half_way():
    frames, layout = constant_pair(50, 200)
    row = render(Box(45, 0, 46, 180), frames, layout, method=Nearest(), dtype=np.uint8)[0]
    assert (row[:90] == 50).all()
    assert (row[90:] == 200).all()


def test_first_keeps_the_first_exposure_up_to_its_margin():
    frames, layout = constant_pair(50, 200)
    row = render(Box(45, 0, 46, 180), frames, layout, method=First(), dtype=np.uint8)[0]
    assert (row[:112] == 50).all()
    assert (row[112:] == 200).all()


def test_average_of_n_frames_has_noise_smaller_by_root_n():
    rng = np.random.default_rng(0)
    layout = Layout(np.zeros(9), np.zeros(9), FRAME)
    frames = rng.normal(120, 30, (9, *FRAME)).astype(np.float32)
    mosaic = render(Box(0, 0, *FRAME), frames, layout, method=Average(), dtype=np.float32)
    assert mosaic.std() == pytest.approx(10, rel=0.05)  # 10800 pixels: 0.7 % sampling error


def test_average_of_frames_of_unlike_gain_has_the_least_noise_there_can_be():
    # Recorded noise of 10, amplified to 5, 10 and 20: no unbiased mean has a lower variance
    # than 1 / sum(1 / variance) (Gauss and Markov); the plain mean's is 2.5 times that.
    rng = np.random.default_rng(0)
    gain = np.array([0.5, 1.0, 2.0])
    layout = Layout(np.zeros(3), np.zeros(3), FRAME, gain=gain)
    frames = (120 / gain[:, None, None] + rng.normal(0, 10, (3, *FRAME))).astype(np.float32)
    mosaic = render(Box(0, 0, *FRAME), frames, layout, method=Average(), dtype=np.float32)
    inner = mosaic[8:-8, 8:-8]
    least = 1 / (1 / (10 * gain) ** 2).sum()
    assert inner.mean() == pytest.approx(120, abs=0.3)  # standard error 0.05
    assert inner.var() == pytest.approx(least, rel=0.06)  # 7700 pixels: 1.6 %


def test_integers_are_rounded_and_clipped_to_their_range():
    layout = Layout(
        np.array([0.0]), np.array([0.0]), FRAME, gain=np.array([1.0]), offset=np.array([0.4])
    )
    for value, wanted in ((100, 100), (255, 255)):
        frame = np.full(FRAME, value, np.uint8)
        out = render(Box(0, 0, *FRAME), [frame], layout, method=Average(), dtype=np.uint8)
        assert (out == wanted).all()
    deep = Layout(np.array([0.0]), np.array([0.0]), FRAME, gain=np.array([2.0]))
    frame = np.full(FRAME, 40000, np.uint16)
    out = render(Box(0, 0, *FRAME), [frame], deep, method=Average(), dtype=np.uint16)
    assert (out == 65535).all()


def test_frame_of_another_size_is_named():
    frames, layout = constant_pair(1, 2)
    with pytest.raises(InputError, match=r"\(90, 119\).*\(90, 120\)"):
        render(Box(0, 0, 9, 9), frames[:, :, 1:], layout, method=Feather(), dtype=np.uint8)


def test_nan_pixels_are_refused_not_spread():
    frames, layout = tiles()
    frames[0, 5, 5] = np.nan
    with pytest.raises(InputError, match="1 pixels that are NaN"):
        render(Box(0, 0, 9, 9), frames, layout, method=Feather(), dtype=np.float32)


def test_wrong_method_lists_the_right_ones():
    with pytest.raises(ConfigError, match=r"feather.*average.*nearest.*first"):
        BLENDERS.parse("fether")
    with pytest.raises(ConfigError, match="width_px"):
        BLENDERS.parse({"method": "feather", "width_px": 0})


def test_linear_mixes_only_a_narrow_band() -> None:
    # Two frames of 200 px that overlap by 100 px, one black, one white: the share of the
    # second one passes from 2 % to 98 % within a third of the overlap, about its middle.
    layout = Layout(np.array([0.0, 100.0]), np.array([0.0, 0.0]), (200, 200))
    planes = [np.zeros((200, 200), np.float32), np.ones((200, 200), np.float32)]
    row = render(Box(100, 0, 101, 300), planes, layout, method=Linear(), dtype=np.float32)[0]
    mixed = np.flatnonzero((row > 0.02) & (row < 0.98))
    assert len(mixed) <= 34
    assert abs(mixed.mean() - 149.5) < 1
