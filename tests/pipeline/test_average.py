"""Runs with `frames.average: motion`: less noise, the same places, told in run.json and report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cemi_dask.frames import SelectionOptions, open_frames
from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.plan import make_plan
from cemi_dask.pipeline.simulation import simulate_ingot
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import read_run_folder
from cemi_dask.report.frame_section import frame_section
from cemi_dask.report.options import ReportOptions
from cemi_dask.simulate import compare_positions
from cemi_dask.store import open_frame_store
from tests.pipeline.conftest import SMALL, write_config

MOTION = {"average": "motion", "flat_field": "none"}


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Path:
    """The config of two rows of low-definition video, five pictures per pitch."""
    folder = tmp_path_factory.mktemp("moving") / "videos"
    options = {**SMALL, "looks": 5, "noise_sigma": 25.0}
    config = simulate_ingot(folder, options, cluster=scheduler)
    cluster = {"kind": "address", "address": scheduler}
    return write_config(config, cluster=cluster, frames=MOTION)


@pytest.fixture(scope="module")
def averaged(moving: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run of them up to the positions."""
    return run(moving, out=tmp_path_factory.mktemp("averaged") / "run", until="solve")


def test_positions_of_averaged_frames_are_true(averaged: RunResult, moving: Path) -> None:
    positions = pd.read_csv(averaged.out / "tables" / "positions.csv")
    truth = pd.read_csv(moving.parent / "truth.csv")
    # Without averaging it is 0.011 px; several times that would be a shift by the averaging.
    assert compare_positions(positions, truth)["rms_px"] < 0.04
    assert compare_positions(positions, truth)["n"] == len(positions)


def test_a_run_tells_what_averaging_did(averaged: RunResult) -> None:
    frames = pd.read_csv(averaged.out / "tables" / "frames.csv")
    taken = frames[frames["frame"] >= 0]
    facts = json.loads((averaged.out / "run.json").read_text())["averaging"]
    assert facts["averaged"] == facts["frames"] == len(taken)
    assert facts["looks"] == taken["looks"].median()
    assert taken["looks"].min() >= 4
    assert facts["noise_before"] / facts["noise_after"] >= 2.0
    assert len(facts["notes"]) == 2
    assert "averaging lowered the noise from 2" in facts["notes"][0]


def test_the_report_has_a_line_on_averaging(averaged: RunResult, tmp_path: Path) -> None:
    figures = FigureFolder(tmp_path, ReportOptions())
    data = read_run_folder(averaged.out)
    (section,) = frame_section(data, figures)
    assert sum("Averaged: 12 of 12 frames hold" in text for text in section.text) == 1
    without = {key: value for key, value in data.run.items() if key != "averaging"}
    (plain,) = frame_section(replace(data, run=without), figures)
    assert len(plain.text) == len(section.text) - 1


def test_stored_frames_equal_those_read_lazily(averaged: RunResult, moving: Path) -> None:
    folder = averaged.out / "frames.zarr"
    keys = [f"raw/{path.name}" for path in sorted((folder / "raw").iterdir()) if path.is_dir()]
    assert len(keys) == 2
    stored = open_frame_store(folder, keys).compute()
    lazy = open_frames(moving.parent, selection=SelectionOptions(**MOTION), pixel_um=0.2)
    assert np.array_equal(lazy.data.compute(scheduler="synchronous"), stored)


def test_averaging_is_done_once_and_again_when_it_changes(
    averaged: RunResult, moving: Path, tmp_path: Path
) -> None:
    again = run(moving, out=averaged.out, until="frames")
    stage = again.summary["stages"]["frames"]
    assert stage["skipped"] == stage["items"] == 2
    assert again.summary["averaging"] == averaged.summary["averaging"]
    for change in ({"average": "none"}, {"average_looks": 3}):
        config = write_config(moving, frames={**MOTION, **change})
        plan = make_plan(config, out=averaged.out)
        assert plan.demands[0].stage == "frames"
        assert plan.demands[0].finished == 0


def test_a_plan_asks_for_the_memory_of_waiting_pictures(moving: Path, tmp_path: Path) -> None:
    plain = make_plan(write_config(moving, frames={"average": "none"}), out=tmp_path / "a")
    averages = make_plan(write_config(moving, frames=MOTION), out=tmp_path / "b")
    assert averages.demands[0].memory > plain.demands[0].memory
    assert averages.demands[1:] == plain.demands[1:]
    assert "read twice" in averages.notes[0]
    assert "read twice" not in plain.notes[0]
