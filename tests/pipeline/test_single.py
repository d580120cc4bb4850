"""One step alone: denoise, stitch, analyse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from cemi_dask.pipeline import RunResult
from tests.pipeline.conftest import Words, contents, redone, write_config
from tests.pipeline.pictures import HEIGHT, WIDTH, row, texture, write_grid, write_video


def test_denoise_keeps_names_shapes_and_types(tmp_path: Path, scheduler: str, done: Words) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    more = ["--method", "median", "--cluster", scheduler]
    assert "6 denoised frame(s)" in done("denoise", folder, tmp_path / "out", *more)
    assert sorted(contents(tmp_path / "out")) == sorted(contents(folder))
    for target in ("one.tif", "one.png"):
        done("denoise", folder / "tile_r0_c0.tif", tmp_path / "single" / target, *more)
    tiff = tifffile.imread(tmp_path / "single" / "one.tif")
    assert (tiff.shape, tiff.dtype) == ((HEIGHT, WIDTH), np.uint8)
    np.testing.assert_array_equal(tiff, tifffile.imread(tmp_path / "out" / "tile_r0_c0.tif"))
    png = cv2.imread(str(tmp_path / "single" / "one.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(png, tiff)
    video = write_video(tmp_path / "row.mkv", row(texture(1), 10))
    done("denoise", video, tmp_path / "frames", *more)
    assert min(contents(tmp_path / "frames")) == "row_00000.tif"


def test_denoise_refuses_targets_that_do_not_fit(tmp_path: Path, refused: Words) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    tile, before = folder / "tile_r0_c0.tif", contents(folder)
    for source, target, message in (
        (tile, tmp_path / "x.jpg", r"must end in \.png or \.tif"),
        (tile, tmp_path / "x", r"must end in \.png or \.tif"),
        (folder, tmp_path / "x.tif", "must be a folder"),
        (tile, tile, "is IN itself"),
        (folder, folder, "is IN itself"),
    ):
        assert re.search(message, refused(2, "denoise", source, target))
    assert "does not exist" in refused(1, "denoise", tmp_path / "no.tif", tmp_path / "x.tif")
    wrong = refused(2, "denoise", tile, tmp_path / "x.tif", "--method", "medan")
    assert re.search("'medan', did you mean 'median'.*'fourier'", wrong)
    assert contents(folder) == before


def test_stitch_takes_its_options_and_any_folder_name(
    tmp_path: Path, scheduler: str, done: Words, refused: Words
) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    pd.DataFrame(
        [(f"tile_r{r}_c{c}.tif", 100 * c, 60 * r) for r in range(2) for c in range(3)],
        columns=["file", "x", "y"],
    ).to_csv(tmp_path / "stage.csv", index=False)
    out = tmp_path / "mein Präparat 3"
    told = done(
        *("stitch", *sorted(folder.glob("*.tif")), "--out", out, "--cluster", scheduler),
        *("--pixel-size", 0.2, "--positions", tmp_path / "stage.csv", "--position-unit", "px"),
        *("--crop", "2,3,4,5", "--blend", "nearest"),
    )
    assert f"The report is {out / 'report.html'}" in told
    positions = pd.read_csv(out / "tables" / "positions.csv")
    assert positions["x_px"].tolist() == pytest.approx([0, 100, 200] * 2, abs=0.05)
    assert json.loads((out / "run.json").read_text())["pixel_um"] == 0.2
    again = ["stitch", folder, "--out", out]
    assert "top,bottom,left,right" in refused(2, *again, "--crop", "1,2")
    assert "'feather'" in refused(2, *again, "--blend", "fether")
    assert "'px' or 'um'" in refused(
        2, *again, "--positions", tmp_path / "stage.csv", "--position-unit", "furlong"
    )


def test_analyse_measures_a_tiff_in_px_and_says_so(
    finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    import zarr

    picture = tmp_path / "picture.tif"
    tifffile.imwrite(picture, np.asarray(zarr.open_array(finished.mosaic / "0", mode="r")))
    out = tmp_path / "px"
    told = done("analyse", picture, "--out", out, "--grid", "3x5", "--cluster", scheduler)
    assert "Warning: No pixel size is known: lengths are in px" in told
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert (cells["row"].max() + 1, cells["col"].max() + 1) == (3, 5)
    um = [name for name in cells.columns if name.endswith(("_um", "_um_se"))]
    assert cells[um].isna().all(axis=None)
    assert cells["lamella_width_px"].notna().any()
    assert "No pixel size is known" in (out / "report.html").read_text()
    # the same pixels with a pixel size: the same fractions, and the widths in um
    sized = ["--pixel-size", 0.222, "--grid", "3x5", "--cluster", scheduler]
    done("analyse", picture, "--out", tmp_path / "um", *sized)
    known = pd.read_csv(tmp_path / "um" / "tables" / "cells.csv")
    pd.testing.assert_series_equal(known["bcc_fraction"], cells["bcc_fraction"])
    np.testing.assert_allclose(
        known["lamella_width_um"], 0.222 * cells["lamella_width_px"], rtol=1e-9
    )


def test_analyse_reads_a_run_folder_and_redoes_nothing(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    command = ["analyse", finished.out, "--out", tmp_path, "--cell", "128x104"]
    done(*command, "--hardness", ingot.parent / "hardness.csv", "--cluster", scheduler)
    for table in ("cells", "profile", "correlation"):
        name = f"tables/{table}.csv"
        assert (tmp_path / name).read_text() == (finished.out / name).read_text(), table
    done(*command, "--hardness", ingot.parent / "hardness.csv", "--cluster", scheduler)
    assert redone(tmp_path) == set()


def test_analyse_reads_an_ome_zarr_of_other_software(
    scheduler: str, tmp_path: Path, done: Words
) -> None:
    import zarr

    group = zarr.open_group(tmp_path / "other.zarr", mode="w")
    array = group.create_array("s0", shape=(200, 300), chunks=(64, 64), dtype="uint8")
    array[:] = texture(1)[:200, :300]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [200.0, 200.0]}]
    datasets = [{"path": "s0", "coordinateTransformations": scale}]
    multiscales = [{"name": "x", "axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    out = tmp_path / "out"
    done(
        "analyse",
        tmp_path / "other.zarr",
        "--out",
        out,
        "--cell",
        "100x100",
        "--cluster",
        scheduler,
    )
    cells = pd.read_csv(out / "tables" / "cells.csv")
    assert len(cells) == 6
    assert cells["width_um"].tolist() == pytest.approx([20.0] * 6)


def test_analyse_refuses_what_it_cannot_measure(
    finished: RunResult, tmp_path: Path, refused: Words
) -> None:
    mosaic, out = finished.mosaic, tmp_path / "out"
    video = write_video(tmp_path / "a.mkv", row(texture(1), 4, step=60))
    for status, arguments, message in (
        (2, [finished.out, "--out", finished.out], "lies in --out"),
        (2, [mosaic, "--out", finished.out], "lies in --out"),
        (1, [mosaic, "--out", out, "--pixel-size", 0.5], "states a pixel size of 0.222"),
        (2, [mosaic, "--out", out, "--grid", "2y3"], "form 19x243"),
        (1, [finished.tables, "--out", out], "no OME-Zarr mosaic"),
        (1, [tmp_path / "gone", "--out", out], "Cannot read .*gone: No such file"),
        (1, [video, "--out", out], "video of several frames.*cemi stitch"),
        (1, [mosaic, "--out", out, "--hardness", tmp_path / "gone.csv"], "gone.csv: No such"),
    ):
        assert re.search(message, refused(status, "analyse", *arguments)), message
    assert not out.exists()


def test_a_run_without_pixel_size_works_in_px_and_says_so(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    config = write_config(
        ingot,
        input={"paths": ["row_*"], "kind": "videos"},
        analyse={"grid": {"cell_px": [104, 128]}},
    )
    told = done("run", config, "--out", tmp_path, "--cluster", scheduler)
    assert "Warning: No pixel size is known" in told
    cells = pd.read_csv(tmp_path / "tables" / "cells.csv")
    known = pd.read_csv(finished.tables / "cells.csv")
    assert cells["lamella_width_um"].isna().all()
    pd.testing.assert_series_equal(cells["bcc_fraction"], known["bcc_fraction"])
    assert "No pixel size is known" in (tmp_path / "report.html").read_text()
