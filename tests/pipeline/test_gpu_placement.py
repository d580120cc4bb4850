"""Two CPU workers and one that offers a GPU: what runs where, in a whole run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions
from tests.pipeline.conftest import contents, write_config


class WhoDidWhat(SchedulerPlugin):
    """Names of the workers that have done the tasks of each kind."""

    def __init__(self, client: Client) -> None:
        self.scheduler = client.cluster.scheduler
        self.workers: dict[str, set[str]] = defaultdict(set)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **more: Any) -> None:
        if start == "processing" and finish == "memory":
            kind = str(key).rpartition("-")[0]
            self.workers[kind].add(str(self.scheduler.workers[more["worker"]].name))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(LocalOptions(workers=2, gpu_workers=1, dashboard=None)) as client:
        client.wait_for_workers(3, timeout=60)
        yield client


def test_a_gpu_worker_sees_one_device(client: Client) -> None:
    seen = client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    workers = client.scheduler_info(n_workers=-1)["workers"]
    assert sorted(
        (w["name"], w["resources"], seen[a]) for a, w in workers.items() if w["resources"]
    ) == [("gpu-0", {"GPU": 1}, "0")]


@pytest.mark.parametrize("use_gpu", ["always", "never"])
def test_denoising_goes_where_the_config_says_and_nothing_else_does(
    use_gpu: str, client: Client, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    address = str(client.scheduler.address)
    cluster = {"kind": "address", "address": address, "use_gpu": use_gpu}
    who = WhoDidWhat(client)
    client.cluster.scheduler.add_plugin(who, name=use_gpu)
    result = run(write_config(ingot, cluster=cluster), out=tmp_path / "run", until="analyse")
    kinds = set(who.workers)
    assert {"read-frames", "register-pair", "denoise", "blend-shard"} <= kinds
    denoised_by = who.workers.pop("denoise")
    others = set().union(*who.workers.values())
    if use_gpu == "always":
        assert denoised_by == {"gpu-0"}
    else:
        assert denoised_by <= {"0", "1"}
    assert others == {"0", "1"}
    assert contents(result.mosaic) == contents(finished.mosaic)
