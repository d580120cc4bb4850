"""Frames that were scanned while the stage moved: placed line by line, straight and whole."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from cemi_dask.blend import BLENDERS, Average, Feather, blend, render
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Box, Layout, line_offsets
from cemi_dask.register import register
from cemi_dask.resample import shift_rows
from cemi_dask.simulate import Specimen
from cemi_dask.solve import solve

METHODS = [cls() for cls in BLENDERS.classes().values()]
FRAME = (90, 120)
MIXED = np.array([0.05, -0.05, 0.0, 0.2, -0.12, 0.05, 0.0001, 0.1, 0.0])


def scene(y, x):
    """Band-limited grey levels at any place: waves of 3 to 30 px."""
    waves = [(3.0, 0.3, 0.1), (5.4, 1.1, 2.0), (30.0, 2.2, 0.7)]
    return 120 + sum(
        25 * np.cos(2 * np.pi / p * (x * np.cos(a) + y * np.sin(a)) + f) for p, a, f in waves
    )


def upright_line(y, x):
    """A dark vertical line, 1.5 px wide (sigma), 152.3 px right of the origin."""
    return 150 - 100 * np.exp(-((x - 152.3) ** 2) / (2 * 1.5**2)) + 0 * y


def tiles(picture, shear=MIXED, *, seed=0):
    """3 x 3 float frames of `picture` at random places, line y of frame k moved by its shear."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.arange(3) * 70.0, 3) + rng.uniform(-4, 4, 9)
    y = np.repeat(np.arange(3) * 50.0, 3) + rng.uniform(-4, 4, 9)
    layout = Layout(x, y, FRAME, shear=np.asarray(shear, float)).to_origin()
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    frames = [
        picture(rows + y0, columns + x0 + s * (rows - (FRAME[0] - 1) / 2))
        for x0, y0, s in zip(layout.x_px, layout.y_px, layout.shear, strict=True)
    ]
    return np.array(frames, np.float32), layout


def whole(layout):
    return Box(0, 0, *layout.shape)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_mosaic_of_mixed_shears_equals_the_scene_inside_and_across_borders(method):
    frames, layout = tiles(scene)
    mosaic = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    inside = mosaic[16:-16, 28:-28]  # 9 px of shear, 4 px of jitter, the filter's margin
    y, x = np.mgrid[: mosaic.shape[0], : mosaic.shape[1]]
    assert not np.isnan(inside).any()
    # As without shear: the filter's own error is 0.3 grey levels of +-75.
    assert np.abs(inside - scene(y, x)[16:-16, 28:-28]).max() < 0.5


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_upright_line_is_straight_and_bent_where_the_shear_is_not_told(method):
    frames, layout = tiles(upright_line)
    known = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    assert np.abs(centres(known)[16:-16] - 152.3).max() < 0.05
    shear = np.full(9, 0.1)
    frames, layout = tiles(upright_line, shear)
    known = render(whole(layout), frames, layout, method=method, dtype=np.float32)
    assert np.abs(centres(known)[16:-16] - 152.3).max() < 0.05
    forgotten = Layout(layout.x_px, layout.y_px, FRAME)
    bent = render(whole(layout), frames, forgotten, method=method, dtype=np.float32)
    # Each frame bends it by 0.1 x 89 px from its first to its last line; overlaps average.
    assert 5 < np.ptp(centres(bent)[16:-16]) < 9.5


def centres(mosaic):
    """Centre of the dark line in every row, px."""
    dark = np.clip(150 - np.nan_to_num(mosaic, nan=150.0), 0, None)[:, 130:175]
    return (dark * np.arange(130, 175)).sum(axis=1) / dark.sum(axis=1)


