"""Workers, schedulers and disks that fail: the same bytes in the end, and no silent hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker

from cemi_dask.cli import main
from cemi_dask.compute import named_task
from cemi_dask.errors import ResourceError
from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.cluster_options import AddressOptions
from cemi_dask.pipeline.execute import LedgerCompute
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.placement import Placement
from cemi_dask.pipeline.progress import Lines
from tests.pipeline.conftest import contents, reused, write_config
from tests.pipeline.saboteur import KINDS, Saboteur, limit_files

ROOT = Path(__file__).resolve().parents[2]
SILENT_S = 20  # after which a worker counts as lost; starting may take some of it


@dataclass
class Running:
    """A scheduler and its two workers, whose nannies start them again."""

    address: str
    scheduler: subprocess.Popen[bytes]


@contextmanager
def cluster(folder: Path, silent_s: int = 300) -> Iterator[Running]:
    """A dask cluster of processes of its own, which gives up workers that are silent."""
    folder.mkdir(exist_ok=True)
    file = folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    workers = ["--nworkers", "2", "--nthreads", "1", "--memory-limit", "800MB"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{silent_s}s",
    }
    with (folder / "log").open("w") as log:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command, *common],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
            )
            for command in (["scheduler", "--port", "0"], ["worker", *workers])
        ]
    try:
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            address = str(client.scheduler.address)
        yield Running(address, processes[0])
    finally:
        for process in reversed(processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with cluster(tmp_path_factory.mktemp("cluster") / "dask") as running:
        yield running


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster whose scheduler may be killed, by the last test that uses it."""
    with cluster(tmp_path_factory.mktemp("cluster") / "dask", SILENT_S) as running:
        yield running


@contextmanager
def sabotaged(running: Running, folder: Path, fault: str, *kinds: str) -> Iterator[Client]:
    """The cluster with a `Saboteur` in every worker, and those to come."""
    folder.mkdir()
    with Client(running.address) as client:
        client.register_plugin(Saboteur(folder, fault, kinds))
        try:
            yield client
        finally:
            client.unregister_worker_plugin("saboteur")
            for mark in folder.iterdir():
                with suppress(ProcessLookupError):
                    os.kill(int(mark.read_text()), signal.SIGCONT)


def on(running: Running, ingot: Path, **options: float) -> Path:
    """The config of the ingot on that cluster."""
    return write_config(ingot, cluster={"kind": "address", "address": running.address, **options})


def same(out: Path, finished: RunResult, *parts: str) -> None:
    for name in parts:
        assert contents(out / name) == contents(finished.out / name), name


