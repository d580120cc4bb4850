"""A run on a real SLURM: the same bytes, work where it belongs, and lost jobs come back."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from cemi_dask.cli import main
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import JobOptions
from cemi_dask.pipeline.simulation import simulate_ingot
from tests.pipeline.conftest import LOCAL, SMALL, contents, write_config


def answers() -> str:
    """Nothing where SLURM answers; else why it does not."""
    if shutil.which("sinfo") is None:
        return "sinfo is not installed"
    asked = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    if asked.returncode:
        return f"sinfo fails: {asked.stderr.strip()}"
    return "" if "idle" in asked.stdout or "mixed" in asked.stdout else "no node is up"


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(answers()), reason=f"no SLURM: {answers()}; see tests/slurm/start.sh"),
]


def job_options(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "kind": "slurm",
        "workers": 2,
        "memory": "1 GB",
        "walltime": "00:10:00",
        "queue": "cpu",
        "interface": "lo",
        "log_directory": str(folder / "jobs"),
        "local_directory": str(folder / "scratch"),
        "timeout_s": 120,
        "dashboard": None,
        **more,
    }


def names(client: Client) -> list[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted(str(worker["name"]) for worker in workers)


def await_names(client: Client, wanted: list[str]) -> None:
    limit = time.monotonic() + 90
    while names(client) != wanted:
        assert time.monotonic() < limit, names(client)
        time.sleep(0.2)


def test_a_run_through_slurm_gives_the_same_bytes(tmp_path: Path) -> None:
    config = simulate_ingot(tmp_path / "ingot", SMALL)
    common = {"mosaic": {"shard_px": 256, "chunk_px": 64}, "report": {"figure_dpi": 72}}
    gpu = {"workers": 1, "memory": "1 GB", "queue": "gpu"}
    jobs = job_options(tmp_path, gpu=gpu, use_gpu="always")
    for name, cluster in (("local", LOCAL), ("slurm", jobs)):
        variant = write_config(config, **common, cluster=cluster)
        out = tmp_path / name
        arguments = ["run", str(variant), "--out", str(out), "--cluster", name]
        assert main([*arguments, "--until", "analyse"]) == 0
    for part in ("mosaic.ome.zarr", "tables"):
        assert contents(tmp_path / "slurm" / part) == contents(tmp_path / "local" / part)
    logs = {path.name.split("-")[1] for path in (tmp_path / "jobs").glob("cemi-*.out")}
    assert logs == {"cpu", "gpu"}
    time.sleep(1)  # the jobs end with the run
    queue = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True)
    assert "cemi-" not in queue.stdout


def test_a_cancelled_job_is_asked_for_again(tmp_path: Path) -> None:
    with open_client(JobOptions.model_validate(job_options(tmp_path))) as client:
        await_names(client, ["cpu-0", "cpu-1"])
        queue = subprocess.run(
            ["squeue", "-h", "-n", "cemi-cpu", "-o", "%i"],
            capture_output=True,
            text=True,
            check=True,
        )
        subprocess.run(["scancel", queue.stdout.split()[0]], check=True)
        limit = time.monotonic() + 30
        while len(names(client)) == 2:
            assert time.monotonic() < limit
            time.sleep(0.05)
        await_names(client, ["cpu-0", "cpu-1"])


def test_jobs_come_with_the_work(tmp_path: Path) -> None:
    with open_client(JobOptions.model_validate(job_options(tmp_path, minimum=1))) as client:
        await_names(client, ["cpu-0"])
        futures = [client.submit(time.sleep, 8, key=f"wait-{k}") for k in range(2)]
        await_names(client, ["cpu-0", "cpu-1"])
        client.gather(futures)


def test_a_partition_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = simulate_ingot(tmp_path / "ingot", {**SMALL, "rows": 1, "frames_per_row": 3})
    variant = write_config(config, cluster=job_options(tmp_path, queue="nowhere"))
    assert main(["run", str(variant), "--cluster", "slurm"]) == 1
    error = capsys.readouterr().err
    assert "The batch system (slurm) refused a job" in error
    assert "invalid partition specified: nowhere" in error
    assert "Traceback" not in error