def test_mosaic_of_sheared_frames_equals_the_specimen_scanned_line_by_line():
    specimen, s, shape = Specimen(seed=4), (0.08, -0.05, 0.0), (64, 120)
    layout = Layout(
        np.array([0.0, 61.4, 30.7]), np.array([0.0, 5.3, 33.6]), shape, shear=np.array(s)
    ).to_origin()
    corner = (517.0, 803.0)  # of the mosaic in the specimen: y, x
    frames = []
    for x, y, k in zip(layout.x_px, layout.y_px, s, strict=True):
        lines = [
            specimen.image(
                corner[0] + y + r,
                corner[1] + x + k * (r - (shape[0] - 1) / 2),
                (1, shape[1]),
                psf_sigma_px=1.0,
            )
            for r in range(shape[0])
        ]
        frames.append(np.concatenate(lines))
    mosaic = render(whole(layout), frames, layout, method=Feather(width_px=16), dtype=np.float32)
    truth = specimen.image(*corner, mosaic.shape, psf_sigma_px=1.0)
    error = (mosaic - truth)[16:54, 20:-20]  # no frame's last 8 lines alone
    assert not np.isnan(error).any()
    # Steps of 100 grey levels under a point spread of 1 px: the filter leaves 0.05 of a level.
    assert np.sqrt((error**2).mean()) < 0.1
    assert np.abs(error).max() < 0.5


def serpentine(specimen, shape=(144, 256)):
    """2 rows of 3 frames, the lower one scanned on the way back, and their true places."""
    rng = np.random.default_rng(5)
    place = np.array([(120.0 * c, 84.0 * r) for r in range(2) for c in range(3)])
    truth = place + rng.uniform(-3, 3, place.shape)
    shear = np.repeat([0.06, -0.06], 3)
    offsets = np.arange(shape[0]) - (shape[0] - 1) / 2
    pictures = []
    for (x, y), k in zip(truth + np.array([1200, 700]), shear, strict=True):
        wide = specimen.image(y, x - 40, (shape[0], shape[1] + 80), psf_sigma_px=1.0)
        pictures.append(shift_rows(wide, -k * offsets)[:, 40:-40])
    frames = Frames.from_array(
        np.rint(np.stack(pictures)).astype(np.uint8),
        x_nominal_px=place[:, 0],
        y_nominal_px=place[:, 1],
        row=np.repeat([0, 1], 3),
    )
    frames.table["shear"] = shear
    return frames, truth


def test_measured_and_solved_mosaic_equals_the_specimen_only_if_the_shear_is_told():
    specimen = Specimen(seed=0)
    frames, truth = serpentine(specimen)
    error = {}
    for told in (True, False):
        if not told:
            frames.table["shear"] = 0.0
        with dask.config.set(scheduler="sync"):
            layout = solve(register(frames))
            mosaic = blend(frames, layout, method=Feather(width_px=16), dtype="float32").compute()
        move = np.median(truth - np.stack([layout.x_px, layout.y_px], axis=1), axis=0)
        scene = specimen.image(700 + move[1], 1200 + move[0], mosaic.shape, psf_sigma_px=1.0)
        error[told] = (mosaic - scene)[16:-16, 28:-28]
    assert not np.isnan(error[True]).any()
    # 0.29 grey levels of rounding, and 0.02 px of places on structure of 20 levels per px.
    assert np.sqrt((error[True] ** 2).mean()) < 0.6
    # Lines up to 4.3 px from their place: structure of 5 px period is gone.
    assert np.sqrt(np.nanmean(error[False] ** 2)) > 10


def random_tiles(seed=0):
    rng = np.random.default_rng(seed)
    _, layout = tiles(scene, seed=seed)
    return rng.integers(0, 256, (9, *FRAME), np.uint8), layout


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_any_box_equals_that_part_of_the_whole_to_the_bit(method):
    pixels, layout = random_tiles(seed=1)
    total = render(whole(layout), pixels, layout, method=method, dtype=np.float32)
    rng = np.random.default_rng(3)
    height, width = layout.shape
    for _ in range(20):
        y0, x0 = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
        y1, x1 = int(rng.integers(y0 + 1, height + 1)), int(rng.integers(x0 + 1, width + 1))
        box = Box(y0, x0, y1, x1)
        part = render(box, pixels, layout, method=method, dtype=np.float32)
        np.testing.assert_array_equal(part, total[box.slices])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
