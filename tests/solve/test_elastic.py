"""Frames that charging or drift has deformed one by one: meshes of their own make up for it."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pytest

from cemi_dask.blend import blend
from cemi_dask.distortion import Bend
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames
from cemi_dask.pipeline import parse_config
from cemi_dask.register import register
from cemi_dask.resample import resample
from cemi_dask.solve import SolveOptions, solution, solve
from tests.register.specimens import errors, texture, tile_grid
from tests.register.test_register_real import load

SHAPE = (230, 340)
ROWS, COLS = 3, 4
PITCH = np.array([190.0, 145.0])


def deformed(amount_px: float, noise_sigma: float, seed: int = 0):
    """Tiles of a texture, each bent by a smooth field of its own, their corners and fields.

    Node by node normal with `amount_px`: neighbours have nothing in common.
    """
    rng = np.random.default_rng(seed)
    h, w = SHAPE
    scene = texture((h + 145 * (ROWS - 1) + 80, w + 190 * (COLS - 1) + 80), seed)
    corners = np.array([(c, r) for r in range(ROWS) for c in range(COLS)]) * PITCH + 40
    corners = corners + rng.uniform(-4, 4, corners.shape)
    pictures, fields = [], []
    ys, xs = np.mgrid[0:h, 0:w].astype(float)
    for x, y in corners:
        field = Bend(SHAPE, amount_px * rng.standard_normal((5, 5, 2)))
        at = field.at(xs, ys)
        frame = _read(scene, x + xs + at[..., 0], y + ys + at[..., 1])
        noisy = 120 + 35 * frame + noise_sigma * rng.standard_normal(SHAPE)
        pictures.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        fields.append(field)
    frames = Frames.from_array(
        np.stack(pictures), x_nominal_px=corners[:, 0] + 2, y_nominal_px=corners[:, 1] - 2
    )
    return frames, corners, fields, 120 + 35 * scene


def _read(scene, x, y):
    """A smooth scene at any places, by cubic splines of its own pixels."""
    from scipy.ndimage import map_coordinates

    return map_coordinates(scene, [y, x], order=5, mode="reflect")


def misplacement(layout, corners, fields):
    """Rms over frames and places, px, of where the layout puts pixels, without the whole."""
    ys, xs = np.mgrid[0 : SHAPE[0] : 10, 0 : SHAPE[1] : 10].astype(float)
    off = []
    for k, field in enumerate(fields):
        found = layout.field_of(k)
        bent = 0.0 if found is None else found.at(xs, ys)
        place = np.array([layout.x_px[k], layout.y_px[k]]) + bent
        off.append(place - (corners[k] + field.at(xs, ys)))
    off = np.array(off)
    off -= off.mean(axis=(0, 1, 2))
    return float(np.sqrt((off**2).sum(axis=-1).mean()))


@pytest.fixture(scope="module")
def bent():
    frames, corners, fields, scene = deformed(1.5, 3.0)
    with dask.config.set(scheduler="sync"):
        return frames, register(frames), corners, fields, scene


def test_meshes_make_up_for_what_each_frame_is_deformed_by(bent):
    _, graph, corners, fields, _ = bent
    rigid = solve(graph, options=SolveOptions(distortion="off"))
    found = solution(graph, options=SolveOptions(distortion="off", elastic=True))
    assert found.bending is not None
    facts = found.bending.facts()
    # Parts that took no part in the fit agree four times better.
    assert facts["held_out"]["after_px"] < 0.25 * facts["held_out"]["before_px"]
    assert facts["parts"] > 150
    before = misplacement(rigid, corners, fields)
    after = misplacement(found.layout, corners, fields)
    assert before > 0.5
    # Not to nothing: how the mosaic as a whole is bent, no overlap can tell.
    assert after < 0.7 * before


def test_the_mosaic_shows_no_doubled_structure_after_bending(bent):
    frames, graph, _, _, _ = bent

    def disagreement(layout):
        # The mosaic of all frames against that of every other one: many places from two looks.
        with dask.config.set(scheduler="sync"):
            mosaics = [
                np.asarray(blend(frames, part, method="first", dtype="float32"))
                for part in (layout, replace(layout, used=layout.used & (np.arange(12) % 2 == 1)))
            ]
        height, width = np.min([m.shape for m in mosaics], axis=0)
        mosaics = [m[:height, :width] for m in mosaics]
        both = np.isfinite(mosaics[0]) & np.isfinite(mosaics[1])
        return float(np.std((mosaics[0] - mosaics[1])[both]))

    options = {"distortion": "off", "gain": False}
    rigid = disagreement(solve(graph, options=SolveOptions(**options)))
    elastic = disagreement(solve(graph, options=SolveOptions(elastic=True, **options)))
    assert elastic < 0.6 * rigid


def test_frames_that_are_straight_stay_straight():
    frames, truth = tile_grid(3, 4, SHAPE, noise_sigma=12)
    with dask.config.set(scheduler="sync"):
        graph = register(frames)
    found = solution(graph, options=SolveOptions(elastic=True))
    ys, xs = np.mgrid[0 : SHAPE[0] : 10, 0 : SHAPE[1] : 10].astype(float)
    moved = np.array([found.layout.field_of(k).at(xs, ys) for k in range(12)])
    # A part of these small tiles is good to 0.05 px; nodes beyond the overlaps are known less.
    assert np.sqrt((moved**2).mean()) < 0.06
    assert np.abs(errors(found.layout, truth)).max() < 0.1
    assert np.array_equal(
        found.layout.bends, solution(graph, options=SolveOptions(elastic=True)).layout.bends
    )


def test_a_mesh_is_inverted_to_a_hundredth_of_a_pixel():
    field = Bend(SHAPE, 2.0 * np.random.default_rng(3).standard_normal((6, 6, 2)))
    inner = 12
    x, y = (np.arange(inner, n - inner, dtype=float) for n in (SHAPE[1], SHAPE[0]))
    ramp_y, ramp_x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
    ahead = field.at(ramp_x, ramp_y)
    # A frame whose grey level tells where its pixels lie comes out as the ramp itself.
    for ramp, axis in ((ramp_x, 0), (ramp_y, 1)):
        straight = resample(ramp + ahead[..., axis].astype(np.float32), *field.sources(x, y))
        wanted = np.broadcast_to(x if axis == 0 else y[:, None], straight.shape)
        assert np.abs(straight - wanted).max() < 0.05


def test_meshes_and_averages_over_neighbours_are_refused_together():
    with pytest.raises(ConfigError, match=r"solve\.elastic"):
        parse_config(
            {
                "input": {"paths": ["x"]},
                "solve": {"elastic": True},
                "denoise": {"method": "overlap"},
            }
        )
    frames, _ = tile_grid(2, 2, SHAPE, noise_sigma=5)
    from cemi_dask.denoise import denoise

    with dask.config.set(scheduler="sync"):
        layout = solve(register(frames), options=SolveOptions(elastic=True))
        with pytest.raises(InputError, match=r"solve\.elastic"):
            denoise(frames, method="overlap", layout=layout).data.compute()


@pytest.mark.real
def test_parts_of_deformed_tissue_agree_three_times_better(real_data):
    frames = load(real_data / "stitch_sem_mussel_3x3_s2", r"2_(?P<row>\d)_(?P<col>\d)")
    with dask.config.set(scheduler="sync"):
        graph = register(frames)
    found = solution(graph, options=SolveOptions(elastic=True, elastic_px=6.0))
    assert found.bending is not None
    assert found.bending.before_px > 1.5
    assert found.bending.after_px < found.bending.before_px / 3
