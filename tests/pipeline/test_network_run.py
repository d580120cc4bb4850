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
from cemi_dask.errors import ResourceError
from cemi_dask.learn.weights import file_sha256
from cemi_dask.pipeline import run
from cemi_dask.pipeline.cluster_options import AddressOptions
from cemi_dask.pipeline.execute import LedgerCompute
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.placement import Placement
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


def placement(client: Client, **options: Any) -> Placement:
    given = {"kind": "address", "address": "tcp://127.0.0.1:1", **options}
    return Placement(client, AddressOptions.model_validate(given))


def test_networks_go_only_to_workers_that_offer_a_gpu(mixed: Client, tmp_path: Path) -> None:
    items = {f"denoise/{k}": named_task("denoise", where) for k in range(12)}
    places = placement(mixed)
    for device, gpu, workers in (("auto", True, {"gpu"}), ("cpu", False, {"plain"})):
        compute = LedgerCompute(mixed, Ledger(tmp_path / device).stage("denoise", "d"), Lines())
        compute.placement, compute.gpu = places, places.wants_gpu(device, stage="denoise")
        assert compute.gpu is gpu
        assert set(compute(items).values()) == workers


def test_the_config_says_what_goes_to_gpus(mixed: Client) -> None:
    always, never = (placement(mixed, use_gpu=choice) for choice in ("always", "never"))
    assert always.wants_gpu(None, stage="denoise")
    assert always.wants_gpu("auto", stage="segment")
    assert not always.wants_gpu(None, stage="segment")
    assert not never.wants_gpu("cuda", stage="denoise")
    assert not placement(mixed).wants_gpu(None, stage="denoise")


def test_where_no_worker_offers_a_gpu_nothing_waits_for_one() -> None:
    with cluster_of(plain={"nthreads": 1}) as client:
        for device in ("auto", "cpu", "cuda"):
            assert not placement(client).wants_gpu(device, stage="denoise")


def test_gpu_workers_alone_do_all_the_work(tmp_path: Path) -> None:
    with cluster_of(gpu={"nthreads": 1, "resources": {"GPU": 1}}) as client:
        compute = LedgerCompute(client, Ledger(tmp_path).stage("blend", "d"), Lines())
        compute.placement = placement(client)
        assert compute({"blend/0": named_task("blend", where)}) == {"blend/0": "gpu"}


def test_a_gpu_that_never_comes_is_an_error_after_a_while(tmp_path: Path) -> None:
    with cluster_of(plain={"nthreads": 1}) as client:
        compute = LedgerCompute(client, Ledger(tmp_path).stage("denoise", "d"), Lines())
        compute.placement, compute.gpu = placement(client, use_gpu="always", timeout_s=1), True
        with pytest.raises(ResourceError, match="No worker offers the resource GPU after 1 s"):
            compute({"denoise/0": named_task("denoise", where)})


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
