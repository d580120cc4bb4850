"""The cut between frames: the cheapest one, where they agree, with nothing mixed."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from cemi_dask.blend import Feather, Nearest, Seam, render
from cemi_dask.blend.cut import cells_of, cut_between, least_cut
from cemi_dask.blend.method import ShiftedFrame
from cemi_dask.geometry import Box, Layout
from cemi_dask.simulate import Specimen

SHAPE = (256, 320)
PITCH = 160


def price_of(places, price, start, end):
    """What a cut costs that leaves line k at places[k]."""
    total = start[places[0]] + price[0, places[0]] + end[places[-1]]
    for k in range(1, len(places)):
        a, b = sorted((places[k - 1], places[k]))
        total += price[k, a : b + 1].sum()
    return total


def test_the_cut_is_the_cheapest_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        price, start, end = rng.random((4, 5)), rng.random(5), rng.random(5)
        every = itertools.product(range(5), repeat=4)
        cheapest = min(price_of(places, price, start, end) for places in every)
        found = price_of(least_cut(price, start, end), price, start, end)
        assert found == pytest.approx(cheapest, rel=1e-12)


def shifted(pixels, y, x):
    height, width = pixels.shape
    return ShiftedFrame(Box(y, x, y + height, x + width), pixels.copy)


def cut_of(first, second):
    return cut_between(*(cells_of(f, f.pixels()) for f in (first, second)))


def test_a_cut_follows_the_corridor_where_frames_agree():
    rng = np.random.default_rng(1)
    first, second = (rng.normal(120, 30, SHAPE).astype(np.float32) for _ in range(2))
    rows = np.arange(SHAPE[0])
    middle = np.rint(240 + 40 * np.sin(rows / 40)).astype(int)  # of the corridor, in the mosaic
    for y in rows:
        agree = slice(middle[y] - 14, middle[y] + 15)
        second[y, agree.start - PITCH : agree.stop - PITCH] = first[y, agree]
    cut = cut_of(shifted(first, 0, 0), shifted(second, 0, PITCH))
    side = cut.second_side(Box(0, PITCH, 256, 320))
    begins = PITCH + side.argmax(axis=1)
    assert (side.sum(axis=1) == 320 - begins).all()  # one change on each line
    assert np.abs(begins - middle)[10:-10].max() <= 14


@pytest.mark.parametrize("down", [True, False])
def test_a_cut_does_not_depend_on_which_frame_is_asked_first(down):
    rng = np.random.default_rng(2)
    a, b = (rng.normal(120, 30, (200, 200)).astype(np.float32) for _ in range(2))
    place = (6, 120) if down else (120, 6)
    first, second = shifted(a, 0, 0), shifted(b, *place)
    overlap = first.box.intersect(second.box)
    one, other = cut_of(first, second), cut_of(second, first)
    np.testing.assert_array_equal(one.second_side(overlap), ~other.second_side(overlap))
    assert one.down == down


def test_flat_frames_are_cut_straight_through_the_middle():
    flat = np.full(SHAPE, 100, np.float32)
    side = cut_of(shifted(flat, 0, 0), shifted(flat, 0, PITCH)).second_side(Box(0, 160, 256, 320))
    begins = side.argmax(axis=1)
    assert np.ptp(begins) == 0
    assert abs(begins[0] - 80) <= 2  # the middle, to a cell


def test_frames_that_meet_at_a_corner_are_cut_from_corner_to_corner():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(120, 30, (200, 200)).astype(np.float32) for _ in range(2))
    cut = cut_of(shifted(a, 0, 0), shifted(b, 100, 110))
    side = cut.second_side(Box(108, 118, 192, 192))  # where both are sound
    # Its upper and left borders are the second frame's, its lower and right ones the first's.
    assert not side[0, :-8].any()
    assert not side[:-8, 0].any()
    assert side[-1, 8:].all()
    assert side[8:, -1].all()


def distorted_pair(noise_sigma):
    """A scene seen by two frames, the second pulled by up to 3 px amid the overlap, along x."""
    scene = Specimen(seed=3).image(700, 1200, (SHAPE[0], SHAPE[1] + PITCH), psf_sigma_px=1.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    pull = 3 * np.exp(-((((y - 128) / 50) ** 2 + ((x - 80) / 25) ** 2) ** 2))
    pulled = cv2.remap(
        scene[:, PITCH:], x + pull, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    clean = np.stack([scene[:, : SHAPE[1]], pulled])
    noise = np.random.default_rng(1).normal(0, noise_sigma, clean.shape)
    return clean, (clean + noise).astype(np.float32)


@pytest.mark.parametrize("noise_sigma", [0, 5, 25])
def test_distorted_overlaps_show_no_doubled_structure_and_no_torn_one(noise_sigma):
    clean, frames = distorted_pair(noise_sigma)
    layout = Layout(np.array([0.0, PITCH]), np.zeros(2), SHAPE)
    box = Box(8, PITCH + 8, 248, 312)  # sound in both frames
    first, second = frames[0][8:248, 168:312], frames[1][8:248, 8:152]
    gap = np.abs(clean[0][8:248, 168:312] - clean[1][8:248, 8:152])
    wrong, torn = {}, {}
    for method in (Feather(), Nearest(), Seam()):
        mosaic = render(box, frames, layout, method=method, dtype=np.float32)
        from_first, from_second = np.abs(mosaic - first), np.abs(mosaic - second)
        wrong[method.method] = int((np.minimum(from_first, from_second) > 10).sum())
        own = from_first < from_second
        change = own[:, 1:] != own[:, :-1]
        torn[method.method] = gap[:, 1:][change].mean()
    assert wrong["feather"] > 1000  # of 35 000 px
    assert wrong["seam"] == 0
    # Half-way between the borders the frames differ by 7 levels and more, along the cut by
    # hardly any.
    assert torn["nearest"] > 5
    assert torn["seam"] < 1


@pytest.mark.parametrize("apart", range(296, 322))
def test_overlaps_of_a_few_px_are_filled_from_either_frame(apart):
    # From 304 px on no pixel is sound in both frames, at 303 there is one, at 320 none is shared.
    frames = np.stack([np.full((60, 320), 50, np.float32), np.full((60, 320), 200, np.float32)])
    layout = Layout(np.array([0.0, apart]), np.zeros(2), (60, 320))
    row = render(Box(30, 0, 31, apart + 320), frames, layout, method=Seam(), dtype="f4")[0]
    assert (row[: min(apart + 8, 312)] == 50).all()
    assert (row[max(apart + 8, 312) :] == 200).all()
    assert np.isnan(row).sum() == max(0, apart - 320)
    assert set(row[~np.isnan(row)]) == {50, 200}
