"""A run's flat field: stated in run.json, the same after a resume, switched without reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from cemi_dask.frames import FlatField
from cemi_dask.pipeline import RunResult, run
from cemi_dask.simulate.microscope import Microscope
from tests.pipeline.conftest import SMALL, write_config


def test_a_run_states_its_flat_field_and_shows_it(finished: RunResult) -> None:
    facts = json.loads((finished.out / "run.json").read_text())
    field = FlatField.from_json(facts["flat_field"])
    assert field.shape == SMALL["frame_shape"]
    assert field.frames == facts["frames"]["used"]
    # Two rows of small frames with large colonies tell little, but what they say is true.
    assert field.applied
    true = Microscope().shading(field.shape)
    left = true * field.gain()
    assert float((left / left.mean()).std()) < float((true / true.mean()).std())
    assert (finished.out / "figures" / "recorded.png").is_file()
    assert (finished.out / "figures" / "frames.png").is_file()
    assert (finished.out / "figures" / "flat-field.png").is_file() == field.applied


def test_the_flat_field_is_switched_without_reading_videos_again(
    ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)
    before = json.loads((out / "run.json").read_text())
    off = run(write_config(ingot, frames={"flat_field": "none"}), out=out, until="frames")
    assert "flat_field" not in off.summary
    stage = off.summary["stages"]["frames"]
    assert stage["skipped"] == stage["items"] > 0
    again = run(ingot, out=out, until="frames")
    assert again.summary["flat_field"] == before["flat_field"]
    field = FlatField.from_json(again.summary["flat_field"])
    assert np.isfinite(field.gain()).all()
