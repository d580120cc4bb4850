"""Blending band by band: no steps, and fine texture as in a single frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cemi_dask.blend import Feather, Multiband, render
from cemi_dask.blend.multiband import expand, gaussian_pyramid, laplacian_pyramid, put_together
from cemi_dask.geometry import Box, Layout

SHAPE = (690, 1024)
PLACES = {"beside": (570.0, 0.0), "below": (0.0, 436.0)}


def pair(place):
    x, y = PLACES[place]
    return Layout(np.array([0.0, x]), np.array([0.0, y]), SHAPE)


def test_a_pyramid_put_together_is_the_picture():
    picture = np.random.default_rng(0).normal(120, 30, (128, 192)).astype(np.float32)
    bands = laplacian_pyramid(picture, 4)
    whole = put_together(bands, [np.ones_like(band) for band in bands])
    inner = np.s_[64:-64, 64:-64]  # beyond, cv2 mirrors the coarse levels and `expand` repeats
    # Float32 of 120: a few last bits of 8e-6.
    np.testing.assert_allclose(whole[inner], picture[inner], atol=1e-4)


def test_expand_is_that_of_burt_and_adelson():
    coarse = np.random.default_rng(1).normal(0, 1, (20, 30)).astype(np.float32)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(expand(coarse)[inner], cv2.pyrUp(coarse)[inner], atol=1e-6)


def test_weights_are_the_same_to_the_bit_wherever_an_array_begins():
    mask = (np.random.default_rng(2).random((640, 832)) > 0.5).astype(np.float64)
    whole = gaussian_pyramid(mask, 6)
    part = gaussian_pyramid(mask[64:576, 192:], 6)
    for level, (w, p) in enumerate(zip(whole, part, strict=True)):
        top, left, reach = 64 >> level, 192 >> level, -(-2 * (2**level - 1) >> level)
        inner = p[reach : p.shape[0] - reach, reach : p.shape[1] - reach]
        y, x = top + reach, left + reach
        np.testing.assert_array_equal(inner, w[y : y + inner.shape[0], x : x + inner.shape[1]])


@pytest.mark.parametrize("place", PLACES)
def test_a_grey_step_between_frames_is_not_seen(place):
    layout = pair(place)
    frames = np.stack([np.full(SHAPE, 120, np.float32), np.full(SHAPE, 124, np.float32)])
    box = Box(0, 0, *layout.shape)
    mosaic = render(box, frames, layout, method=Multiband(), dtype=np.float32)
    line = mosaic[345] if place == "beside" else mosaic[:, 512]
    assert line[0] == pytest.approx(120, abs=1e-3)
    assert line[-1] == pytest.approx(124, abs=1e-3)
    assert np.diff(line).min() > -1e-3
    assert np.abs(line[16:] - line[:-16]).max() < 1


@pytest.mark.parametrize("place", PLACES)
def test_texture_of_5_px_keeps_its_contrast_where_frames_disagree(place):
    # The second frame shows the waves half a period off and 4 levels brighter: wherever both
    # are mixed, they cancel.
    layout = pair(place)
    x, y = PLACES[place]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    wave = 2 * np.pi / 5.4
    frames = np.stack(
        [
            120 + 30 * np.cos(wave * (rows + columns) / np.sqrt(2)),
            124 + 30 * np.cos(wave * (rows + y + columns + x) / np.sqrt(2) + np.pi),
        ]
    ).astype(np.float32)
    box = Box(0, 0, *layout.shape)
    left = {}
    for method in (Multiband(), Feather()):
        mosaic = render(box, frames, layout, method=method, dtype=np.float32)[32:-32, 32:-32]
        blocks = mosaic[: mosaic.shape[0] // 16 * 16, : mosaic.shape[1] // 16 * 16]
        blocks = blocks.reshape(blocks.shape[0] // 16, 16, -1, 16)
        left[method.method] = blocks.std(axis=(1, 3)) * np.sqrt(2) / 30
    # Blocks of 16 px hold no whole number of periods: 5 % either way.
    lost = {name: float((share < 0.8).mean()) for name, share in left.items()}
    assert lost["multiband"] < 0.04  # those blocks that the change-over runs through
    assert lost["feather"] > 0.15


def test_what_lies_beyond_a_frame_does_not_leak_in():
    # Steep shading up to the border: a continuation that were not mirrored would show.
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    layout = Layout(np.array([40.0]), np.array([24.0]), SHAPE)
    frame = 20 + x / 10 + y / 6
    mosaic = render(Box(0, 0, *layout.shape), [frame], layout, method=Multiband(), dtype="f4")
    np.testing.assert_allclose(mosaic[24:714, 40:1064], frame, atol=1e-3)
    assert np.isnan(mosaic[:24]).all()
    assert np.isnan(mosaic[:, :40]).all()


def test_levels_stay_within_the_frames():
    assert Multiband().levels_for((690, 1024)) == 5
    assert Multiband(levels=3).levels_for((690, 1024)) == 3
    assert Multiband(levels=6).levels_for((400, 512)) == 4
    assert Multiband().levels_for((10, 10)) == 0
