"""The main job on a small simulated ingot: what it leaves, and that it agrees with truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cemi_dask import open_mosaic
from cemi_dask.pipeline import RunResult, run
from cemi_dask.simulate import compare_positions
from cemi_dask.store import CONTRACT
from tests.pipeline.conftest import LOCAL, contents, write_config


def test_the_run_folder_keeps_its_contract(finished: RunResult) -> None:
    out = finished.out
    for name in ("mosaic.ome.zarr", "tables", "figures", "report.html", "run.json", "ledger"):
        assert (out / name).exists(), name
    for table, columns in CONTRACT.items():
        frame = pd.read_csv(out / "tables" / f"{table}.csv")
        # in this order; a standard error may stand beside its measure
        assert [name for name in frame.columns if name in columns] == list(columns), table
        parquet = pd.read_parquet(out / "tables" / f"{table}.parquet")
        assert list(parquet.columns) == list(frame.columns)
        assert len(parquet) == len(frame) > 0
    assert list((out / "figures").glob("*.png"))


def test_positions_agree_with_truth(finished: RunResult, ingot: Path) -> None:
    found = compare_positions(
        pd.read_csv(finished.tables / "positions.csv"), pd.read_csv(ingot.parent / "truth.csv")
    )
    assert found["n"] >= 10
    # sigma 12 on 320 x 208 px frames with 45 % overlap: the bound for full frames
    assert found["rms_px"] <= 0.15
    assert found["max_px"] <= 0.6


def test_the_mosaic_shows_the_specimen(finished: RunResult) -> None:
    mosaic = open_mosaic(finished.mosaic)
    assert mosaic.pixel_um == pytest.approx(0.222)
    picture = np.asarray(mosaic.levels[0])
    assert (picture > 0).mean() > 0.9
    assert picture[picture > 0].std() > 20
    for name in ("bcc", "lamellar"):
        assert mosaic.label(name).shape == picture.shape


def test_the_ome_zarr_validates_against_the_ome_model(finished: RunResult) -> None:
    import zarr
    from ome_zarr_models.v05.image import Image

    image = Image.from_zarr(zarr.open_group(str(finished.mosaic), mode="r"))
    scale = image.attributes.ome.multiscales[0]
    assert [axis.unit for axis in scale.axes] == ["micrometer", "micrometer"]


def test_run_json_tells_what_happened(finished: RunResult) -> None:
    summary = json.loads((finished.out / "run.json").read_text())
    assert summary["state"] == "finished"
    assert set(summary["stages"]) == {
        "frames",
        "register",
        "solve",
        "denoise",
        "blend",
        "pyramid",
        "segment",
        "analyse",
        "report",
    }
    peaks = summary["memory"]["peak_rss_bytes"]
    assert len(peaks) == 3
    assert all(20e6 < peak < 2e9 for peak in peaks.values())
    assert yaml.safe_load(summary["config_yaml"]) == summary["config"]


def test_two_runs_give_the_same_bytes(finished: RunResult, ingot: Path, tmp_path: Path) -> None:
    # another number of workers and another order of items must not change a byte
    one = write_config(ingot, cluster=LOCAL | {"workers": 1})
    again = run(one, out=tmp_path / "run")
    for name in ("mosaic.ome.zarr", "tables", "figures"):
        assert contents(again.out / name) == contents(finished.out / name), name


def test_a_second_run_redoes_nothing(ingot: Path, tmp_path: Path) -> None:
    run(ingot, out=tmp_path / "run", until="blend")
    stamps = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "mosaic.ome.zarr").rglob("c/**/*")
    }
    result = run(ingot, out=tmp_path / "run", until="pyramid")
    stages = result.summary["stages"]
    for stage in ("frames", "register", "denoise", "blend"):
        assert stages[stage]["skipped"] == stages[stage]["items"] > 0, stage
    assert stages["pyramid"]["skipped"] == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_changing_only_blend_redoes_nothing_before_it(ingot: Path, tmp_path: Path) -> None:
    run(ingot, out=tmp_path / "run", until="pyramid")
    changed = write_config(ingot, blend={"method": "average"})
    stages = run(changed, out=tmp_path / "run", until="pyramid").summary["stages"]
    for stage in ("frames", "register", "denoise"):
        assert stages[stage]["skipped"] == stages[stage]["items"] > 0, stage
    assert stages["blend"]["skipped"] == stages["pyramid"]["skipped"] == 0
    # and the result is that of a fresh run with the changed config
    fresh = run(changed, out=tmp_path / "fresh", until="pyramid")
    assert contents(fresh.mosaic) == contents(tmp_path / "run" / "mosaic.ome.zarr")