def test_a_worker_killed_in_every_stage_changes_nothing(
    running: Running, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    with sabotaged(running, marks, "kill", *KINDS):
        run(on(running, ingot), out=tmp_path / "run", until="analyse")
    killed = {path.name: int(path.read_text()) for path in marks.iterdir()}
    assert set(killed) == set(KINDS)
    assert len(set(killed.values())) == len(KINDS)
    same(tmp_path / "run", finished, "mosaic.ome.zarr", "tables")


def test_a_worker_that_hangs_is_given_up(
    fragile: Running, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    with sabotaged(fragile, tmp_path / "marks", "stop", "denoise"):
        began = time.monotonic()
        run(on(fragile, ingot), out=tmp_path / "run", until="denoise")
        assert time.monotonic() - began >= SILENT_S
    same(tmp_path / "run", finished, "frames.zarr")


def test_a_worker_that_takes_too_much_memory_is_started_again(
    running: Running, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    with sabotaged(running, tmp_path / "marks", "hoard", "denoise") as client:
        before = set(client.scheduler_info(n_workers=-1)["workers"])
        run(on(running, ingot), out=tmp_path / "run", until="denoise")
        client.wait_for_workers(2, timeout=60)
        assert before - set(client.scheduler_info(n_workers=-1)["workers"])
    same(tmp_path / "run", finished, "frames.zarr")


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    running: Running,
    ingot: Path,
    finished: RunResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    command = ["run", str(on(running, ingot)), "--out", str(out), "--until", "blend"]
    for kind in ("denoise", "blend-shard"):
        with sabotaged(running, tmp_path / kind, "fill", kind) as client:
            assert main(command) == 1
            client.run(limit_files, -1)
        error = capsys.readouterr().err
        assert f"failed on {kind}/" in error
        assert "File too large" in error  # as the system says it; of a real disk "No space left"
        assert "run the same command again to go on" in error
        assert "Traceback" not in error
    assert main(command) == 0
    assert reused(out)["denoise"] == (4, 4)
    same(out, finished, "frames.zarr", "mosaic.ome.zarr/0")


class KillsTheScheduler(Lines):
    """Progress that kills the scheduler as soon as some frames are denoised."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self.running = running

    def advance(self) -> None:
        super().advance()
        if self.name == "denoise" and self.done == 2:
            self.running.scheduler.kill()


def test_a_scheduler_that_is_killed_is_said_and_the_run_resumes_on_another(
    fragile: Running, running: Running, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    began = time.monotonic()
    with pytest.raises(ResourceError, match=r"scheduler was lost.*again to go on|connection"):
        run(on(fragile, ingot, timeout_s=5), out=out, progress=KillsTheScheduler(fragile))
    assert time.monotonic() - began < 60
    result = run(on(running, ingot), out=out, until="denoise")
    stages = result.summary["stages"]
    assert 2 <= stages["denoise"]["skipped"] < stages["denoise"]["items"]
    assert stages["register"]["skipped"] == stages["register"]["items"]
    same(out, finished, "frames.zarr")


# ---------------------------------------------------------------- workers that vanish


@contextmanager
def workers(**resources: dict[str, float]) -> Iterator[tuple[SpecCluster, Client]]:
    """Workers by name with their resources, in this process."""
    specs = {
        name: {"cls": Worker, "options": {"nthreads": 1, "resources": given}}
        for name, given in resources.items()
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(specs, scheduler) as cluster, Client(cluster) as client:
        client.wait_for_workers(len(specs))
        yield cluster, client


class Replaces(Lines):
    """Progress that ends the worker `old` after the first item, and may start another."""

    def __init__(self, cluster: SpecCluster, old: str, new: str = "") -> None:
        super().__init__()
        self.cluster, self.old, self.new = cluster, old, new

    def advance(self) -> None:
        super().advance()
        if self.done == 1:
            spec = self.cluster.worker_spec.pop(self.old)
            if self.new:
                self.cluster.worker_spec[self.new] = spec
            self.cluster.sync(self.cluster._correct_state)


def where() -> str:
    time.sleep(0.02)
    return str(get_worker().name)


def compute_on(client: Client, progress: Lines, folder: Path) -> LedgerCompute:
    options = AddressOptions(kind="address", address="tcp://127.0.0.1:1", timeout_s=2)
    stage = Ledger(folder).stage("blend", "d")
    return LedgerCompute(client, stage, progress, placement=Placement(client, options))


ITEMS = {f"blend/{k}": named_task("blend", where) for k in range(40)}


def test_when_all_workers_vanish_the_wait_is_bounded(tmp_path: Path) -> None:
    with workers(a={}) as (cluster, client):
        compute = compute_on(client, Replaces(cluster, "a"), tmp_path)
        began = time.monotonic()
        with pytest.raises(ResourceError, match=r"No worker is left, .* 2 s \(cluster\.timeout_s"):
            compute(ITEMS)
        assert time.monotonic() - began < 20
        assert compute.ledger.finished


def test_items_bound_to_workers_that_vanish_go_to_others(tmp_path: Path) -> None:
    with workers(a={}, gpu={"GPU": 1}) as (cluster, client):
        done = compute_on(client, Replaces(cluster, "a", "b"), tmp_path)(ITEMS)
    assert set(done.values()) == {"a", "b"}
