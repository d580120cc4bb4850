"""Frames in any order: thumbnails find partners, and every frame its place."""

from __future__ import annotations

import json
from typing import Any

import dask
import numpy as np
import pytest

from cemi_dask.compute import compute_items
from cemi_dask.errors import DisconnectedError, InputError
from cemi_dask.frameset import Frames
from cemi_dask.register import RegisterOptions, register
from cemi_dask.register.thumbnails import Lags, match_thumbnails, thumbnail
from cemi_dask.solve import SolveOptions, solve
from tests.register.specimens import errors, record, texture

SHAPE = (256, 384)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def shuffled(
    rows: int,
    cols: int,
    overlap: float,
    *,
    noise_sigma: float = 25.0,
    shape: tuple[int, int] = SHAPE,
    field: Any = None,
    seed: int = 0,
) -> tuple[Frames, np.ndarray]:
    """Tiles in random order, their corners whole px apart from a random stage, and the truth."""
    rng = np.random.default_rng(seed)
    h, w = shape
    pitch = np.array([round((1 - overlap) * w), round((1 - overlap) * h)])
    corners = np.array([(c, r) for r in range(rows) for c in range(cols)]) * pitch + 10
    corners = corners + rng.integers(-5, 6, corners.shape)
    corners = corners[rng.permutation(len(corners))]
    if field is None:
        field = texture((2 * (corners[:, 1].max() + h) // 2 + 10, corners[:, 0].max() + w + 10))
    cut = np.stack([field[y : y + h, x : x + w] for x, y in corners])
    noisy = 120 + 35 * cut + noise_sigma * rng.standard_normal(cut.shape)
    pictures = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return Frames.from_array(pictures), corners.astype(float)


@pytest.mark.parametrize("overlap", [0.15, 0.1])
def test_thirty_shuffled_noisy_tiles_with_narrow_overlaps_find_their_places(overlap):
    frames, truth = shuffled(5, 6, overlap)
    layout = solve(register(frames))
    assert (layout.component == 0).all()
    # Pairs of 25 px x 384 px are good to 0.1 px; five of them lead from the middle to a corner.
    assert np.abs(errors(layout, truth)).max() < 0.5


def test_subpixel_places_do_not_hide_a_match():
    corners = np.array([(20.5, 20.5), (345.0, 22.25), (18.75, 237.5), (344.25, 239.0)])
    field = texture((520, 760), 3)
    pictures = record(field, corners[[2, 0, 3, 1]], SHAPE, noise_sigma=25)
    layout = solve(register(Frames.from_array(pictures)))
    assert np.abs(errors(layout, corners[[2, 0, 3, 1]])).max() < 0.3


def test_few_pairs_are_measured_at_full_size():
    frames, _ = shuffled(5, 6, 0.15)
    asked: dict[str, int] = {}

    def counting(items):
        results = compute_items(items)
        for name, result in results.items():
            stage = name.split("/")[1].split("-")[0]
            asked[stage] = asked.get(stage, 0) + len(result)
        return results

    graph = register(frames, compute=counting)
    # A grid of 5 x 6 has 49 pairs of neighbours; one in a hundred of the 386 others is likely.
    assert graph.graph.number_of_edges() >= 49
    assert 49 <= asked["likely"] <= 70
    assert "all" not in asked


def test_items_are_named_stable_and_of_small_plain_json():
    frames, _ = shuffled(2, 3, 0.2)
    seen: dict[str, Any] = {}

    def ledger(items):
        results = compute_items(items)
        seen.update(results)
        return json.loads(json.dumps(results))

    first = register(frames, compute=ledger)
    assert list(seen) == ["register-coarse/0-0", "register-pair/likely-0-4"]
    assert len(json.dumps(seen["register-coarse/0-0"])) < 200 * len(frames)
    assert list(first.pairs()) == list(register(frames, compute=ledger).pairs())


def test_blocks_of_frames_do_not_change_what_is_found(monkeypatch):
    frames, _ = shuffled(3, 4, 0.15)
    whole = list(register(frames).pairs())
    monkeypatch.setattr("cemi_dask.register.unplaced._BLOCK", 5)
    assert list(register(frames).pairs()) == whole


def test_structure_too_fine_for_thumbnails_is_matched_at_full_size():
    # Grains of 4 px, on frames that are averaged by 7 for their thumbnails.
    rng = np.random.default_rng(1)
    shape = (600, 900)
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    band = np.exp(-((k - 0.25) ** 2) / (2 * 0.04**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * band, shape)
    frames, truth = shuffled(2, 2, 0.3, field=field / field.std(), noise_sigma=10, shape=(230, 340))
    asked: set[str] = set()

    def watching(items):
        asked.update(name.split("/")[1].split("-")[0] for name in items)
        return compute_items(items)

    options = RegisterOptions(thumbnail_px=48)
    layout = solve(register(frames, options=options, compute=watching))
    assert "all" in asked
    assert (layout.component == 0).all()
    assert np.abs(errors(layout, truth)).max() < 0.5


def test_lamellae_that_agree_anywhere_give_no_layout():
    # One period all over: every pair agrees at many displacements, most of them wrong.
    field = texture((600, 900), 1, period_px=8.0)
    frames, _ = shuffled(2, 2, 0.4, field=field, noise_sigma=10, shape=(230, 340))
    for width in (48, 160):
        with pytest.raises(DisconnectedError):
            solve(register(frames, options=RegisterOptions(thumbnail_px=width)))


def test_dirt_that_is_fixed_on_the_screen_does_not_pass_for_a_match():
    frames, truth = shuffled(3, 3, 0.15)
    dirt = 25 * texture(SHAPE, 77)
    pictures = np.clip(frames.data.compute() + dirt, 0, 255).astype(np.uint8)
    layout = solve(register(Frames.from_array(pictures)))
    assert (layout.component == 0).all()
    # Dirt in the overlaps pulls a little.
    assert np.abs(errors(layout, truth)).max() < 1.0


def test_the_same_place_recorded_twice_is_found():
    frames, truth = shuffled(2, 2, 0.2)
    pictures = frames.data.compute()
    rng = np.random.default_rng(8)
    again = np.clip(pictures[1] + 10 * rng.standard_normal(SHAPE), 0, 255).astype(np.uint8)
    for seen, corners in (
        (np.concatenate([pictures, again[None]]), np.concatenate([truth, truth[1:2]])),
        (np.stack([pictures[1], again]), truth[[1, 1]]),
    ):
        layout = solve(register(Frames.from_array(seen)))
        assert np.abs(errors(layout, corners)).max() < 0.5


def test_a_blank_tile_among_them_is_named_and_hinders_no_other():
    frames, truth = shuffled(3, 4, 0.15)
    pictures = frames.data.compute()
    rng = np.random.default_rng(2)
    # A corner: all others still hang together.
    blank = int(np.lexsort((truth[:, 0], truth[:, 1]))[0])
    pictures[blank] = np.clip(np.rint(118 + 25 * rng.standard_normal(SHAPE)), 0, 255)
    graph = register(Frames.from_array(pictures))
    with pytest.raises(DisconnectedError, match=rf"2 islands.*\[{blank}\]"):
        solve(graph)
    layout = solve(graph, options=SolveOptions(allow_islands=True))
    others = np.arange(12) != blank
    assert (layout.component[others] == 0).all()
    assert np.abs(errors(layout, truth, others)).max() < 0.5


def test_two_regions_are_two_islands():
    one, _ = shuffled(2, 2, 0.2, seed=1)
    other, _ = shuffled(2, 3, 0.2, field=texture((600, 1200), 9), seed=2)
    pictures = np.concatenate([one.data.compute(), other.data.compute()])
    order = np.random.default_rng(0).permutation(10)
    graph = register(Frames.from_array(pictures[order]))
    with pytest.raises(DisconnectedError, match="2 islands") as caught:
        solve(graph)
    apart = {tuple(np.flatnonzero(order < 4)), tuple(np.flatnonzero(order >= 4))}
    assert {tuple(sorted(members)) for members in caught.value.islands} == apart


def test_unrelated_thumbnails_rarely_reach_the_significance_of_a_candidate():
    rng = np.random.default_rng(0)
    fields = [texture(SHAPE, seed) for seed in range(16)]
    small = [
        thumbnail(120 + 35 * f + 25 * rng.standard_normal(SHAPE).astype(np.float32), 2)
        for f in fields
    ]
    lags = Lags.of(small[0].shape, min_overlap=0.03)
    stack = lags.stack(small)
    pairs = np.array([(a, b) for a in range(16) for b in range(a + 1, 16)])
    found = match_thumbnails(stack, stack, pairs, lags, least=5.0, peaks=1)
    # 120 pairs with 100 000 displacements each: one in a hundred pairs is expected.
    assert len(found) <= 6
    assert max((c.significance[0] for c in found), default=0.0) < 6.5


def test_a_flat_or_narrow_thumbnail_matches_nothing():
    flat = np.full(SHAPE, 90, np.uint8)
    picture = np.asarray(120 + 35 * texture(SHAPE, 0), np.float32)
    small = [thumbnail(flat, 2), thumbnail(picture, 2)]
    assert not small[0].any()
    lags = Lags.of(small[0].shape, min_overlap=0.03)
    stack = lags.stack(small)
    assert not match_thumbnails(stack, stack, np.array([(0, 1)]), lags, least=0.5, peaks=2)


def test_too_many_frames_without_positions_are_refused_with_ways_out():
    frames, _ = shuffled(2, 2, 0.2)
    with pytest.raises(InputError, match=r"stops at 3.*tiles\.columns.*max_unplaced_frames"):
        register(frames, options=RegisterOptions(max_unplaced_frames=3))


def test_a_frame_with_nan_is_named():
    frames, _ = shuffled(1, 2, 0.2)
    pictures = frames.data.compute().astype(np.float32)
    pictures[1, 5, 5] = np.nan
    with pytest.raises(InputError, match=r"Frame 1: .*NaN"):
        register(Frames.from_array(pictures))
