"""A small simulated ingot and its undisturbed run, shared by the tests of the whole job."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client

from cemi_dask.cli import main
from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.simulation import simulate_ingot

Words = Callable[..., str]

# Small frames, so that a whole run takes seconds; colonies shrink with them.
SMALL: dict[str, Any] = {
    "rows": 2,
    "frames_per_row": 6,
    "looks": 3,
    "frame_shape": (208, 320),
    "pitch_x_px": 178,
    "pitch_y_px": 131,
    "seed": 4,
    "noise_sigma": 12.0,
    "specimen": {"kind": "eutectic", "colony_px": 90.0},
    "microscope": {"row_start_px": 12.0, "row_pitch_px": 3.0, "row_drift_px": 2.0},
}


def write_config(path: Path, **changes: Any) -> Path:
    """A variant of a config beside the original: `changes` replace top-level keys."""
    values = yaml.safe_load(path.read_text())
    values.update(changes)
    variant = path.with_name(f"{'-'.join(changes) or 'plain'}.yaml")
    variant.write_text(yaml.safe_dump(values))
    return variant


# An embedded cluster takes some seconds to start: runs share one scheduler but where a test is
# about the embedded one.
LOCAL: dict[str, Any] = {"kind": "local", "workers": 2, "dashboard": None}


@pytest.fixture(scope="session")
def ingot(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Path:
    """The config of a simulated ingot: two row videos and their truth beside it."""
    folder = tmp_path_factory.mktemp("ingot") / "videos"
    config = simulate_ingot(folder, SMALL, cluster=scheduler)
    return write_config(
        config,
        mosaic={"shard_px": 256, "chunk_px": 64},
        analyse={"grid": {"cell_px": [104, 128]}, "hardness": {"file": "hardness.csv"}},
        report={"figure_dpi": 72, "page_dpi": 72, "vector_formats": []},
        cluster={"kind": "address", "address": scheduler},
    )


@pytest.fixture(scope="session")
def finished(ingot: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The undisturbed run of that ingot on an embedded cluster."""
    return run(write_config(ingot, cluster=LOCAL), out=tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dask scheduler with one worker of two threads, each its own process."""
    folder = tmp_path_factory.mktemp("scheduler")
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    with (folder / "log").open("w") as log:
        processes = [
            subprocess.Popen([*dask, *command, *common], stdout=log, stderr=log, cwd=folder)
            for command in (
                ["scheduler", "--port", "0"],
                ["worker", "--nworkers", "1", "--nthreads", "2", "--no-nanny"],
            )
        ]
    try:
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            address = str(client.scheduler.address)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def contents(path: Path) -> dict[str, str]:
    """SHA-256 of the file `path`, or of each one below the folder: what must keep its bytes."""
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(files)
    }


def same_results(out: Path, other: Path) -> None:
    """Assert that two runs have left the same mosaic, tables and figures."""
    for name in ("mosaic.ome.zarr", "tables", "figures"):
        assert contents(out / name) == contents(other / name), name


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Words:
    """Runs a command that must end with a status; its one paragraph of error."""

    def command(status: int, *arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == status
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.startswith("cemi: ")
        assert len(error.strip().splitlines()) == 1
        return error

    return command


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Words:
    """Runs a command that must succeed; what it printed."""

    def command(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return command


def reused(out: Path) -> dict[str, tuple[int, int]]:
    """Per stage: items, and how many of them an earlier run had finished."""
    stages = json.loads((out / "run.json").read_text())["stages"]
    return {name: (stage["items"], stage["skipped"]) for name, stage in stages.items()}


def redone(out: Path) -> set[str]:
    """Stages of which something was done (those without items always are)."""
    return {name for name, (items, skipped) in reused(out).items() if items > skipped}
