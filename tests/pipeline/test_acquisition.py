"""From recordings of a running scan to a mosaic: torn, sheared, with stops, compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cemi_dask.pipeline import RunResult, parse_config, run
from cemi_dask.simulate import (
    Recording,
    SimulatedIngot,
    SimulateOptions,
    Specimen,
    compare_positions,
    simulate_videos,
)
from cemi_dask.store import open_mosaic

SHAPE = (346, 512)
SCRATCH_PX = (311.0, 823.0)


def record(folder: Path, **options: object) -> SimulatedIngot:
    """Rows of a scan that a recorder sees 2.37 times, at a shear of 0.05 px per line."""
    common = {
        "frames_per_row": 4,
        "looks": 40,
        "frame_shape": SHAPE,
        "data_bar_px": 60,
        "seed": 5,
        "recording": Recording(scan_frames=2.37, refresh_start=0.37, still_start=5, pauses=2),
    }
    return simulate_videos(folder, SimulateOptions.model_validate(common | options))


def run_until(made: SimulatedIngot, stage: str) -> RunResult:
    paths = [str(file) for file in made.files]
    config = parse_config({"name": "recorded", "input": {"paths": paths}})
    return run(config, out=made.folder / "run", until=stage)


def with_truth(made: SimulatedIngot, name: str) -> pd.DataFrame:
    """A table of the run's used frames, with the truth in columns that end in _true."""
    table = pd.read_csv(made.folder / "run" / "tables" / f"{name}.csv")
    table = table[table["used"]].assign(file=lambda t: [Path(f).name for f in t["file"]])
    return table.merge(
        made.table("truth"), on=["file", "source_index"], suffixes=("", "_true"), validate="1:1"
    )


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_torn_serpentine_rows_with_stops_are_placed_to_0_3_px(tmp_path: Path, codec: str) -> None:
    made = record(tmp_path, rows=2, codec=codec, serpentine=True)
    run_until(made, "solve")
    frames = with_truth(made, "frames")
    assert frames["steady"].all()  # no frame is taken while the stage starts or stops
    for _, row in frames.groupby("row"):
        overlap = 1 - np.abs(np.diff(row["x_px"])) / SHAPE[1]
        assert overlap.min() >= 0.3
        assert overlap.max() <= 0.6
        off = row[["x_nominal_px", "y_nominal_px"]].to_numpy() - row[["x_px", "y_px"]].to_numpy()
        assert np.sqrt(((off - off.mean(axis=0)) ** 2).sum(axis=1).mean()) < 0.3
    positions = with_truth(made, "positions").drop(columns=["x_px_true", "y_px_true"])
    assert compare_positions(positions, made.table("truth"))["rms_px"] < 0.3


def test_shear_is_recovered_and_a_scratch_comes_out_straight(tmp_path: Path) -> None:
    # All rows from left to right: a shear left over would lean the whole mosaic.
    made = record(tmp_path, rows=4, noise_sigma=4.5, specimen=Specimen(scratch_lines_px=SCRATCH_PX))
    run_until(made, "blend")
    positions = with_truth(made, "positions")
    moving = positions["shear_true"] > 0.04
    assert moving.sum() >= 8
    assert np.abs(positions["shear"] - positions["shear_true"])[moving].max() < 0.002
    assert (
        compare_positions(positions[["file", "source_index", "x_px", "y_px"]], made.table("truth"))[
            "rms_px"
        ]
        < 0.3
    )
    shift = float((positions["x_px"] - positions["x_px_true"]).mean())
    mosaic = np.asarray(open_mosaic(made.folder / "run" / "mosaic.ome.zarr").levels[0])
    for line in SCRATCH_PX:
        places = scratch_places(mosaic, line + shift)
        assert len(places) >= 30  # over the mosaic's height of about 1000 px
        assert np.abs(places - np.median(places)).max() < 1.0


def scratch_places(mosaic: np.ndarray, near_px: float) -> np.ndarray:
    """x px of a dark vertical line in strips of 24 lines, from its darkness' centre."""
    left = int(near_px) - 14
    found = []
    for top in range(0, mosaic.shape[0] - 24, 24):
        strip = mosaic[top : top + 24, left : left + 29].astype(float)
        if (strip == 0).any():  # the ragged edge
            continue
        profile = strip.mean(axis=0)
        at = int(profile.argmin())
        part = slice(max(0, at - 3), at + 4)
        dark = np.clip(np.median(profile) - profile[part], 0, None)
        found.append(left + float(dark @ np.arange(29)[part] / dark.sum()))
    return np.array(found)
