"""A run that is killed with SIGKILL, in any stage, ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cemi_dask.pipeline import RunResult, run
from tests.pipeline.conftest import LOCAL, contents, write_config

# Runs the job in a process of its own and kills that process as soon as `count` items of
# `stage` are finished (count 0: as the stage begins).
KILLED = """
import os, signal, sys
from cemi_dask.pipeline import run
from cemi_dask.pipeline.progress import Lines

config, out, stage, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

class Killer(Lines):
    def check(self):
        if self.name == stage and self.finished >= count:
            os.kill(os.getpid(), signal.SIGKILL)
    def stage(self, name):
        super().stage(name)
        self.finished = 0
        self.check()
    def advance(self):
        super().advance()
        self.finished += 1
        self.check()

if __name__ == "__main__":
    run(config, out=out, progress=Killer())
"""


@pytest.mark.parametrize(
    ("stage", "count", "cluster"),
    [
        ("frames", 1, "running"),
        ("register", 1, "embedded"),
        ("solve", 0, "running"),
        ("denoise", 2, "running"),
        ("blend", 2, "embedded"),
        ("pyramid", 1, "running"),
        ("segment", 3, "running"),
        ("analyse", 1, "running"),
        ("report", 0, "running"),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    stage: str, count: int, cluster: str, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    config = write_config(ingot, cluster=LOCAL) if cluster == "embedded" else ingot
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    out = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, str(script), str(config), str(out), stage, str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = {
        path.stem: sum('"item"' in line for line in path.read_text().splitlines())
        for path in (out / "ledger").glob("*.jsonl")
    }
    result = run(config, out=out)
    for name, record in result.summary["stages"].items():
        assert record["skipped"] == done.get(name, 0), name
    if count:
        assert result.summary["stages"][stage]["skipped"] >= count
    for name in ("mosaic.ome.zarr", "tables", "figures"):
        assert contents(out / name) == contents(finished.out / name), name
    assert json.loads((out / "run.json").read_text())["state"] == "finished"
