"""Results show themselves in notebooks: facts, and the report's figures of them."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from cemi_dask.analyse import Cells, GridOptions, analyse
from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.overlap import OverlapGraph, PairShift, Peak
from cemi_dask.report import displays
from cemi_dask.solve import solve
from cemi_dask.store import Mosaic, MosaicOptions, open_mosaic, write_mosaic, write_pyramid

SHAPE, PITCH = (60, 80), (40, 50)
ROWS, COLS = 3, 4


def grid_graph(without: tuple[int, ...] = ()) -> OverlapGraph:
    """Frames on a grid, linked to their neighbours right and below, but for those `without`."""
    pairs = []
    for k in set(range(ROWS * COLS)) - set(without):
        col = k % COLS
        for other, shift in ((k + 1, (PITCH[1], 0)), (k + COLS, (0, PITCH[0]))):
            inside = other < ROWS * COLS and (other == k + COLS or col + 1 < COLS)
            if inside and other not in without:
                pairs.append(PairShift(k, other, (Peak(*shift, 0.9),), overlap_px=1800))
    return OverlapGraph.build(ROWS * COLS, SHAPE, sorted(pairs, key=lambda p: (p.i, p.j)))


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Mosaic:
    path = tmp_path_factory.mktemp("shown") / "mosaic.ome.zarr"
    picture = np.random.default_rng(0).integers(60, 200, (256, 1024), np.uint8)
    options = MosaicOptions(shard_px=512, chunk_px=256)
    array = da.from_array(picture, chunks=options.shard_shape(picture.shape))
    write_mosaic(array, path, pixel_um=0.5, options=options)
    write_pyramid(path)
    return open_mosaic(path)


@pytest.fixture(scope="module")
def cells(mosaic: Mosaic) -> Cells:
    labels = {"lamellar": da.ones_like(mosaic.levels[0]), "bcc": mosaic.levels[0] > 100}
    grid = GridOptions(cell_px=(128, 128))
    return Cells(analyse(mosaic.levels[0], labels, grid=grid, pixel_um=0.5))


def picture_in(html: str) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert data is not None, html
    return cv2.imdecode(np.frombuffer(base64.b64decode(data[1]), np.uint8), cv2.IMREAD_COLOR)


def test_a_layout_shows_its_frames_and_how_well_they_lie() -> None:
    layout = solve(grid_graph())
    html = layout._repr_html_()
    assert "12 used of 12, 80 x 60 px each" in html
    assert f"{3 * PITCH[1] + 80} x {2 * PITCH[0] + 60} px" in html
    assert picture_in(html).std() > 20
    drawn = layout.plot(pixel_um=0.2).axes[0].collections[0]
    assert len(drawn.get_paths()) == ROWS * COLS
    assert layout.plot(pixel_um=0.2).axes[1].get_xlabel() == "x (µm)"


def test_a_graph_shows_its_pairs_with_and_without_a_layout() -> None:
    graph = grid_graph()
    html = graph._repr_html_()
    assert "17 measured, 17 ok, 0 ambiguous" in html
    assert picture_in(html).std() > 5
    for figure in (graph.plot(), graph.plot(layout=solve(graph), pixel_um=0.2)):
        assert len(figure.axes[0].collections[0].get_segments()) == 17
    alone = grid_graph(without=(11,))  # an island of one frame is no reason to refuse
    assert len(alone.plot().axes[0].collections[0].get_segments()) == 15


def test_a_mosaic_shows_its_size_in_mm_or_um_and_its_picture(mosaic: Mosaic) -> None:
    html = mosaic._repr_html_()
    assert "1024 x 256 px = 512 µm x 128 µm" in html
    assert picture_in(html).std() > 20
    assert mosaic.plot()._repr_png_().startswith(b"\x89PNG")


def test_cells_show_a_map_per_measure_in_its_unit(cells: Cells) -> None:
    html = cells._repr_html_()
    assert cells.shape == (2, 8)
    assert "2 x 8 cells" in html
    assert "Lamellar area fraction (%)</th>" in html
    assert picture_in(html).std() > 20
    titles = [axes.get_title("left") for axes in cells.plot().axes]
    assert "Lamellar area fraction" in titles
    one = cells.plot(measures=["valid_fraction"])
    assert one.axes[0].get_title("left") == "Valid fraction"
    with pytest.raises(InputError, match="no measure 'width'; they have"):
        cells.plot(measures=["width"])


def test_what_cannot_be_drawn_says_why() -> None:
    layout = solve(grid_graph())
    none = replace(layout, used=np.zeros(len(layout), bool))
    assert "places no frame" in none._repr_html_()
    assert "No pair" in OverlapGraph.build(3, SHAPE, [])._repr_html_()
    with pytest.raises(InputError, match="places no frame"):
        none.plot()
    with pytest.raises(InputError, match="places 12 frames"):
        OverlapGraph.build(3, SHAPE, [PairShift(0, 1, (Peak(5, 0, 0.9),))]).plot(layout=layout)
    with pytest.raises(InputError, match="is none of cells"):
        Cells(pd.DataFrame({"x_um": [1.0]}))


def test_a_huge_layout_is_drawn_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "MOST_FRAMES", 5)
    html = Layout(np.arange(6.0), np.zeros(6), SHAPE)._repr_html_()
    assert "<img" not in html
    assert ".plot()" in html


def test_paths_in_html_are_escaped(mosaic: Mosaic) -> None:
    assert "<script>" not in replace(mosaic, path=Path("<script>"))._repr_html_()
