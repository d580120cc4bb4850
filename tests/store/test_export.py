"""Exports hold the stored pixels and numbers, and other programs read them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cemi_dask import store
from cemi_dask.cli import main
from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.store import strips
from tests.view.view_run import SMALL, write_view_run

Image.MAX_IMAGE_PIXELS = None


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_view_run(tmp_path_factory.mktemp("export") / "run", SMALL)


@pytest.fixture(scope="module")
def levels(run_folder: Path) -> list[np.ndarray]:
    return [a.compute() for a in store.open_mosaic(run_folder / "mosaic.ome.zarr").levels]


@pytest.mark.parametrize("format", ["tiff", "ome-tiff"])
def test_a_tiff_is_the_mosaic_with_its_pyramid_to_two_readers(
    run_folder: Path, levels: list[np.ndarray], tmp_path: Path, format: str
) -> None:
    target = tmp_path / "mosaic.ome.tif"
    store.export_mosaic(run_folder / "mosaic.ome.zarr", target, format=format)
    with tifffile.TiffFile(target) as file:
        assert file.is_bigtiff
        pages = [file.pages[0], *file.pages[0].pages] if format == "ome-tiff" else file.pages
        assert len(pages) == len(levels) == 3
        for number, (page, level) in enumerate(zip(pages, levels, strict=True)):
            np.testing.assert_array_equal(page.asarray(), level)
            up, down = page.tags["XResolution"].value
            assert up / down == pytest.approx(1e4 / (0.222 * 2**number), rel=1e-4)
        if format == "ome-tiff":
            assert len(file.series) == 1
            assert len(file.series[0].levels) == 3
            pixels = next(
                e
                for e in ElementTree.fromstring(file.ome_metadata).iter()
                if e.get("PhysicalSizeX")
            )
            assert float(pixels.get("PhysicalSizeX")) == pytest.approx(0.222)
            assert pixels.get("PhysicalSizeXUnit") == "µm"
    pyvips = pytest.importorskip("pyvips")
    for number, level in enumerate(levels):
        where = {"subifd": number - 1} if format == "ome-tiff" else {"page": number}
        np.testing.assert_array_equal(
            pyvips.Image.new_from_file(str(target), **where).numpy(), level
        )
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_labels_and_levels_are_exported_too(run_folder: Path, tmp_path: Path) -> None:
    mosaic = run_folder / "mosaic.ome.zarr"
    store.export_mosaic(mosaic, tmp_path / "b.tif", format="tiff", label="bcc", level=1)
    stored = store.open_mosaic(mosaic).label("bcc", 1).compute()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), stored)
        up, down = file.pages[0].tags["XResolution"].value
        assert up / down == pytest.approx(1e4 / 0.444, rel=1e-4)
    store.export_mosaic(mosaic, tmp_path / "b.png", format="png", label="bcc")
    picture = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(picture, 255 * store.open_mosaic(mosaic).label("bcc").compute())


def test_deep_zoom_goes_from_the_stored_pixels_to_a_single_one(
    run_folder: Path, levels: list[np.ndarray], tmp_path: Path
) -> None:
    target = tmp_path / "mosaic.dzi"
    for _ in range(2):  # a second one takes the first one's place
        store.export_mosaic(run_folder / "mosaic.ome.zarr", target, format="dzi", window=(0, 255))
    size = ElementTree.parse(target).getroot()[0]
    assert (int(size.get("Height")), int(size.get("Width"))) == levels[0].shape
    folder = tmp_path / "mosaic_files"
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(_stitched(folder / str(12 - number)), level)
    heights = [_stitched(folder / str(n)).shape for n in range(13)]
    expected = [tuple(-(-s // 2 ** (12 - n)) for s in levels[0].shape) for n in range(13)]
    assert heights == expected
    assert expected[0] == (1, 1)


def _stitched(folder: Path) -> np.ndarray:
    tiles = {
        tuple(map(int, path.stem.split("_"))): np.asarray(Image.open(path))
        for path in folder.iterdir()
    }
    cols, rows = (1 + max(place[k] for place in tiles) for k in (0, 1))
    return np.block([[tiles[col, row] for col in range(cols)] for row in range(rows)])


@pytest.mark.parametrize("strip_px", [7, 1 << 20])
def test_a_png_is_one_level_as_shown(
    run_folder: Path,
    levels: list[np.ndarray],
    tmp_path: Path,
    strip_px: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cemi_dask.store.export_png._STRIP_BYTES", strip_px * levels[1].shape[1])
    target = tmp_path / "mosaic.png"
    store.export_mosaic(
        run_folder / "mosaic.ome.zarr", target, format="png", level=1, window=(40, 180)
    )
    shown = np.asarray(Image.open(target), int)
    expected = np.clip((levels[1].astype(float) - 40) / 140 * 255, 0, 255)
    assert np.abs(shown - expected).max() <= 0.5


def test_a_float_mosaic_keeps_its_values_and_shows_no_data_as_black(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(100, 20, (600, 700)).astype(np.float32)
    values[:50, :80] = np.nan
    options = store.MosaicOptions(shard_px=1024, chunk_px=256)
    store.write_mosaic(
        da.from_array(values, chunks=options.shard_shape(values.shape)),
        tmp_path / "m",
        pixel_um=None,
        options=options,
    )
    store.export_mosaic(tmp_path / "m", tmp_path / "m.tif", format="tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), values)
    store.export_mosaic(tmp_path / "m", tmp_path / "m.png", format="png")
    shown = np.asarray(Image.open(tmp_path / "m.png"))
    assert (shown[:50, :80] == 0).all()
    assert 120 < np.median(shown[50:]) < 135


def test_no_more_than_a_strip_is_read_at_once(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    read = strips.read_part

    def counted(*arguments: object) -> np.ndarray:
        sizes.append(read(*arguments))
        return sizes[-1]

    monkeypatch.setattr(strips, "read_part", counted)
    monkeypatch.setattr(strips, "_WIDE", 2)
    store.export_mosaic(run_folder / "mosaic.ome.zarr", tmp_path / "m.tif", format="tiff")
    assert max(part.size for part in sizes) == 2 * strips.TILE_PX**2
    assert sum(part.size for part in sizes[:6]) == SMALL.shape[0] * SMALL.shape[1]


def test_cells_are_rectangles_in_micrometres(run_folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(run_folder / "tables" / "cells.csv")
    found = json.loads(store.export_cells(run_folder, tmp_path / "c.geojson").read_text("utf-8"))
    assert len(found["features"]) == len(table)
    for feature, (_, cell) in zip(found["features"], table.iterrows(), strict=True):
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert (ring[0] == ring[-1]).all()
        np.testing.assert_allclose(np.ptp(ring, axis=0), [cell["width_um"], cell["height_um"]])
        np.testing.assert_allclose(ring[:4].mean(axis=0), [cell["x_um"], cell["y_um"]])
        value = feature["properties"]["bcc_fraction"]
        assert value is None if np.isnan(cell["bcc_fraction"]) else value == cell["bcc_fraction"]
    for format, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        kept = read(store.export_cells(run_folder, tmp_path / f"c.{format}", format=format))
        assert "x_px" not in kept
        np.testing.assert_array_equal(kept["lamella_width_um"], table["lamella_width_um"])


def test_the_command_writes_beside_the_mosaic_and_refuses_what_does_not_fit(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_folder), "--format", "png", "--level", "2"]) == 0
    assert Image.open(run_folder / "mosaic.png").size == (650, 175)
    assert main(["export", str(run_folder), "--format", "geojson"]) == 0
    assert (run_folder / "cells.geojson").is_file()
    capsys.readouterr()
    for wrong, told in (
        (["--format", "gif"], "is none of"),
        (["--level", "9"], "no level 9"),
        (["--format", "png", "--grey", "9"], "not of the form"),
        (["--format", "png", "--grey", "9,9"], "above black"),
        (["--format", "csv", "--level", "1"], "are for pictures"),
        (["--format", "dzi", "--level", "1"], "leave --level out"),
    ):
        assert main(["export", str(run_folder), *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["export", str(run_folder), "--label", "none"]) == 1
    assert "no label 'none'" in capsys.readouterr().err


def test_foreign_files_are_not_deleted(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "m_files").mkdir()
    (tmp_path / "m_files" / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="something else"):
        store.export_mosaic(run_folder / "mosaic.ome.zarr", tmp_path / "m.dzi", format="dzi")
    assert (tmp_path / "m_files" / "thesis.tex").read_text() == "mine"
    with pytest.raises(ConfigError, match="no format"):
        store.export_mosaic(run_folder / "mosaic.ome.zarr", tmp_path / "m", format="gif")
