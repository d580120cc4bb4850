"""One scan distortion for all frames: found from parts of overlaps, kept only where it is real."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cemi_dask.distortion import TOLD
from cemi_dask.geometry import Box
from cemi_dask.overlap import LocalShifts, OverlapGraph, PairShift, Peak
from cemi_dask.simulate import ScanField
from cemi_dask.solve import SolveOptions, calibrate, pairs_table, solve
from tests.solve.test_solve import FRAME, grid_pairs, grid_truth, off

NONE = ScanField().on(FRAME)
BARREL = ScanField(barrel_px=3.0, drift_px=0.8).on(FRAME)
PART_SIGMA_PX = 0.03


def measured_parts(truth, i, j, field, rng, *, shear=(0.0, 0.0), wrong=0.0):
    """What registration would find of pair (i, j) of frames bent by `field`.

    A share `wrong` of the parts lies one lamella (5.4 px) off.
    """
    step = truth[j] - truth[i]
    first = np.maximum(0, step).astype(int)
    last = np.minimum(FRAME[::-1], FRAME[::-1] + step).astype(int)
    box = Box(first[1], first[0], last[1], last[0])
    place = LocalShifts((box.y0, box.x0, box.y1, box.x1), (4, 4), "").centres

    def seen(at, slant):  # where a pixel of a rectified frame lies beside its corner
        return at + field.at(at[:, 0] - slant * (at[:, 1] - (FRAME[0] - 1) / 2), at[:, 1])

    there = place - step
    for _ in range(20):  # the place in frame j that shows the same
        there = there + (seen(place, shear[0]) - step - seen(there, shear[1]))
    shift = place - there + PART_SIGMA_PX * rng.standard_normal(place.shape)
    shift[rng.random(len(shift)) < wrong] += (5.4, 0.0)
    information = np.tile(np.eye(2) / PART_SIGMA_PX**2, (len(shift), 1, 1))
    dx, dy = np.median(shift, axis=0)
    sigma2 = PART_SIGMA_PX**2 / len(shift)
    return PairShift(
        i,
        j,
        (Peak(float(dx), float(dy), 0.85, (sigma2, 0.0, sigma2)),),
        local=LocalShifts.pack(box, (4, 4), shift, information),
    )


def bent_grid(field, rows=4, cols=5, *, seed=0, shear=None, wrong=0.0):
    """A grid of frames bent by `field`, and their true places."""
    rng = np.random.default_rng(seed)
    truth = grid_truth(rows, cols, rng)
    slant = np.zeros(len(truth)) if shear is None else shear
    pairs = [
        measured_parts(truth, i, j, field, rng, shear=(slant[i], slant[j]), wrong=wrong)
        for i, j in grid_pairs(rows, cols)
    ]
    graph = OverlapGraph.build(len(truth), FRAME, pairs)
    for k, node in graph.graph.nodes.items():
        node["shear"] = float(slant[k])
    return graph, truth


def field_error(found, true):
    """The largest distance (px) between two fields over the frame, what is linear left out."""
    y, x = np.mgrid[0 : FRAME[0] : 10, 0 : FRAME[1] : 10].astype(float)
    coefficients = np.array([true.x_px, true.y_px])
    coefficients[:, [k for k in range(9) if k not in TOLD]] = 0
    told = type(true)(FRAME, tuple(coefficients[0]), tuple(coefficients[1]))
    return float(np.linalg.norm(found.at(x, y) - told.at(x, y), axis=-1).max())


@pytest.mark.parametrize("wrong", [0.0, 0.1])
@pytest.mark.parametrize("slant", [0.0, 0.05])
def test_the_field_and_the_positions_are_found_together(slant, wrong):
    shear = slant * np.repeat([1.0, -1.0, 1.0, -1.0], 5)
    graph, truth = bent_grid(BARREL, shear=shear, wrong=wrong)
    layout = solve(graph)
    assert layout.distortion is not None
    # 55 links x 16 parts of 0.03 px; the worst corner is told three times worse than the middle.
    assert field_error(layout.distortion, BARREL) < 0.1
    assert np.abs(off(layout, truth)).max() < 0.1
    plain = solve(graph, options=SolveOptions(distortion="off"))
    assert plain.distortion is None
    assert np.abs(off(plain, truth)).max() > 1.0
    table = pairs_table(graph, layout)
    assert (table["status"] == "ok").all()
    assert table["residual_px"].median() < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_noise_alone_is_no_distortion(seed):
    graph, _ = bent_grid(NONE, seed=seed)
    found = calibrate(graph)
    assert not found.kept
    assert found.held_out_gain < 0.02
    layout = solve(graph)
    assert layout.distortion is None
    same = solve(graph, options=SolveOptions(distortion="off"))
    np.testing.assert_array_equal(layout.x_px, same.x_px)
    np.testing.assert_array_equal(layout.sigma_y_px, same.sigma_y_px)


def test_on_applies_what_auto_would_leave():
    graph, truth = bent_grid(NONE)
    layout = solve(graph, options=SolveOptions(distortion="on"))
    assert layout.distortion is not None
    assert layout.distortion.max_px < 0.1
    assert np.abs(off(layout, truth)).max() < 0.1


def test_a_field_that_moves_next_to_nothing_is_left():
    graph, _ = bent_grid(ScanField(barrel_px=0.03).on(FRAME), rows=10, cols=20)
    assert not calibrate(graph).kept


def test_a_field_that_no_scan_has_is_left():
    graph, _ = bent_grid(ScanField(barrel_px=40.0).on(FRAME))
    found = calibrate(graph)
    assert not found.kept
    assert found.reason == "it is larger than 3 % of a frame"


def test_a_field_with_which_loops_close_worse_is_left():
    # Parts bend as if by a barrel, but overlaps as a whole lie where frames without one do:
    # dirt on the screen does that, which is the same in all frames and pulls at them.
    graph, truth = bent_grid(ScanField(barrel_px=12.0).on(FRAME))
    for pair in list(graph.pairs()):
        values = pair.local.values
        step = truth[pair.j] - truth[pair.i]
        shift = values[:, :2] - values[:, :2].mean(axis=0) + step
        information = np.tile(np.eye(2) / PART_SIGMA_PX**2, (len(shift), 1, 1))
        local = LocalShifts.pack(Box(*pair.local.box), pair.local.grid, shift, information)
        peak = Peak(*step.tolist(), 0.85, pair.peaks[0].cov_px2)
        graph.graph.edges[pair.i, pair.j]["pair"] = replace(pair, peaks=(peak,), local=local)
    found = calibrate(graph)
    assert found.held_out_gain > 0.5
    assert not found.kept
    assert found.reason.startswith("loops of overlaps miss by")
    assert np.abs(off(solve(graph), truth)).max() < 0.05


def test_what_is_linear_cannot_be_told_and_is_left():
    # It scales, turns and shears the whole mosaic, which agrees with itself as before.
    graph, _ = bent_grid(ScanField(scale_px=3.0, shear_px=2.0).on(FRAME))
    assert not calibrate(graph).kept


def test_a_single_row_tells_nothing_of_what_changes_along_y_alone():
    rng = np.random.default_rng(3)
    truth = np.array([(600.0 * k, 0.0) for k in range(20)])
    field = ScanField(barrel_px=3.0, drift_px=2.0).on(FRAME)
    pairs = [measured_parts(truth, k, k + 1, field, rng) for k in range(19)]
    found = calibrate(OverlapGraph.build(20, FRAME, pairs))
    assert found.kept
    assert found.field is not None
    along_y_alone = np.array([found.field.x_px, found.field.y_px])[:, [4, 8]]
    assert np.abs(along_y_alone).max() < 0.02
    assert np.abs(np.subtract(found.field.x_px, field.x_px))[[2, 3, 5, 6, 7]].max() < 0.1


def test_too_few_overlaps_are_told_of():
    graph, _ = bent_grid(BARREL, rows=2, cols=2)
    found = calibrate(graph)
    assert not found.kept
    assert found.reason == "only 6 overlaps were measured in parts"
    assert solve(graph).distortion is None