@pytest.mark.parametrize("shear", [0.3, -0.3])
def test_exactly_the_parallelogram_is_covered(method, shear):
    layout = Layout(np.array([40.25]), np.array([3.0]), FRAME, shear=np.array([shear]))
    frame = np.zeros((1, *FRAME), np.uint8)
    mosaic = render(Box(0, 0, 100, 200), frame, layout, method=method, dtype=np.uint8)
    y, x = np.mgrid[:100, :200]
    start = np.floor(40.25 + shear * (y - 3 - 44.5) + 0.5)
    covered = (y >= 3) & (y < 93) & (x >= start) & (x < start + 120)
    np.testing.assert_array_equal(mosaic, covered.astype(np.uint8))


def test_weights_follow_the_slanted_border():
    # Two frames of equal shear, the right one 60 px further on: along every line the first is
    # alone up to the margin of the second, and both count alike in the middle of the overlap.
    layout = Layout(np.array([30.0, 90.0]), np.zeros(2), FRAME, shear=np.full(2, 0.2))
    planes = np.stack([np.full(FRAME, 50, np.uint8), np.full(FRAME, 200, np.uint8)])
    mosaic = render(
        Box(0, 0, 90, 230), planes, layout, method=Feather(width_px=40), dtype=np.float32
    )
    for y in range(10, 80):
        start = int(np.floor(30 + 0.2 * (y - 44.5) + 0.5))
        # A millionth of weight is less than 0.01 of 150 grey levels once ramps have begun.
        assert mosaic[y, start : start + 68] == pytest.approx(50, abs=0.01)
        assert mosaic[y, start + 112 : start + 180] == pytest.approx(200, abs=0.01)
        assert mosaic[y, start + 89 : start + 91].mean() == pytest.approx(125, abs=0.5)


def test_shear_under_a_twentieth_px_is_none_to_the_bit():
    pixels, layout = random_tiles()
    tiny = Layout(layout.x_px, layout.y_px, FRAME, shear=np.full(9, 0.0005))
    plain = Layout(layout.x_px, layout.y_px, FRAME)
    assert line_offsets(0.0005, FRAME[0]) is None
    assert line_offsets(0.0006, FRAME[0]) is not None
    box = whole(plain)
    np.testing.assert_array_equal(
        render(box, pixels, tiny, method=Average(), dtype=np.uint8),
        render(box, pixels, plain, method=Average(), dtype=np.uint8),
    )


def test_layout_holds_every_line_of_every_frame():
    rng = np.random.default_rng(2)
    shear = np.array([0.3, -0.3, 0.0, 0.2, -0.1, 0.05])
    layout = Layout(rng.uniform(-50, 50, 6), rng.uniform(-50, 50, 6), FRAME, shear=shear)
    layout = layout.to_origin()
    offsets = np.arange(90) - 44.5
    starts = layout.x_px[:, None] + shear[:, None] * offsets
    assert starts.min() == pytest.approx(0, abs=1e-9)
    assert layout.y_px.min() == 0
    height, width = layout.shape
    assert width - 1 == pytest.approx(np.ceil(starts.max()) + 119)
    for k in range(6):
        box = layout.frame_box(k)
        assert box.x0 <= starts[k].min() < box.x0 + 1
        assert box.x1 - 2 < starts[k].max() + 119 <= box.x1 - 1
        assert box.y0 >= 0
        assert box.y1 <= height
        assert k in layout.frames_in(Box(box.y0, box.x0, box.y0 + 1, box.x0 + 1))
        assert k not in layout.frames_in(Box(box.y0, box.x0 - 9, box.y1, box.x0))


def test_layout_whose_first_line_leaves_the_mosaic_is_refused():
    pixels, _ = random_tiles()
    layout = Layout(np.zeros(9), np.zeros(9), FRAME, shear=np.full(9, 0.1))
    with pytest.raises(InputError, match=r"frame 0 at -4\.45.*to_origin"):
        blend(Frames.from_array(pixels), layout)
    blend(Frames.from_array(pixels), layout.to_origin())
    unknown = Layout(np.zeros(9), np.zeros(9), FRAME, shear=np.full(9, np.nan))
    with pytest.raises(InputError, match="shear is not finite"):
        blend(Frames.from_array(pixels), unknown)
