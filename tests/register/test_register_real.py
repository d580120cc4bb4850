"""Real micrographs: neighbours' displacements agree with an independent (SIFT) measurement."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import dask
import numpy as np
import pytest

from cemi_dask.frameset import Frames
from cemi_dask.register import register
from cemi_dask.solve import pairs_table, solve

pytestmark = pytest.mark.real

# (folder, name pattern, which group is row, rows of pixels kept, {(row, col), (row, col): shift})
GRID_2X3 = {((0, 0), (0, 1)): (379.6, 2.8), ((0, 0), (1, 0)): (-4.9, 395.8)}
MUSSEL = {
    ((0, 0), (0, 1)): (1849.8, -12.9),
    ((0, 1), (0, 2)): (1846.5, -12.5),
    ((0, 0), (1, 0)): (26.8, 1597.5),
    ((0, 1), (1, 1)): (30.8, 1594.3),
    ((0, 2), (1, 2)): (27.0, 1592.6),
    ((1, 0), (2, 0)): (24.1, 1598.6),
    ((1, 1), (2, 1)): (22.9, 1596.1),
    ((2, 0), (2, 1)): (1846.7, -13.0),
    ((2, 1), (2, 2)): (1841.2, -22.6),
}
BSE_ROW = [(-1027.0, -70.6), (-1128.8, -32.0), (-1086.6, 12.2)]
CL_ROW = [
    (-1182.6, -34.7),
    (-1181.5, -59.4),
    (-1190.3, 66.9),
    (-1151.9, -32.3),
    (-1168.3, -71.4),
    (-1175.5, -45.2),
    (-1174.2, 20.3),
    (-1195.6, -21.6),
    (-1220.2, 9.6),
]


def along_row(shifts: list[tuple[float, float]]) -> dict:
    return {((0, k), (0, k + 1)): shift for k, shift in enumerate(shifts)}


def load(folder: Path, pattern: str, keep_rows: int | None = None) -> Frames:
    """Tiles as a grid; `pattern` has the groups row and col, or the order of names is the row."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".bmp"))
    pictures = np.stack([cv2.imread(str(p), cv2.IMREAD_GRAYSCALE)[:keep_rows] for p in files])
    frames = Frames.from_array(pictures, nominal="grid")
    if pattern:
        found = [re.search(pattern, p.name) for p in files]
        place = [(int(m["row"]), int(m["col"])) for m in found if m]
    else:
        place = [(0, k) for k in range(len(files))]
    frames.table["row"] = [r for r, _ in place]
    frames.table["col"] = [c for _, c in place]
    return frames


@pytest.mark.parametrize(
    ("name", "pattern", "keep_rows", "shifts"),
    [
        ("stitch_bse_grid_2x3", r"@(?P<col>\d) (?P<row>\d)", None, GRID_2X3),
        ("stitch_bse_zircon_row", "", 900, along_row(BSE_ROW)),
        ("stitch_cl_zircon_row_a", "", 955, along_row(CL_ROW)),
        (
            "stitch_sem_mussel_3x3_s2",
            r"2_(?P<row>\d)_(?P<col>\d)",
            None,
            {((a[0] + 1, a[1] + 1), (b[0] + 1, b[1] + 1)): s for (a, b), s in MUSSEL.items()},
        ),
    ],
)
def test_grids_of_unknown_pitch_are_stitched_right(real_data, name, pattern, keep_rows, shifts):
    frames = load(real_data / name, pattern, keep_rows)
    with dask.config.set(scheduler="sync"):
        graph = register(frames)
    layout = solve(graph)
    table = pairs_table(graph, layout)
    assert (table["status"] == "ok").all()
    assert (layout.component == 0).all()
    place = {
        (int(r), int(c)): k
        for k, (r, c) in enumerate(zip(frames.table["row"], frames.table["col"], strict=True))
    }
    measured = table.set_index(["i", "j"])
    for (a, b), shift in shifts.items():
        i, j = place[a], place[b]
        sign = 1 if i < j else -1
        row = measured.loc[min(i, j), max(i, j)]
        # 2 px for the other measurement, also where tiles are distorted by several px.
        assert abs(sign * row["dx_px"] - shift[0]) < 2
        assert abs(sign * row["dy_px"] - shift[1]) < 2


def test_sparse_tiles_are_stitched_from_stage_positions(real_data):
    frames = load(real_data / "stitch_robomet_2x3_positions", r"_(?P<col>\d\d)_(?P<row>\d\d)\.bmp")
    frames.table["x_nominal_px"] = frames.table["col"] * 1227.55
    frames.table["y_nominal_px"] = frames.table["row"] * 919.8
    with dask.config.set(scheduler="sync"):
        graph = register(Frames(frames.data, frames.table, "stage"))
    layout = solve(graph)
    table = pairs_table(graph, layout).set_index(["i", "j"])
    # Files are ordered column by column: 0, 1, 2 are rows 0, 1, 2 of column 0.
    for pair, shift in {
        (0, 1): (-4.1, 914.4),
        (1, 2): (-0.7, 925.4),
        (2, 5): (1229.5, 0.5),
    }.items():
        row = table.loc[pair]
        assert row["status"] == "ok"
        assert abs(row["dx_px"] - shift[0]) < 2
        assert abs(row["dy_px"] - shift[1]) < 2


def test_a_grid_with_a_hole_and_uneven_pitch_is_one_piece(real_data):
    folder = real_data / "stitch_alloy_dendrite_a"
    place = {
        "1-001": (0, 0),
        "1-003": (2, 0),
        "1-004": (3, 0),
        "1-030": (0, 1),
        "1-029": (1, 1),
        "1-028": (2, 1),
        "1-027": (3, 1),
    }
    pictures = np.stack(
        [cv2.imread(str(folder / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE) for name in place]
    )
    frames = Frames.from_array(pictures, nominal="grid")
    frames.table["row"] = [r for r, _ in place.values()]
    frames.table["col"] = [c for _, c in place.values()]
    with dask.config.set(scheduler="sync"):
        layout = solve(register(frames))
    assert (layout.component == 0).all()
    step = lambda a, b: (layout.x_px[b] - layout.x_px[a], layout.y_px[b] - layout.y_px[a])  # noqa: E731
    for a, b, shift in (
        (1, 2, (2.3, 1810.0)),
        (5, 6, (2.5, 1677.4)),
        (4, 5, (2.5, 1778.2)),
        (3, 4, (1.8, 1439.4)),
    ):
        np.testing.assert_allclose(step(a, b), shift, atol=2)
