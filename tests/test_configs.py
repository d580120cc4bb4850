"""Every file in configs/ is valid, and does on simulated data what its comments say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dask
import pandas as pd
import pytest
import yaml

from cemi_dask import open_mosaic
from cemi_dask.pipeline import load_config, run
from cemi_dask.pipeline.plan import make_plan
from cemi_dask.pipeline.simulation import simulate_ingot
from cemi_dask.pipeline.train import load_training
from cemi_dask.pipeline.train_segment import load_segment_training
from cemi_dask.simulate import (
    SimulateOptions,
    compare_positions,
    gradient_film_options,
    simulate_tiles,
    simulate_videos,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Frames large enough for one grid cell of the configs, small enough for seconds.
SMALL = {
    "frames_per_row": 3,
    "looks": 2,
    "frame_shape": (320, 480),
    "noise_sigma": 8.0,
    "microscope": {"row_start_px": 10.0, "row_pitch_px": 4.0, "row_drift_px": 2.0},
}


def placed(name: str, folder: Path) -> Path:
    """The config `name`, unchanged, in another folder: its relative paths start there."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(CONFIGS / name, folder / name))


RUNS = [path for path in sorted(CONFIGS.glob("*.yaml")) if not path.stem.startswith("train_")]
TRAININGS = sorted(CONFIGS.glob("train_*.yaml"))


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.name)
def test_every_training_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    segments = path.stem.startswith("train_segment")
    config = load_segment_training(path) if segments else load_training(path)
    assert f"train_{config.name}" == path.stem
    assert path.read_text().startswith("# ")


def test_the_segmenter_of_the_paper_is_trained_as_in_the_paper() -> None:
    config = load_segment_training(CONFIGS / "train_segment.yaml")
    assert (config.network.architecture, config.network.encoder) == (
        "UnetPlusPlus",
        "se_resnext50_32x4d",
    )
    assert (config.fit.epochs, config.fit.learning_rate.start) == (80, 1e-4)
    assert (config.fit.loss.dice_weight, config.fit.loss.cross_entropy_weight) == (1, 0)
    assert round(24 * config.data.held_out_share) == 3


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_every_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.input.pixel_um is not None
    assert path.read_text().startswith("# ")


def test_the_demo_config_is_the_one_that_simulate_writes(tmp_path: Path) -> None:
    options = {**SMALL, "rows": 1, "frames_per_row": 2}
    written = yaml.safe_load(simulate_ingot(tmp_path / "ingot", options).read_text())
    shipped = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    for values in (written, shipped):  # names and paths differ, nothing else
        del values["name"], values["input"]["paths"], values["analyse"]["hardness"]["file"]
        values.pop("out", None)
    assert shipped == written


def test_the_demo_config_runs(tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        made = simulate_videos(tmp_path / "demo" / "ingot", SimulateOptions(rows=2, **SMALL))
    result = run(placed("demo.yaml", tmp_path / "configs"))
    assert result.out == tmp_path / "demo" / "run-config"
    assert result.report.is_file()
    assert len(pd.read_csv(result.tables / "cells.csv")) == 2
    found = compare_positions(pd.read_csv(result.tables / "positions.csv"), made.table("truth"))
    assert found["n"] == 6
    # sigma 8 on overlaps of about 200 x 320 px: hundredths; the bound for noisy frames is 0.15
    assert found["rms_px"] <= 0.05


def test_the_tiles_config_runs(tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        made = simulate_tiles(tmp_path, SimulateOptions(rows=2, **SMALL))
    result = run(placed("tiles.yaml", tmp_path))
    truth, positions = made.table("truth"), pd.read_csv(result.tables / "positions.csv")
    found = compare_positions(positions, truth)
    assert found["n"] == 6
    assert found["rms_px"] <= 0.05  # as above
    assert len(pd.read_csv(result.tables / "cells.csv")) == 2


def test_the_tiles_config_takes_stage_positions(tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        simulate_tiles(tmp_path, SimulateOptions(rows=2, **SMALL))
    path = placed("tiles.yaml", tmp_path)
    path.write_text(path.read_text().replace("# positions:", "positions:"))
    plan = make_plan(path)
    assert any("positions.csv" in note for note in plan.notes)
    plan.refuse_if_it_cannot_fit()


def test_the_reference_ingot_is_planned(tmp_path: Path) -> None:
    options = {**SMALL, "frames_per_row": 2, "frame_shape": (96, 128), "rows": 18}
    with dask.config.set(scheduler="synchronous"):
        simulate_videos(tmp_path / "videos", SimulateOptions(**options))
    shutil.copy(tmp_path / "videos" / "hardness.csv", tmp_path)
    plan = make_plan(placed("eutectic_ingot.yaml", tmp_path))
    plan.refuse_if_it_cannot_fit()
    items = {demand.stage: demand.items for demand in plan.demands}
    assert items["frames"] == 18  # one per video
    assert all(items[stage] > 0 for stage in ("register", "denoise", "blend", "analyse"))
    config = load_config(CONFIGS / "eutectic_ingot.yaml")
    assert config.analyse is not None
    assert (config.analyse.grid.rows, config.analyse.grid.cols) == (19, 243)


def test_the_gradient_film_becomes_one_strip(tmp_path: Path) -> None:
    options = gradient_film_options(seed=3, looks=2)
    with dask.config.set(scheduler="synchronous"):
        made = simulate_videos(tmp_path, options)
    os.replace(made.files[0], tmp_path / "film.mkv")
    truth = made.table("truth").assign(file="film.mkv")
    result = run(placed("gradient_film.yaml", tmp_path))
    summary = result.summary
    # 125 frames are recorded, 66.8 px apart, and every other one is wanted. The last one is
    # always taken, so one frame more or less would still be right.
    assert summary["frames"]["taken"] == pytest.approx(63, abs=1)
    height, width = open_mosaic(result.mosaic).shape
    # The stage's jitter (0.2 px rms) moves the outermost frames and is rounded up to whole
    # pixels; three times that and one px for rounding at either side.
    assert width == pytest.approx(9096, abs=3)
    assert height == pytest.approx(608, abs=3)
    found = compare_positions(pd.read_csv(result.tables / "positions.csv"), truth)
    assert found["n"] == summary["frames"]["taken"]
    # Sharp frames (sigma 4.5) that share 83 %: measured 0.002 and 0.004 px. A chain of 62 steps
    # lets small errors of one sign add up: a bound far below what a picture shows.
    assert found["rms_px"] <= 0.02
    assert found["max_px"] <= 0.05
    assert summary["stages"]["denoise"]["items"] == summary["stages"]["segment"]["items"] == 0
