"""Solving graphs with known positions: accuracy, outliers, islands, sigma, gain."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cemi_dask.errors import DisconnectedError, InputError
from cemi_dask.overlap import OverlapGraph, PairShift, Peak
from cemi_dask.solve import (
    PAIR_COLUMNS,
    POSITION_COLUMNS,
    SolveOptions,
    pairs_table,
    positions_table,
    solve,
)

PITCH = (512.0, 421.0)
FRAME = (690, 1024)


def grid_truth(rows, cols, rng):
    place = np.array([(PITCH[0] * c, PITCH[1] * r) for r in range(rows) for c in range(cols)])
    return place + rng.uniform(-10, 10, place.shape)


def grid_pairs(rows, cols):
    for r in range(rows):
        for c in range(cols):
            for dr, dc in ((0, 1), (1, -1), (1, 0), (1, 1)):
                if 0 <= c + dc < cols and r + dr < rows:
                    yield r * cols + c, (r + dr) * cols + c + dc


def measured(truth, i, j, rng, sigma=0.01, offset=(0.0, 0.0)):
    dx, dy = truth[j] - truth[i] + sigma * rng.standard_normal(2) + offset
    return Peak(float(dx), float(dy), 0.85, (sigma**2, 0.0, sigma**2))


def with_priors(graph, place, sigma_px):
    for k, (x, y) in enumerate(place):
        graph.graph.nodes[k].update(
            x_prior_px=float(x), y_prior_px=float(y), sigma_prior_px=sigma_px
        )
    return graph


def off(layout, truth):
    error = np.stack([layout.x_px, layout.y_px], axis=1) - truth
    return error - np.median(error, axis=0)


@pytest.mark.parametrize("priors", [False, True])
def test_wrong_links_and_lattice_jumps_do_not_move_frames(priors):
    rng = np.random.default_rng(0)
    truth = grid_truth(8, 10, rng)
    pairs, wrong = [], set()
    for i, j in grid_pairs(8, 10):
        right = measured(truth, i, j, rng)
        draw = rng.random()
        peaks = (right,)
        if draw < 0.05:  # nothing right among the peaks
            stray = rng.uniform(15, 30, 2)
            peaks = (measured(truth, i, j, rng, offset=stray),)
            wrong.add((i, j))
        elif draw < 0.15:  # one lamella off, the right peak second
            peaks = (measured(truth, i, j, rng, offset=(5.4, 0.0)), right)
        pairs.append(PairShift(i, j, peaks))
    graph = OverlapGraph.build(80, FRAME, pairs)
    if priors:
        with_priors(graph, truth + rng.uniform(-12, 12, truth.shape), 12.0)
    layout = solve(graph)
    assert np.abs(off(layout, truth)).max() < 0.05  # links scatter by 0.01 px
    table = pairs_table(graph, layout)
    rejected = table[table["status"] == "rejected"]
    assert set(zip(rejected["i"], rejected["j"], strict=True)) == wrong
    swapped = table[table["peak"] == 1]
    assert len(swapped) > 10
    assert (swapped["residual_px"] < 0.1).all()


def test_stage_errors_do_not_bend_linked_frames():
    rng = np.random.default_rng(1)
    truth = np.array([(PITCH[0] * c, 0.0) for c in range(60)])
    pairs = [PairShift(c, c + 1, (measured(truth, c, c + 1, rng, 0.001),)) for c in range(59)]
    graph = with_priors(OverlapGraph.build(60, FRAME, pairs), truth * 1.01, 16.0)
    layout = solve(graph)
    # The stage says 1 % more, 302 px over the row; the links alone decide.
    assert abs(np.ptp(layout.x_px) - np.ptp(truth[:, 0])) < 0.05


@pytest.mark.parametrize("n_rows", [6, 30])  # exact sigmas, and sampled ones above 400 frames
def test_stated_sigma_covers_the_errors(n_rows):
    rng = np.random.default_rng(2)
    truth = grid_truth(n_rows, 20, rng)
    pairs = [
        PairShift(i, j, (measured(truth, i, j, rng, sigma),))
        for (i, j) in grid_pairs(n_rows, 20)
        for sigma in (rng.choice([0.01, 0.1]),)
    ]
    layout = solve(OverlapGraph.build(len(truth), FRAME, pairs))
    error = np.stack([layout.x_px, layout.y_px], axis=1) - truth
    error -= error.mean(axis=0)
    inside = np.abs(error) < 2 * np.stack([layout.sigma_x_px, layout.sigma_y_px], axis=1)
    assert 0.90 <= inside.mean() <= 0.99  # 95 % of normal errors
    assert layout.sigma_x_px[0] > np.median(layout.sigma_x_px)  # corners hang on fewer links


def test_islands_go_where_they_are_expected_sheared_as_the_main_one():
    rng = np.random.default_rng(3)
    stage = grid_truth(4, 6, rng)
    truth = stage @ np.array([[1.004, 0.012], [-0.012, 1.004]])  # scan against stage axes
    pairs = [
        PairShift(i, j, (measured(truth, i, j, rng),))
        for i, j in grid_pairs(4, 6)
        if (i % 6 < 4) == (j % 6 < 4) and 23 not in (i, j)
    ]
    layout = solve(with_priors(OverlapGraph.build(24, FRAME, pairs), stage, 5.0))
    assert [int((layout.component == k).sum()) for k in range(3)] == [16, 7, 1]
    error = off(layout, truth)
    assert np.abs(error).max() < 3  # without the shear it would be 20 px
    assert layout.sigma_x_px[23] >= 5


def test_islands_without_expected_position_are_named():
    rng = np.random.default_rng(4)
    truth = grid_truth(1, 6, rng)
    pairs = [PairShift(k, k + 1, (measured(truth, k, k + 1, rng),)) for k in (0, 1, 2, 4)]
    graph = OverlapGraph.build(6, FRAME, pairs)
    with pytest.raises(DisconnectedError, match=r"6 frames form 2 islands.*\[4, 5\]"):
        solve(graph)
    layout = solve(graph, options=SolveOptions(allow_islands=True))
    assert layout.x_px[4:].min() >= layout.x_px[:4].max() + FRAME[1]


def test_unused_frames_are_placed_but_not_used():
    rng = np.random.default_rng(5)
    truth = grid_truth(1, 4, rng)
    pairs = [PairShift(k, k + 1, (measured(truth, k, k + 1, rng),)) for k in (0, 1)]
    graph = OverlapGraph.build(4, FRAME, pairs)
    graph.graph.nodes[3]["used"] = False
    layout = solve(graph)
    assert layout.used.tolist() == [True, True, True, False]
    assert np.isnan(layout.x_px[3])
    layout = solve(with_priors(graph, truth, 5.0))
    assert np.abs(off(layout, truth)).max() < 1
    assert layout.component[3] == 1


def test_ambiguous_link_that_nothing_confirms_is_not_believed():
    rng = np.random.default_rng(6)
    truth = grid_truth(1, 4, rng)
    pairs = [
        PairShift(0, 1, (measured(truth, 0, 1, rng),)),
        PairShift(1, 2, (measured(truth, 1, 2, rng),)),
        PairShift(2, 3, (measured(truth, 2, 3, rng, offset=(5.4, 0)),) * 2, "ambiguous"),
    ]
    graph = with_priors(OverlapGraph.build(4, FRAME, pairs), truth, 3.0)
    layout = solve(graph)
    assert layout.component.tolist() == [0, 0, 0, 1]
    assert np.abs(off(layout, truth)).max() < 0.5


def test_gain_and_offset_make_overlaps_agree():
    rng = np.random.default_rng(7)
    truth = grid_truth(5, 8, rng)
    gain = rng.uniform(0.92, 1.08, 40)
    brightness = rng.uniform(-4, 4, 40)
    pairs = []
    for i, j in grid_pairs(5, 8):
        mean, std = rng.uniform(90, 150), rng.uniform(20, 50)
        grey = tuple(
            float(v)
            for v in (
                (mean - brightness[i]) / gain[i],
                (mean - brightness[j]) / gain[j],
                std / gain[i],
                std / gain[j],
            )
        )
        pairs.append(PairShift(i, j, (measured(truth, i, j, rng),), "ok", grey))
    graph = OverlapGraph.build(40, FRAME, pairs)
    layout = solve(graph)
    steps = [
        layout.gain[p.i] * p.grey[0]
        + layout.offset[p.i]
        - layout.gain[p.j] * p.grey[1]
        - layout.offset[p.j]
        for p in pairs
    ]
    assert np.abs(steps).max() < 0.5  # grey levels; before: up to 25
    plain = solve(graph, options=SolveOptions(gain=False))
    assert (plain.gain == 1).all()
    assert (plain.offset == 0).all()


def test_common_shading_does_not_run_away_along_a_row():
    # The right side of every frame is 2 % darker than the left side of the next.
    truth = np.array([(PITCH[0] * c, 0.0) for c in range(200)])
    rng = np.random.default_rng(8)
    pairs = [
        PairShift(c, c + 1, (measured(truth, c, c + 1, rng),), "ok", (118.0, 120.4, 30.0, 30.0))
        for c in range(199)
    ]
    layout = solve(OverlapGraph.build(200, FRAME, pairs))
    corrected = layout.gain * 120 + layout.offset
    # Followed blindly it would be a factor of 50; a row may drift by its prior alone.
    assert np.ptp(corrected) < 40
    assert abs(corrected[50:150].std()) < 8


def test_result_does_not_depend_on_the_order_of_links():
    rng = np.random.default_rng(9)
    truth = grid_truth(4, 5, rng)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),)) for i, j in grid_pairs(4, 5)]
    one = solve(OverlapGraph.build(20, FRAME, pairs))
    other = solve(OverlapGraph.build(20, FRAME, pairs[::-1]))
    assert one.x_px.tobytes() == other.x_px.tobytes()
    assert one.sigma_x_px.tobytes() == other.sigma_x_px.tobytes()


def test_4000_frames_take_seconds():
    rng = np.random.default_rng(10)
    truth = grid_truth(18, 217, rng)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),)) for i, j in grid_pairs(18, 217)]
    start = time.process_time()
    layout = solve(OverlapGraph.build(len(truth), FRAME, pairs))
    assert time.process_time() - start < 30  # measured 3-4 s; slack for shared machines
    assert np.sqrt((off(layout, truth) ** 2).mean()) < 0.02


@pytest.mark.parametrize("rows", [1, 3, 18])
def test_rows_of_217_frames_end_where_they_should(rows):
    rng = np.random.default_rng(rows)
    truth = grid_truth(rows, 217, rng)
    # 0.003 px is what a pair of LD frames is measured to.
    pairs = [
        PairShift(i, j, (measured(truth, i, j, rng, sigma=0.003),))
        for i, j in grid_pairs(rows, 217)
    ]
    error = off(solve(OverlapGraph.build(len(truth), FRAME, pairs)), truth)
    ends = error.reshape(rows, 217, 2)[:, [0, -1]]
    # Errors of 216 links in a row, were they alone: 0.044 px.
    assert np.abs(ends[:, 1] - ends[:, 0]).max() < 4 * 0.003 * np.sqrt(216)


def test_table_of_pairs_tells_reasons_and_what_gain_leaves_at_the_seams():
    rng = np.random.default_rng(12)
    truth = grid_truth(3, 4, rng)
    edges = list(grid_pairs(3, 4))
    # Frame j is a fifth brighter and has a fifth more contrast; in the last pair as well, but
    # that one contradicts the others.
    grey = (100.0, 120.0, 20.0, 24.0)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),), "ok", grey) for i, j in edges]
    i, j = edges[-1]
    pairs[-1] = PairShift(i, j, (measured(truth, i, j, rng, offset=(40, 0)),), "ok", grey)
    pairs[0] = PairShift(*edges[0], status="empty", reason="no_texture")
    rival = (measured(truth, *edges[1], rng),) * 2
    pairs[1] = PairShift(*edges[1], rival, "ambiguous", grey, reason="rival_peak")
    graph = OverlapGraph.build(12, FRAME, pairs)
    options = SolveOptions(gain=False)
    table = pairs_table(graph, solve(graph, options=options), options=options)
    rows = {(r.i, r.j): r for r in table.itertuples()}
    assert (rows[i, j].status, rows[i, j].reason) == ("rejected", "contradicted")
    assert rows[edges[0]].reason == "no_texture"
    assert (rows[edges[1]].status, rows[edges[1]].reason) == ("ambiguous", "rival_peak")
    good = table[table["status"] == "ok"]
    assert len(good) == len(edges) - 3
    assert (good["reason"] == "").all()
    np.testing.assert_allclose(good["grey_step"], 20.0)
    np.testing.assert_allclose(good["contrast_ratio"], 1.2)
    assert np.isnan([rows[edges[0]].grey_step, rows[i, j].grey_step]).all()
    # Steps are those of corrected grey levels.
    layout = replace(solve(graph, options=options), gain=np.full(12, 0.5), offset=np.arange(12.0))
    again = pairs_table(graph, layout, options=options)
    step = 0.5 * 20.0 + again["j"] - again["i"]
    np.testing.assert_allclose(again["grey_step"][again["status"] == "ok"], step[good.index])


def test_tables_have_the_contract_columns_first():
    rng = np.random.default_rng(11)
    truth = grid_truth(2, 3, rng)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),)) for i, j in grid_pairs(2, 3)]
    pairs[0] = PairShift(pairs[0].i, pairs[0].j, status="empty")
    graph = OverlapGraph.build(6, FRAME, pairs)
    layout = solve(graph)
    table = pairs_table(graph, layout)
    assert tuple(table.columns[: len(PAIR_COLUMNS)]) == PAIR_COLUMNS
    assert table.loc[0, "status"] == "empty"
    assert np.isnan(table.loc[0, "dx_px"])
    assert np.isnan(table.loc[0, "residual_px"])
    frames = pd.DataFrame(
        {"frame": range(6), "file": "a.avi", "source_index": range(6), "row": [0] * 3 + [1] * 3}
    )
    places = positions_table(layout, frames)
    assert tuple(places.columns[: len(POSITION_COLUMNS)]) == POSITION_COLUMNS
    assert (places["x_px"] == layout.x_px).all()
    with pytest.raises(InputError, match="6 frames and a table of 5"):
        positions_table(layout, frames.iloc[:5])


def test_a_graph_without_frames_is_refused():
    with pytest.raises(InputError, match="no frames"):
        solve(OverlapGraph.build(0, FRAME, []))


def test_a_single_frame_has_a_place():
    layout = solve(OverlapGraph.build(1, FRAME, []))
    assert (layout.x_px[0], layout.y_px[0]) == (0.0, 0.0)
    assert layout.component[0] == 0


def test_shear_of_the_frames_is_handed_on_and_their_lines_stay_in_the_mosaic():
    rng = np.random.default_rng(3)
    truth = grid_truth(2, 3, rng)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),)) for i, j in grid_pairs(2, 3)]
    graph = OverlapGraph.build(6, FRAME, pairs)
    plain = solve(graph)
    assert not plain.shear.any()
    shear = [0.05, 0.05, 0.05, -0.05, -0.05, 0.0]
    for k, value in enumerate(shear):
        graph.graph.nodes[k]["shear"] = value
    layout = solve(graph)
    np.testing.assert_array_equal(layout.shear, shear)
    # The whole layout is moved, nothing else: displacements are those of the middle lines.
    np.testing.assert_allclose(np.diff(layout.x_px), np.diff(plain.x_px), atol=1e-9)
    assert (layout.x_px - np.abs(shear) * 689 / 2).min() == pytest.approx(0, abs=1e-9)
    own = pd.DataFrame({"frame": range(6), "file": "a.avi", "source_index": range(6), "row": 0})
    assert positions_table(layout, own)["shear"].tolist() == shear


def test_islands_of_sheared_frames_are_laid_side_by_side_without_touching():
    rng = np.random.default_rng(4)
    truth = grid_truth(1, 4, rng)
    pairs = [PairShift(i, j, (measured(truth, i, j, rng),)) for i, j in ((0, 1), (2, 3))]
    graph = OverlapGraph.build(4, FRAME, pairs)
    for k in range(4):
        graph.graph.nodes[k]["shear"] = 0.1 if k < 2 else -0.1
    layout = solve(graph, options=SolveOptions(allow_islands=True))
    first, second = (layout.component == number for number in (0, 1))
    assert layout.left_px[second].min() >= layout.right_px[first].max() + FRAME[1] - 1e-9
