"""A run whose frames are bent by the scan: calibrated, told of, and done again where it must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cemi_dask.distortion import Distortion
from cemi_dask.pipeline.simulation import simulate_ingot
from cemi_dask.pipeline.video_data import SolvedRun
from cemi_dask.simulate import ScanField
from tests.pipeline.conftest import Words, redone, write_config

SHAPE = (208, 320)
FIELD = {"barrel_px": 2.0, "drift_px": 1.0}
BENT: dict[str, Any] = {
    "rows": 3,
    "frames_per_row": 5,
    "frame_shape": SHAPE,
    "pitch_x_px": 178,
    "pitch_y_px": 131,
    "seed": 4,
    "noise_sigma": 12.0,
    "specimen": {"kind": "eutectic", "colony_px": 90.0},
    "microscope": {"distortion": FIELD, "stage_x_px": 4.0, "stage_y_px": 3.0},
}


def test_a_bent_scan_is_calibrated_and_changing_that_solves_anew(
    scheduler: str, tmp_path: Path, done: Words
) -> None:
    config = simulate_ingot(tmp_path / "tiles", BENT, tiles=True, cluster=scheduler)
    out = tmp_path / "run"
    plain: dict[str, Any] = {
        "denoise": None,
        "segment": None,
        "analyse": None,
        "mosaic": {"shard_px": 256, "chunk_px": 64},
        "report": {"figure_dpi": 72, "page_dpi": 72},
    }

    def facts(solve: dict[str, Any]) -> dict[str, Any]:
        variant = write_config(config, solve=solve, **plain)
        done("run", variant, "--out", out, "--cluster", scheduler)
        return dict(json.loads((out / "run.json").read_text())["distortion"])

    told = facts({"distortion": "auto"})
    assert told["kept"]
    assert told["held_out_gain"] > 4 * told["held_out_gain_sigma"] > 0
    found, true = Distortion.from_json(told["field"]), ScanField(**FIELD).on(SHAPE)
    y, x = np.mgrid[0:208:8, 0:320:8].astype(float)
    assert np.linalg.norm(found.at(x, y) - true.at(x, y), axis=-1).max() < 0.5
    assert SolvedRun.of(out).layout(SHAPE).distortion == found
    assert "was taken out: held-out overlaps agree better with it" in (
        out / "report.html"
    ).read_text(encoding="utf-8")
    straight = miss_px(out, config.parent)
    assert straight < 0.2
    assert redone(out) >= {"register", "blend"}

    told = facts({"distortion": "off"})
    assert not told["kept"]
    assert told["field"] is None
    # What solve needs lies in the ledger of register, whatever is asked for.
    assert "blend" in redone(out)
    assert "register" not in redone(out)
    assert "scan distortion of" not in (out / "report.html").read_text(encoding="utf-8")
    assert miss_px(out, config.parent) > 3 * straight


def miss_px(out: Path, truth: Path) -> float:
    """Root mean square distance of the frames from their true places, but for a translation."""
    found = pd.read_csv(out / "tables" / "positions.csv").set_index("file")
    names = [Path(name).name for name in found.index]
    true = pd.read_csv(truth / "truth.csv").set_index("file").loc[names]
    columns = ["x_px", "y_px"]
    off = found[columns].to_numpy() - true[columns].to_numpy()
    return float(np.sqrt(((off - off.mean(axis=0)) ** 2).sum(axis=1).mean()))
