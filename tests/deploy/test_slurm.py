"""The sbatch file: its workers meet the command over TLS, and its status is the command's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.charts import ROOT, deploy_environment

SCRIPT = ROOT / "deploy" / "slurm" / "cemi.sbatch"

# Stands for `cemi`: says who serves it, waits where it is told to, ends with the status told.
COMMAND = """#!{python}
import json, os, sys, time
from distributed import Client
if __name__ == "__main__":
    with Client(sys.argv[-1], timeout=30) as client:
        client.wait_for_workers(int(os.environ["WORKERS"]), timeout=60)
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        print(json.dumps({{
            "args": sys.argv[1:-1],
            "address": sys.argv[-1],
            "workers": sorted(
                [[w["nthreads"], w["memory_limit"] >> 20, w["resources"]] for w in found],
                key=lambda worker: worker[1],
            ),
        }}), flush=True)
    time.sleep(float(os.environ.get("WAIT", "0")))
    sys.exit(int(sys.argv[1]))
"""
# Stands for `srun` with one task: drops its options.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What SLURM sets for a job of one task, on a PATH whose `cemi` and `srun` stand for others."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes a job's key")
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    for name, text in (("cemi", COMMAND.format(python=sys.executable)), ("srun", SRUN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    (folder / "dask").symlink_to(Path(sys.executable).with_name("dask"))
    return os.environ | {
        "CEMI_ENV": str(folder.parent),
        "CEMI_JOB_DIR": str(tmp_path / "job"),
        "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_CPU": "700",
        "SLURM_CPUS_PER_TASK": "1",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "CEMI_INTERFACE": "lo",
    }


def told(output: str) -> dict[str, object]:
    """What the command said."""
    (line,) = [line for line in output.splitlines() if line.startswith("{")]
    return dict(json.loads(line))


def run_script(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *args], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_script_is_bash() -> None:
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.helm
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    shellcheck = deploy_environment() / "bin" / "shellcheck"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.sh"
    wrong.write_text("#!/bin/bash\nrm $1/*\n")
    assert subprocess.run([shellcheck, wrong], capture_output=True, timeout=60).returncode != 0


def test_the_command_meets_cpu_and_gpu_workers_and_gives_its_status(
    environment: dict[str, str], tmp_path: Path
) -> None:
    parts = {
        "SLURM_HET_SIZE": "2",
        "SLURM_MEM_PER_CPU_HET_GROUP_0": "600",
        "SLURM_MEM_PER_CPU_HET_GROUP_1": "800",
        "SLURM_CPUS_PER_TASK_HET_GROUP_1": "2",
        "WORKERS": "2",
    }
    done = run_script(environment | parts, "3", "b c", "--out", "x")
    assert done.returncode == 3, done.stderr
    said = told(done.stdout)
    assert said["args"] == ["3", "b c", "--out", "x", "--cluster"]
    assert str(said["address"]).startswith("tls://127.0.0.1:")
    assert said["workers"] == [[1, 600, {}], [1, 1600, {"GPU": 1}]]
    # Keys and address are the job's alone, and end with it.
    job = tmp_path / "job"
    assert job.stat().st_mode & 0o777 == 0o700
    assert {path.suffix for path in job.iterdir()} == {".log"}


def test_what_is_missing_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    done = run_script(environment)
    assert done.returncode == 2
    assert "usage: sbatch cemi.sbatch" in done.stderr
    (tmp_path / "env" / "bin" / "srun").unlink()
    if shutil.which("srun") is None:
        done = run_script(environment, "0", "x")
        assert done.returncode == 2
        assert "no srun on PATH. Set CEMI_ENV" in done.stderr


def test_a_job_whose_time_is_up_stops_the_command_and_its_workers(
    environment: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        ["bash", SCRIPT, "0", "x"],
        env=environment | {"WORKERS": "1", "WAIT": "100"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    assert told(line)["workers"] == [[1, 700, {}]]
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    assert time.monotonic() - asked < 50
    assert not (tmp_path / "job" / "key.pem").exists()
    process.stdout.close()


@pytest.fixture(scope="session")
def slurm() -> None:
    """Skips where no SLURM answers."""
    if shutil.which("sinfo") is None:
        pytest.skip("no SLURM here: sinfo is not on PATH")
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0 or not done.stdout.strip():
        pytest.skip(f"no SLURM answers: {done.stderr.strip()[:200]}")


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_a_real_job_gives_every_task_a_worker(environment: dict[str, str], tmp_path: Path) -> None:
    # SLURM's own srun, and what it sets.
    (tmp_path / "env" / "bin" / "srun").unlink()
    env = {k: v for k, v in environment.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
    log = tmp_path / "log"
    done = subprocess.run(
        [
            *("sbatch", "--wait", "--ntasks=2", "--mem-per-cpu=600M", "--time=5"),
            *(f"--output={log}", SCRIPT, "0", "x"),
        ],
        env=env | {"WORKERS": "2"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, (done.stderr, log.read_text() if log.exists() else "no log")
    said = told(log.read_text())
    assert said["workers"] == [[1, 600, {}], [1, 600, {}]]
    assert str(said["address"]).startswith("tls://127.0.0.1:")
