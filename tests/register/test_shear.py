"""Displacements of frames that were scanned while the stage moved."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.register import measure_pair, register
from cemi_dask.register.prepare import Prepared
from cemi_dask.resample import shift_rows
from cemi_dask.simulate import Specimen
from cemi_dask.solve import positions_table, solve
from tests.register.specimens import record, texture

SHAPE = (256, 384)
STEPS = {"row": (170.37, 3.21), "across": (40.63, 150.28)}
SHEARS = [(0.05, 0.05), (0.05, -0.05), (0.05, 0.0)]


def scanned(specimen, corner, shear, noise_sigma, seed):
    """An 8-bit frame whose middle line starts at `corner` (x, y) of the specimen.

    A wider window is rendered and each line read at its own place (exact to 0.001 px).
    """
    height, width = SHAPE
    wide = specimen.image(corner[1], corner[0] - 40, (height, width + 80), psf_sigma_px=1.0)
    frame = shift_rows(wide, -shear * (np.arange(height) - (height - 1) / 2))[:, 40:-40]
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    return np.clip(np.rint(frame + noise_sigma * noise), 0, 255).astype(np.uint8)


def scanned_pair(step, shear, noise_sigma):
    specimen, start = Specimen(seed=0), np.array([1200.2, 700.7])
    return [
        scanned(specimen, corner, s, noise_sigma, seed)
        for seed, (corner, s) in enumerate(zip((start, start + step), shear, strict=True))
    ]


@pytest.mark.parametrize("shear", SHEARS)
@pytest.mark.parametrize("direction", STEPS)
@pytest.mark.parametrize(("noise_sigma", "limit_px"), [(25.0, 0.05), (0.0, 0.02)])
def test_displacement_is_that_of_the_middle_lines(direction, shear, noise_sigma, limit_px):
    step = np.array(STEPS[direction])
    fixed, moving = scanned_pair(step, shear, noise_sigma)
    found = measure_pair(fixed, moving, (step[0] + 3, step[1] - 2, 4.0), shear=shear)
    assert found.status == "ok"
    peak = found.peaks[0]
    miss = np.array([peak.dx_px, peak.dy_px]) - step
    sigma = np.sqrt([peak.cov_px2[0], peak.cov_px2[2]])
    assert np.abs(miss).max() < limit_px
    # 3.5 sigma, and 0.005 px for what rounding to whole grey levels adds to no noise at all.
    assert (np.abs(miss) < 3.5 * sigma + 0.005).all()
    assert (sigma < limit_px).all()


def test_shear_that_is_not_told_displaces_frames_of_neighbouring_rows():
    step = np.array(STEPS["across"])
    fixed, moving = scanned_pair(step, (0.05, 0.05), 0.0)
    found = measure_pair(fixed, moving, (step[0] + 3, step[1] - 2, 8.0))
    # The line of the fixed frame that shows the moving one's middle is 150 lines further down.
    assert found.peaks[0].dx_px - step[0] == pytest.approx(-0.05 * step[1], abs=0.05)


@pytest.mark.parametrize("shear", [(0.05, 0.05), (0.2, -0.2)])
def test_standard_deviations_are_honest_on_sheared_frames(shear):
    misses = []
    for seed in range(16):
        corners = np.array([[60.3, 40.2], [60.3 + 121.4, 40.2 + 80.7]])
        clean = record(texture((480, 720), seed), corners, (256, 464), noise_sigma=0, seed=seed)
        rng = np.random.default_rng(seed)
        offsets = np.arange(256) - 127.5
        pair = [
            np.clip(
                np.rint(
                    shift_rows(picture, -s * offsets)[:, 40:-40]
                    + 25 * rng.standard_normal((256, 384))
                ),
                0,
                255,
            ).astype(np.uint8)
            for picture, s in zip(clean, shear, strict=True)
        ]
        found = measure_pair(*pair, (120.0, 82.0, 4.0), shear=shear)
        assert found.status == "ok"
        peak = found.peaks[0]
        sigma = np.sqrt([peak.cov_px2[0], peak.cov_px2[2]])
        misses.append((np.array([peak.dx_px, peak.dy_px]) - (121.4, 80.7)) / sigma)
    # 32 normal values: their root mean square is 1 +- 0.125.
    assert 0.65 < np.sqrt(np.mean(np.square(misses))) < 1.4


def test_what_no_line_covers_neither_attracts_nor_counts():
    rejected = []
    for seed in range(6):
        a, b = (
            record(texture(SHAPE, 50 + 2 * seed + k), [(0, 0)], SHAPE, noise_sigma=20)[0]
            for k in (0, 1)
        )
        # Triangles of 38 px at either side hold nothing: at (0, 0) they coincide.
        rejected.append(measure_pair(a, b, (0.0, 0.0, 16.0), shear=(0.3, 0.3)).status)
        rejected.append(measure_pair(a, b, shear=(0.3, 0.3)).status)
    assert set(rejected) == {"rejected"}
    noise = np.random.default_rng(0).normal(120, 25, SHAPE).clip(0, 255).astype(np.uint8)
    assert measure_pair(noise, a, shear=(0.05, 0.05)).status == "empty"


def test_grey_statistics_and_overlap_come_from_matching_parts():
    step = np.array((170.0, 100.0))
    bright, dark = (np.full(SHAPE, level, np.uint8) for level in (200, 50))
    fixed, moving = scanned_pair(step, (0.3, -0.3), 5.0)
    found = measure_pair(fixed, moving, (170.0, 100.0, 3.0), shear=(0.3, -0.3))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    middle = (SHAPE[0] - 1) / 2
    # Where line y of the fixed frame meets line y - 100 of the moving one.
    place = np.rint(0.3 * (y - middle)).astype(int)
    seen = x + place - 170 - np.rint(-0.3 * (y - 100 - middle)).astype(int)
    inside = (seen >= 0) & (seen < SHAPE[1]) & (y >= 100)
    # What lies beyond the array of a rectified frame is not looked at.
    inside &= (x + place >= 0) & (x + place < SHAPE[1]) & (x + place - 170 < SHAPE[1])
    assert found.grey is not None
    assert found.grey[0] == pytest.approx(fixed[inside].mean(), abs=0.3)
    assert found.grey[1] == pytest.approx(moving[y[inside] - 100, seen[inside]].mean(), abs=0.3)
    assert found.grey[2] == pytest.approx(fixed[inside].std(), rel=0.01)
    assert found.overlap_px == pytest.approx(inside.sum(), rel=0.01)
    prepared = [Prepared(p, 64, 0.9, 0.3) for p in (bright, dark)]
    for ready, level in zip(prepared, (200, 50), strict=True):
        first, last = ready.line_ends()
        for line in (0, 100, 255):
            assert (ready.placed[line, first[line] : last[line]] == level).all()
            assert not ready.placed[line, : first[line]].any()
            assert not ready.placed[line, last[line] :].any()


def serpentine(noise_sigma=15.0):
    """Three rows of three frames; the stage moves right, back and right: shear 0.06, -0.06."""
    specimen = Specimen(seed=0)
    rng = np.random.default_rng(5)
    place = np.array([(190.0 * c, 150.0 * r) for r in range(3) for c in range(3)])
    truth = place + rng.uniform(-3, 3, place.shape)
    shear = np.repeat([0.06, -0.06, 0.06], 3)
    pictures = [
        scanned(specimen, corner + np.array([1200, 700]), s, noise_sigma, k)
        for k, (corner, s) in enumerate(zip(truth, shear, strict=True))
    ]
    frames = Frames.from_array(
        np.stack(pictures),
        x_nominal_px=place[:, 0],
        y_nominal_px=place[:, 1],
        row=np.repeat(np.arange(3), 3),
    )
    frames.table["shear"] = shear
    return frames, truth


def test_rows_scanned_in_opposite_directions_are_solved_where_they_lie():
    frames, truth = serpentine()
    graph = register(frames)
    assert [graph.graph.nodes[k]["shear"] for k in range(9)] == frames.table["shear"].tolist()
    layout = solve(graph)
    np.testing.assert_array_equal(layout.shear, frames.table["shear"])
    off = np.stack([layout.x_px, layout.y_px], axis=1) - truth
    assert np.abs(off - off.mean(axis=0)).max() < 0.05
    assert abs(layout.left_px.min()) < 1e-9
    table = positions_table(layout, frames.table)
    np.testing.assert_array_equal(table["shear"], layout.shear)
    # Without the shear, links across rows are off by up to 0.06 px per line between the rows.
    frames.table["shear"] = 0.0
    bent = solve(register(frames))
    off = np.stack([bent.x_px, bent.y_px], axis=1) - truth
    assert np.abs(off - off.mean(axis=0)).max() > 0.5


def test_shear_that_is_no_number_is_refused():
    frames, _ = serpentine()
    frames.table.loc[4, "shear"] = np.nan
    with pytest.raises(InputError, match=r"\[4\].*shear of nan"):
        register(frames)
    frames.table.loc[4, "shear"] = 1.5
    with pytest.raises(InputError, match=r"shear of 1\.5"):
        register(frames)
