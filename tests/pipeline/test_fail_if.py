"""Did it silently fail? What a run says was rejected, and limits that make it fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from cemi_dask.errors import CemiError, QualityError
from cemi_dask.pipeline import RunResult
from cemi_dask.pipeline.limits import FailIf
from cemi_dask.pipeline.quality import refuse_beyond, stitching_numbers
from cemi_dask.solve import loop_closures
from tests.pipeline.conftest import Words, contents, redone
from tests.pipeline.pictures import HEIGHT, WIDTH, texture, write_grid

Command = Callable[..., list[object]]


def run_json(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text()))


@pytest.fixture
def command(tmp_path: Path, scheduler: str) -> Command:
    """`cemi run` of six tiles, one of them blank, with limits."""
    folder = write_grid(tmp_path / "in", texture(1))
    tifffile.imwrite(folder / "tile_r0_c2.tif", np.full((HEIGHT, WIDTH), 90, np.uint8))

    def words(**limits: float) -> list[object]:
        file = tmp_path / "config.json"
        config = {
            "input": {"paths": [str(folder)], "pixel_um": 0.2},
            "stitch": {"fail_if": limits},
            "segment": None,
            "analyse": None,
        }
        file.write_text(json.dumps(config))
        return ["run", file, "--out", tmp_path / "run", "--cluster", scheduler]

    return words


def test_a_limit_fails_the_run_after_solve_and_a_changed_one_redoes_nothing_else(
    command: Command, tmp_path: Path, refused: Words, done: Words
) -> None:
    out = tmp_path / "run"
    error = refused(1, *command(rejected_frames=0.1, islands=1))
    # one of six
    assert re.search(r"rejected_frames is 0\.1667, the limit 0\.1 \(.*frames\.csv", error)
    assert "islands" not in error
    assert "cemi report" in error
    summary = run_json(out)
    assert summary["state"] == "failed"
    assert summary["error"].startswith("QualityError: ")
    assert list(summary["stages"]) == ["frames", "register", "solve"]
    assert {path.stem for path in (out / "tables").glob("*.csv")} == {
        "frames",
        "pairs",
        "positions",
    }
    assert not (out / "mosaic.ome.zarr").exists()
    # what was measured so far can be looked at
    done("report", out)
    assert "rejected_frames is 0.1667" in (out / "report.html").read_text()
    assert {"placement.png", "links.png"} <= set(contents(out / "figures"))
    assert "1 not (1 blank)" in done("status", out)
    # an unchanged run fails again; a wider limit goes on from what is there
    refused(1, *command(rejected_frames=0.1, islands=1), "--until", "solve")
    done(*command(rejected_frames=0.2))
    assert redone(out) == {"blend"}
    assert run_json(out)["state"] == "finished"
    # a finished run is held against a new limit, and keeps its mosaic
    mosaic = contents(out / "mosaic.ome.zarr")
    refused(1, *command(rejected_frames=0.1))
    assert ": failed" in done("status", out)
    done(*command())
    assert redone(out) == set()
    assert contents(out / "mosaic.ome.zarr") == mosaic


def test_run_json_and_status_say_what_was_rejected_and_why(
    command: Command, tmp_path: Path, done: Words
) -> None:
    done(*command(), "--until", "solve")
    summary = run_json(tmp_path / "run")
    pairs = pd.read_csv(tmp_path / "run" / "tables" / "pairs.csv", keep_default_na=False)
    assert summary["reasons"]["frames"] == {"blank": 1}
    weak = pairs[pairs["status"] != "ok"]
    assert (weak["reason"] != "").all()
    assert sum(summary["reasons"]["pairs"].values()) == len(weak)
    assert (pairs.loc[pairs["status"] == "ok", "reason"] == "").all()
    line = next(x for x in done("status", tmp_path / "run").splitlines() if "pairs ok" in x)
    assert line.startswith("5 frames used, 1 not (1 blank); ")
    assert f"{len(pairs) - len(weak)} pairs ok, {len(weak)} not" in line


def test_the_numbers_of_a_good_run_are_good(finished: RunResult) -> None:
    numbers = finished.summary["stitching"]
    assert set(numbers) == set(FailIf.model_fields)
    assert numbers["islands"] == 1
    # noise of sigma 12 on small frames: some hundredths of a pixel
    assert 0 < numbers["rms_residual_px"] < 0.2
    assert 0 < numbers["max_sigma_px"] < 0.3
    assert 0 < numbers["loop_closure_px"] < 0.6
    pairs = pd.read_csv(finished.tables / "pairs.csv")
    steps = pairs.loc[pairs["status"] == "ok", "grey_step"]
    assert steps.notna().all()
    assert steps.abs().median() < 1.0  # grey levels; the simulated gain is constant


def test_stitch_takes_limits_and_refuses_unknown_ones(
    tmp_path: Path, scheduler: str, refused: Words, done: Words
) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    stitch = ["stitch", folder, "--out", tmp_path / "run", "--cluster", scheduler]
    tight = ["--fail-if", "max_sigma_px=1e-9", "--fail-if", "rms_residual_px=1e-9"]
    error = refused(1, *stitch, *tight)
    assert "max_sigma_px is " in error
    assert "rms_residual_px is " in error
    assert "did you mean 'islands'" in refused(2, *stitch, "--fail-if", "island=1")
    assert "form islands=1" in refused(2, *stitch, "--fail-if", "islands")
    assert "islands" in refused(2, *stitch, "--fail-if", "islands=none")
    done(*stitch, "--fail-if", "islands=1")


def test_a_limit_that_nothing_can_tell_is_a_warning(
    tmp_path: Path, scheduler: str, done: Words
) -> None:
    folder = write_grid(tmp_path / "in", texture(1), rows=1, cols=3)
    told = done(
        *("stitch", *sorted(folder.glob("*.tif")), "--out", tmp_path / "run"),
        *("--cluster", scheduler, "--fail-if", "loop_closure_px=0.1", "--fail-if", "islands=1"),
    )
    # Three tiles in a row, overlapping one after the other, make no loop.
    assert re.search(r"Warning: stitch\.fail_if: nothing tells loop_closure_px", told)
    assert run_json(tmp_path / "run")["stitching"]["loop_closure_px"] is None


def tables() -> dict[str, pd.DataFrame]:
    """Four frames in a square and two more, of which one is a duplicate; one loop misses by 0.5."""
    used = [True, True, True, True, False, False]
    place = np.array([(0, 0), (100, 0), (0, 80), (100, 80)], float)
    edges = [(0, 1), (0, 2), (1, 3), (2, 3)]
    shift = np.array([place[j] - place[i] for i, j in edges])
    shift[3] += (0.3, 0.4)
    return {
        "frames": pd.DataFrame({"used": used, "reason": [""] * 4 + ["blank", "duplicate"]}),
        "positions": pd.DataFrame(
            {
                "used": used[:5],
                "component": [0, 0, 0, 1, 2],
                "sigma_x_px": [0.01, 0.02, 0.01, 0.01, 9.0],
                "sigma_y_px": [0.01, 0.01, 0.03, 0.01, 9.0],
            }
        ),
        "pairs": pd.DataFrame(
            {
                "i": [0, 0, 1, 2, 0],
                "j": [1, 2, 3, 3, 3],
                "dx_px": [*shift[:, 0], 0.0],
                "dy_px": [*shift[:, 1], 0.0],
                "status": ["ok"] * 4 + ["ambiguous"],
                "residual_px": [0.1, 0.1, 0.1, 0.3, 50.0],
            }
        ),
    }


def test_every_limit_is_compared_with_its_own_number() -> None:
    held = tables()
    loops = loop_closures(held["pairs"])
    numbers = stitching_numbers(**held, loops=loops)
    expected = {
        "rejected_frames": 0.2,
        "islands": 2,
        "rms_residual_px": np.sqrt((3 * 0.01 + 0.09) / 4),
        "max_sigma_px": 0.03,
        "loop_closure_px": 0.5,
        "ambiguous_pairs": 0.2,
    }
    assert numbers == pytest.approx(expected)
    refuse_beyond(numbers, FailIf(), loops)
    for name, value in expected.items():
        tight = 1 if name == "islands" else 0.9 * value
        wide = 2 if name == "islands" else 1.1 * value
        refuse_beyond(numbers, FailIf(**{name: wide}), loops)
        with pytest.raises(QualityError, match=f"{name} is .*, the limit {tight:g} "):
            refuse_beyond(numbers, FailIf(**{name: tight}), loops)
    with pytest.raises(CemiError, match=r"loop_closure_px .*frames 0-1-3-2"):
        refuse_beyond(numbers, FailIf(loop_closure_px=0.1), loops)
