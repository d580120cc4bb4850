"""Displacements of parts of an overlap, and the distortion calibrated from them: from pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register import measure_pair, register
from cemi_dask.simulate import ScanField
from cemi_dask.simulate.bending import render_bent
from cemi_dask.solve import SolveOptions, calibrate, solve
from tests.register.specimens import errors

SHAPE = (345, 512)
SIDES = 4 * 4 + 3 * 5  # of a grid of 4 x 5; its corners follow from them
BARREL = ScanField(barrel_px=3.0)


class Waves:
    """A scene of random plane waves, 4 to 60 px long, known at any place."""

    width_px, height_px, pixel_um, seed = 10_000, 10_000, 0.2, 0

    def __init__(self, seed: int = 0, count: int = 160) -> None:
        rng = np.random.default_rng(seed)
        k = 2 * np.pi / np.exp(rng.uniform(np.log(4), np.log(60), count))
        angle, self.phase = rng.uniform(0, 2 * np.pi, (2, count))
        self.kx, self.ky = k * np.cos(angle), k * np.sin(angle)

    def image(self, y0, x0, shape, *, psf_sigma_px=None):
        along_y = np.exp(1j * (np.outer(np.arange(shape[0]) + y0, self.ky) + self.phase))
        along_x = np.exp(1j * np.outer(self.kx, np.arange(shape[1]) + x0))
        return (120 + 4.0 * (along_y.astype("c8") @ along_x.astype("c8")).real).astype(np.float32)


def recorded(field, rows, cols, *, noise_sigma=25.0, seed=0):
    """8-bit tiles of waves at 44 % and 37 % overlap, bent by `field`, and their true corners."""
    rng, scene = np.random.default_rng(seed), Waves(seed)
    place = np.array([(c, r) for r in range(rows) for c in range(cols)]) * (287.0, 217.0) + 100
    truth = place + rng.uniform(-1, 1, place.shape) * (12, 6)
    clean = [
        scene.image(y, x, SHAPE)
        if field.even
        else render_bent(scene, (y, x), field.on(SHAPE), psf_sigma_px=0.6)
        for x, y in truth
    ]
    noisy = np.stack(clean) + noise_sigma * rng.standard_normal((len(clean), *SHAPE))
    frames = Frames.from_array(
        np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
        x_nominal_px=place[:, 0],
        y_nominal_px=place[:, 1],
        row=np.repeat(np.arange(rows), cols),
    )
    return frames, truth


@pytest.fixture(scope="module")
def bent():
    frames, truth = recorded(BARREL, 4, 5)
    return register(frames), truth


@pytest.fixture(scope="module")
def even():
    frames, truth = recorded(ScanField(), 4, 5)
    return register(frames), truth


def test_barrel_of_3_px_in_low_definition_noise_is_calibrated_to_0_3_px(bent):
    graph, truth = bent
    layout = solve(graph)
    assert layout.distortion is not None
    y, x = np.mgrid[0 : SHAPE[0] : 8, 0 : SHAPE[1] : 8].astype(float)
    error = layout.distortion.at(x, y) - BARREL.on(SHAPE).at(x, y)
    assert np.linalg.norm(error, axis=-1).max() < 0.3
    without = solve(graph, options=SolveOptions(distortion="off"))
    # The frame's edges pull neighbours together: 0.9 px a tile, over 4 tiles.
    assert np.sqrt((errors(without, truth) ** 2).mean()) > 1.0
    assert np.sqrt((errors(layout, truth) ** 2).mean()) < 0.1


def test_low_definition_noise_alone_is_no_distortion(even):
    graph, truth = even
    found = calibrate(graph)
    assert found.links == SIDES
    assert not found.kept
    assert found.held_out_gain < 0.02
    assert found.field is not None
    assert found.field.max_px < 0.1
    assert np.sqrt((errors(solve(graph), truth) ** 2).mean()) < 0.02


def true_misses(graph, truth, field):
    """By how much each part of the pairs that are ok is misplaced, and its stated sigmas."""
    off = []
    for pair in graph.pairs():
        if pair.local is None:
            continue
        step = truth[pair.j] - truth[pair.i]
        place, values = pair.local.centres, pair.local.values
        there = place - step
        for _ in range(20):
            there = place - step + field.at(*place.T) - field.at(*there.T)
        miss = values[:, :2] - (place - there)
        xx, xy, yy = values[:, 2:].T
        square = xx * miss[:, 0] ** 2 + 2 * xy * miss.prod(axis=1) + yy * miss[:, 1] ** 2
        off.append(np.column_stack([miss, np.sqrt(square)]))
    return np.concatenate(off)


@pytest.mark.parametrize("name", ["bent", "even"])
def test_parts_lie_where_the_field_puts_them(name, request):
    graph, truth = request.getfixturevalue(name)
    field = (BARREL if name == "bent" else ScanField()).on(SHAPE)
    off = true_misses(graph, truth, field)
    assert len(off) == SIDES * 16
    # A part of 50 x 80 px of these waves tells its place to about 0.03 px.
    assert np.median(np.abs(off[:, :2])) < 0.05
    # White noise as assumed is the most there can be, a third of it is usual; 1.18 is normal.
    assert 0.3 < np.median(off[:, 2]) < 1.5


def test_only_refined_pairs_that_are_ok_have_parts_and_json_keeps_them(even):
    graph, _ = even
    for pair in graph.pairs():
        assert (pair.local is not None) == (pair.status == "ok")
        assert PairShift.from_json(json.loads(json.dumps(pair.to_json()))) == pair
        if pair.local is not None:
            assert len(pair.local.packed) == 428  # 16 parts of 20 bytes in base64
    noise = np.random.default_rng(0).normal(120, 25, SHAPE).clip(0, 255).astype(np.uint8)
    assert measure_pair(noise, noise[::-1], (0.0, 0.0, 8.0)).local is None
