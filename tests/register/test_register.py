"""register and solve on tiles and rows with known corners."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest

from cemi_dask.compute import compute_items
from cemi_dask.errors import DisconnectedError, InputError
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift, Peak
from cemi_dask.register import RegisterOptions, register
from cemi_dask.register.stage import open_corners
from cemi_dask.solve import pairs_table, solve
from tests.register.specimens import as_nominal, errors, record, texture, tile_grid

SHAPE = (230, 340)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.mark.parametrize("nominal", ["stage", "grid"])
def test_tiles_are_placed_to_hundredths_of_a_pixel(nominal):
    frames, truth = tile_grid(3, 4, SHAPE, noise_sigma=25)
    layout = solve(register(as_nominal(frames, nominal)))
    off = errors(layout, truth)
    # A pair of these small tiles is good to 0.02 px.
    assert np.sqrt((off**2).sum(axis=1).mean()) < 0.04
    assert (layout.component == 0).all()
    assert layout.x_px.min() == layout.y_px.min() == 0


def test_frames_without_positions_are_matched_all_against_all():
    frames, truth = tile_grid(2, 2, SHAPE, noise_sigma=15)
    frames.table[["x_nominal_px", "y_nominal_px"]] = np.nan
    layout = solve(register(as_nominal(frames, "none")))
    assert np.abs(errors(layout, truth)).max() < 0.1


def test_too_many_frames_without_positions_are_refused():
    frames, _ = tile_grid(2, 2, SHAPE)
    with pytest.raises(InputError, match="max_unplaced_frames"):
        register(as_nominal(frames, "none"), options=RegisterOptions(max_unplaced_frames=3))


def test_blank_tiles_stay_where_the_stage_put_them_and_spoil_nothing():
    frames, truth = tile_grid(3, 4, SHAPE, noise_sigma=25)
    pictures = frames.data.compute()
    rng = np.random.default_rng(1)
    blank = [2, 9]
    for k in blank:
        pictures[k] = np.clip(np.rint(118 + 25 * rng.standard_normal(SHAPE)), 0, 255)
    table = frames.table.copy()
    table.loc[9, "used"] = False  # one is known to be blank, the other is not
    graph = register(Frames(Frames.from_array(pictures).data, table, "stage"))
    layout = solve(graph)
    textured = np.setdiff1d(np.arange(12), blank)
    assert np.abs(errors(layout, truth, textured)).max() < 0.1
    assert (layout.component[textured] == 0).all()
    assert (layout.component[blank] > 0).all()
    assert layout.used.tolist() == [k != 9 for k in range(12)]
    # Stage errors are at most 12 px here.
    off = np.stack([layout.x_px, layout.y_px], axis=1) - truth
    assert np.abs(off[blank] - off[textured].mean(axis=0)).max() < 25
    status = pairs_table(graph, layout).set_index(["i", "j"])["status"]
    assert set(status[[k for k in status.index if 2 in k]]) == {"empty"}
    assert not any(9 in k for k in status.index)


def test_corners_are_measured_only_where_sides_do_not_tell_them():
    frames, _ = tile_grid(3, 4, SHAPE, noise_sigma=5)
    sides = {(k, k + 1) for k in range(12) if k % 4 < 3} | {(k, k + 4) for k in range(8)}
    assert set(register(frames).graph.edges) == sides
    pictures = frames.data.compute()
    pictures[5] = 118  # the tile in row 1, column 1
    graph = register(Frames(Frames.from_array(pictures).data, frames.table, "stage"))
    around = {(0, 5), (1, 4), (1, 6), (2, 5), (4, 9), (5, 8), (5, 10), (6, 9)}
    assert set(graph.graph.edges) == sides | around


def test_two_ways_round_that_disagree_leave_the_corners_open():
    def side(i, j, dx, dy, status="ok"):
        return PairShift(i, j, (Peak(dx, dy, 0.9, (1e-4, 0.0, 1e-4)),), status)

    corners = [(0, 3), (1, 2)]
    sides = [side(0, 1, 90, 1), side(2, 3, 90, 1), side(0, 2, 0, 80), side(1, 3, 0.9, 80)]
    assert open_corners(corners, sides) == []
    assert open_corners(corners, [*sides[:3], side(1, 3, 5.4, 80)]) == corners
    assert open_corners(corners, [*sides[:3], side(1, 3, 0, 80, "ambiguous")]) == corners


def test_wrong_stage_positions_of_60_px_are_found_again():
    frames, truth = tile_grid(3, 4, (345, 512), noise_sigma=25)
    frames.table.loc[[5, 7], "x_nominal_px"] += 60
    layout = solve(register(frames))
    assert np.abs(errors(layout, truth)).max() < 0.1
    assert (layout.component == 0).all()


def test_grid_numbered_against_the_axes_is_placed_right():
    frames, truth = tile_grid(2, 3, SHAPE, noise_sigma=15)
    frames.table["col"] = 2 - frames.table["col"]
    frames.table["row"] = 1 - frames.table["row"]
    layout = solve(register(as_nominal(frames, "grid")))
    assert np.abs(errors(layout, truth)).max() < 0.1


def rows_of_video(
    starts: list[tuple[float, float]], *, serpentine: bool, count: int = 8, seed: int = 0
) -> tuple[Frames, Any]:
    """Rows at unknown places: tracked positions know steps inside a row alone (to 1 px)."""
    rng = np.random.default_rng(seed)
    h, w = SHAPE
    corners = []
    for q, (x0, y0) in enumerate(starts):
        x = x0 + np.cumsum(rng.uniform(0.45, 0.6, count) * w)
        y = y0 + np.cumsum(rng.normal(0, 0.7, count))
        order = slice(None, None, -1 if serpentine and q % 2 else 1)
        corners.append(np.stack([x, y], axis=1)[order])
    truth = np.concatenate(corners)
    truth -= truth.min(axis=0) - 20
    size = (int(truth[:, 1].max()) + h + 30, int(truth[:, 0].max()) + w + 30)
    pictures = record(texture(size, seed), truth, SHAPE, noise_sigma=25, seed=seed)
    tracked = np.concatenate(
        [c - c[0] + np.cumsum(rng.normal(0, 1, c.shape), axis=0) for c in corners]
    )
    row = np.repeat(np.arange(len(starts)), count)
    frames = Frames.from_array(
        pictures,
        x_nominal_px=tracked[:, 0],
        y_nominal_px=tracked[:, 1],
        row=row,
        nominal="row",
    )
    return frames, truth


@pytest.mark.parametrize(
    ("starts", "serpentine"),
    [
        ([(0, 0), (35, 150), (-30, 290)], True),
        ([(0, 0), (450, 160)], False),  # the second row starts more than a frame later
        ([(0, 300), (20, 140), (0, 0)], False),  # rows from the bottom up
    ],
)
def test_rows_of_unknown_offset_find_each_other(starts, serpentine):
    frames, truth = rows_of_video(starts, serpentine=serpentine)
    graph = register(frames)
    layout = solve(graph)
    assert graph.notes == ()
    assert np.abs(errors(layout, truth)).max() < 0.2
    assert (layout.component == 0).all()


def test_a_blank_stretch_of_a_row_is_bridged_by_the_row_below():
    frames, truth = rows_of_video([(0, 0), (20, 140)], serpentine=False)
    frames.table.loc[[3, 4], "used"] = False
    layout = solve(register(frames))
    used = frames.table["used"].to_numpy()
    assert np.abs(errors(layout, truth, used)).max() < 0.2
    assert (layout.component[used] == 0).all()
    # Positions in the gap come from the track, a few px off.
    off = np.stack([layout.x_px, layout.y_px], axis=1) - truth
    assert np.abs(off[~used] - off[used].mean(axis=0)).max() < 10


def test_rows_with_nothing_in_common_are_named():
    frames, _ = rows_of_video([(0, 0), (20, 400)], serpentine=False)
    graph = register(frames)
    assert "Row 1 shows nothing in common with row 0" in graph.notes[0]
    with pytest.raises(DisconnectedError, match="2 islands"):
        solve(graph)


def test_items_are_few_named_stable_and_of_plain_json():
    import json

    frames, _ = tile_grid(3, 4, SHAPE)
    seen: dict[str, Any] = {}

    def ledger(items):
        results = compute_items(items)
        seen.update(results)
        # What a resumed run gets is what JSON keeps.
        return json.loads(json.dumps(results))

    options = RegisterOptions(frames_per_item=6)
    first = register(frames, options=options, compute=ledger)
    names = list(seen)
    # The left half of the tiles, and the right one.
    assert names == ["register-pair/stage-0-9", "register-pair/stage-2-10"]
    seen.clear()
    again = register(frames, options=options, compute=ledger)
    assert list(seen) == names
    assert list(first.pairs()) == list(again.pairs())


def test_workers_and_batches_do_not_change_the_result():
    frames, _ = tile_grid(2, 3, SHAPE)
    one = list(register(frames).pairs())
    with dask.config.set(scheduler="threads", num_workers=3):
        other = list(register(frames, options=RegisterOptions(frames_per_item=1)).pairs())
    assert one == other


def test_a_frame_with_nan_is_named():
    frames, _ = tile_grid(1, 2, SHAPE)
    pictures = frames.data.compute().astype(np.float32)
    pictures[1, 5, 5] = np.nan
    broken = Frames(Frames.from_array(pictures).data, frames.table, "stage")
    with pytest.raises(InputError, match=r"Frame 1: .*NaN"):
        register(broken)
