"""The run folder: whose files are touched, what is done again, and what survives a stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Lines
from tests.pipeline.conftest import LOCAL, Words, contents, redone, reused, write_config
from tests.pipeline.pictures import row, texture, write_video

# ---------------------------------------------------------------- the run folder


@pytest.fixture
def short(ingot: Path, scheduler: str) -> Callable[[Path], list[object]]:
    """The command line of a run that ends after its first stage."""
    return lambda out: ["run", ingot, "--out", out, "--until", "frames", "--cluster", scheduler]


def test_foreign_files_are_neither_overwritten_nor_deleted(
    short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    taken = tmp_path / "taken"
    (taken / "tables").mkdir(parents=True)
    (taken / "tables" / "mine.csv").write_text("precious")
    assert "holds tables but no ledger" in refused(2, *short(taken))
    assert "is no run folder" in refused(2, *short(taken), "--fresh")
    assert list(contents(taken)) == ["tables/mine.csv"]
    assert (taken / "tables" / "mine.csv").read_text() == "precious"
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(2, *short(tmp_path / "file"))
    # beside the results, files of others stay, whatever their names
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "download.partial").write_text("precious")
    done(*short(beside))
    done(*short(beside), "--fresh")
    assert (beside / "download.partial").read_text() == "precious"
    assert redone(beside) == {"frames"}


def test_two_runs_in_one_folder_are_refused_also_with_fresh(
    short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    done(*short(tmp_path))
    before = contents(tmp_path / "frames.zarr")
    with Ledger(tmp_path / "ledger").locked():
        for more in ([], ["--fresh"]):
            assert "Another process is running in" in refused(1, *short(tmp_path), *more)
        assert ": running" in done("status", tmp_path)
    assert contents(tmp_path / "frames.zarr") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.2 MB that may be remounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_and_a_read_only_disk_are_named_and_the_run_resumes(
    ingot: Path, finished: RunResult, scheduler: str, small_disk: Path, refused: Words, done: Words
) -> None:
    out = small_disk / "run"
    command = ["run", ingot, "--out", out, "--cluster", scheduler, "--until", "pyramid"]
    error = refused(1, *command)
    assert re.search(rf"Cannot write {out}/.*No space left on device.*Free some space", error)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert re.search(rf"Cannot write {out}/.*[Rr]ead-only file system", refused(1, *command))
    subprocess.run(["mount", "-o", "remount,rw,size=60m", str(small_disk)], check=True)
    done(*command)
    assert reused(out)["frames"] == (2, 2)
    for level in ("0", "1"):
        assert contents(out / "mosaic.ome.zarr" / level) == contents(finished.mosaic / level)


def test_status_of_finished_unfinished_and_other_folders(
    finished: RunResult, short: Any, tmp_path: Path, refused: Words, done: Words
) -> None:
    assert "finished" in done("status", finished.out).splitlines()[0]
    done(*short(tmp_path / "run"))
    assert "unfinished; run the same command" in done("status", tmp_path / "run")
    assert "is no run folder" in refused(2, "status", tmp_path)
    (tmp_path / "run" / "run.json").write_text("{")
    assert "run.json is damaged" in refused(1, "status", tmp_path / "run")


def test_report_is_made_again_from_the_folder_alone(
    finished: RunResult, tmp_path: Path, refused: Words, done: Words
) -> None:
    assert "no run.json" in refused(1, "report", tmp_path)
    figures = contents(finished.out / "figures")
    finished.report.unlink()
    assert str(finished.report) in done("report", finished.out)
    assert finished.report.is_file()
    assert contents(finished.out / "figures") == figures  # as the run's config asks for them


# ---------------------------------------------------------------- interrupted, killed, elsewhere


class Signals(Lines):
    """Does something as soon as an item of a stage is finished."""

    def __init__(self, stage: str, action: Callable[[], None]) -> None:
        super().__init__()
        self.at, self.action = stage, action

    def advance(self) -> None:
        super().advance()
        if self.name == self.at and self.done == 1:
            self.action()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_the_run_resumes(
    number: signal.Signals,
    ingot: Path,
    finished: RunResult,
    scheduler: str,
    tmp_path: Path,
    done: Words,
) -> None:
    command = ["run", ingot, "--out", tmp_path, "--cluster", scheduler, "--until", "denoise"]
    running = subprocess.Popen(
        [sys.executable, "-m", "cemi_dask.cli", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Not ignored, as a background command of a shell has it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    ledger = tmp_path / "ledger" / "register.jsonl"
    while not (ledger.is_file() and '"item"' in ledger.read_text()):
        assert running.poll() is None, "it was to be interrupted on its way"
        time.sleep(0.02)
    running.send_signal(number)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 1
    assert error.startswith("cemi: ")
    assert "Interrupted. Finished items are kept" in error
    assert len(error.strip().splitlines()) == 1
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "interrupted"
    done(*command)
    stages = reused(tmp_path)
    assert stages["frames"] == (2, 2)
    assert stages["register"][1] >= 1
    assert contents(tmp_path / "frames.zarr") == contents(finished.out / "frames.zarr")


@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_changes_nothing(
    ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    def kill_one() -> None:
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[-1].kill()

    config = write_config(ingot, cluster=LOCAL)
    result = run(config, out=tmp_path, until="blend", progress=Signals("denoise", kill_one))
    assert contents(result.out / "frames.zarr") == contents(finished.out / "frames.zarr")
    assert contents(result.mosaic / "0") == contents(finished.mosaic / "0")


def test_a_running_cluster_gives_the_same_bytes_as_a_local_one(
    ingot: Path, finished: RunResult, scheduler: str, tmp_path: Path, done: Words
) -> None:
    done("run", ingot, "--out", tmp_path, "--cluster", scheduler, "--until", "analyse")
    for name in ("mosaic.ome.zarr", "tables"):
        assert contents(tmp_path / name) == contents(finished.out / name), name


# ---------------------------------------------------------------- what is done again


def test_only_the_stages_that_a_change_touches_run_again(
    scheduler: str, tmp_path: Path, done: Words
) -> None:
    folder, out = tmp_path / "in", tmp_path / "run"
    for number, name in enumerate(("a", "b")):
        write_video(folder / f"{name}.mkv", row(texture(1), 10, y=50 * number))
    (tmp_path / "hardness.csv").write_text("x_um,hardness\n2,4\n10,5\n30,6\n50,7\n")
    values: dict[str, Any] = {
        "input": {"paths": [str(folder)], "pixel_um": 0.2},
        "denoise": {"method": "median"},
        "analyse": {"grid": {"cell_px": [70, 70]}, "hardness": {"file": "hardness.csv"}},
    }
    file = tmp_path / "config.yaml"

    def again(**changes: Any) -> set[str]:
        values.update(changes)
        file.write_text(yaml.safe_dump(values))
        done("run", file, "--out", out, "--cluster", scheduler, "--until", "analyse")
        return redone(out)

    # a mosaic this small has no coarser levels
    assert again() == {"frames", "register", "denoise", "blend", "segment", "analyse"}
    assert again() == set()
    first = (out / "tables" / "correlation.csv").read_text()
    (tmp_path / "hardness.csv").write_text("x_um,hardness\n2,4\n10,5\n30,6\n50,1\n")
    assert again() == {"analyse"}
    assert (out / "tables" / "correlation.csv").read_text() != first
    assert again(blend={"method": "average"}) == {"blend", "segment", "analyse"}
    os.utime(folder / "a.mkv", (1, 1))
    assert again() == {"frames", "register", "denoise", "blend", "segment", "analyse"}
    again(frames={"overlap_min": 0.5, "overlap_max": 0.8})
    assert reused(out)["frames"] == (2, 0)
    # what is switched off leaves nothing old behind
    again(denoise=None, segment=None, analyse=None)
    assert not (out / "frames.zarr" / "denoised").exists()
    assert not (out / "mosaic.ome.zarr" / "labels").exists()
    assert not list((out / "tables").glob("c*"))
