"""A run that denoises with a network: which workers get the frames, and what is done again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker

from cemi_dask.compute import named_task
from cemi_dask.learn.weights import file_sha256
from cemi_dask.pipeline import run
from cemi_dask.pipeline.cluster import gpu_wanted
from cemi_dask.pipeline.execute import LedgerCompute
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Lines
from tests.denoise.networks import written_model
from tests.pipeline.conftest import write_config


@contextmanager
def cluster_of(**options: dict[str, Any]) -> Iterator[Client]:
    """A client of workers by name, in this process (no task here touches a GPU)."""
    workers = {name: {"cls": Worker, "options": given} for name, given in options.items()}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:
        client.wait_for_workers(len(workers))
        yield client


@pytest.fixture(scope="module")
def mixed() -> Iterator[Client]:
    with cluster_of(plain={"nthreads": 2}, gpu={"nthreads": 1, "resources": {"GPU": 1}}) as client:
        yield client


def where() -> str:
    return str(get_worker().name)


def test_networks_go_only_to_workers_that_offer_a_gpu(mixed: Client, tmp_path: Path) -> None:
    items = {f"denoise/{k}": named_task("denoise", where) for k in range(12)}
    compute = LedgerCompute(mixed, Ledger(tmp_path / "a").stage("denoise", "d"), Lines())
    compute.resources = gpu_wanted(mixed, "auto")
    assert compute.resources == {"GPU": 1}
    assert set(compute(items).values()) == {"gpu"}
    anywhere = LedgerCompute(mixed, Ledger(tmp_path / "b").stage("denoise", "d"), Lines())
    assert gpu_wanted(mixed, "cpu") == {}
    assert "plain" in set(anywhere(items).values())


def test_where_no_worker_offers_a_gpu_nothing_waits_for_one() -> None:
    with cluster_of(plain={"nthreads": 1}) as client:
        for device in ("auto", "cpu", "cuda"):
            assert gpu_wanted(client, device) == {}


def test_a_run_takes_weights_beside_its_config_and_tells_them(ingot: Path, tmp_path: Path) -> None:
    weights = written_model(ingot.parent / "small.safetensors")
    method = {"method": "network", "model": "small.safetensors", "device": "cpu"}
    config = write_config(ingot, denoise=method)
    first = run(config, out=tmp_path / "run", until="denoise").summary
    assert first["denoiser"]["sha256"] == file_sha256(weights)
    assert first["stages"]["denoise"]["skipped"] == 0
    again = run(config, out=tmp_path / "run", until="denoise").summary
    assert again["stages"]["denoise"]["skipped"] == again["stages"]["denoise"]["items"] > 0
    # Other weights under the same name are another denoiser; frames and pairs stay.
    written_model(weights, seed=1)
    other = json.loads(
        (run(config, out=tmp_path / "run", until="denoise").out / "run.json").read_text()
    )
    assert other["stages"]["denoise"]["skipped"] == 0
    assert other["stages"]["register"]["skipped"] == other["stages"]["register"]["items"] > 0
