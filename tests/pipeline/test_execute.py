"""Items run once, as one task each, and what is finished is never done again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from cemi_dask.compute import named_task
from cemi_dask.errors import InputError, RunError
from cemi_dask.frameset import Frames, plane
from cemi_dask.pipeline.execute import LedgerCompute, pack, run_inline
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Lines


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def total(folder: str, name: str, block: np.ndarray) -> dict[str, float]:
    """Sum of a frame; leaves a file per call, so that a test can count the calls."""
    path = Path(folder) / name
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    return {"sum": float(plane(block).sum())}


def items_of(folder: Path, n: int) -> dict[str, object]:
    data = np.arange(n * 6, dtype=np.float64).reshape(n, 2, 3)
    blocks = Frames.from_array(data).delayed()
    return {
        f"register-pair/{i}": named_task("register-pair", total, str(folder), str(i), blocks[i])
        for i in range(n)
    }


def test_items_run_once_and_resume(tmp_path: Path, client: Client) -> None:
    items = items_of(tmp_path, 12)
    first = {name: items[name] for name in list(items)[:7]}
    ledger = Ledger(tmp_path / "ledger")
    compute = LedgerCompute(client, ledger.stage("register", "d"), Lines())
    before = compute(first)
    again = LedgerCompute(client, ledger.stage("register", "d"), Lines())
    results = again(items)
    assert list(results) == list(items)
    assert again.skipped == 7
    assert {name: results[name] for name in before} == before
    assert results["register-pair/2"] == {"sum": float(sum(range(12, 18)))}
    assert all((tmp_path / str(i)).read_text() == "x" for i in range(12))


def test_an_item_is_one_task_named_by_its_kind(tmp_path: Path, client: Client) -> None:
    ledger = Ledger(tmp_path / "ledger").stage("register", "d")
    LedgerCompute(client, ledger, Lines())(items_of(tmp_path, 5))
    stories = client.run_on_scheduler(
        lambda dask_scheduler: [str(prefix) for prefix in dask_scheduler.task_prefixes]
    )
    assert "register-pair" in stories
    assert not [name for name in stories if name.startswith("array")]


def test_a_packed_item_carries_only_what_it_needs() -> None:
    array = da.random.default_rng(0).random((40, 8, 8), chunks=(1, 8, 8))
    blocks = Frames.from_array(array).delayed()
    one = named_task("register-pair", lambda block: float(block.sum()), blocks[3])
    assert len(pack(one)) < 4000
    result, cpu_s = run_inline(pack(one))
    assert result == pytest.approx(float(array[3].sum().compute()), rel=1e-12)
    assert cpu_s >= 0


def test_our_errors_keep_their_type_and_say_where(tmp_path: Path, client: Client) -> None:
    def refuse() -> None:
        raise InputError("tile_07.tif is 8-bit.")

    ledger = Ledger(tmp_path).stage("frames", "d")
    with pytest.raises(InputError, match=r"tile_07\.tif.*'frames' failed on read-frames/7"):
        LedgerCompute(client, ledger, Lines())({"read-frames/7": named_task("read-frames", refuse)})


def test_other_errors_become_a_run_error_and_finished_items_stay(
    tmp_path: Path, client: Client
) -> None:
    def fail(i: int) -> int:
        if i == 3:
            raise ZeroDivisionError("oh")
        return i

    ledger = Ledger(tmp_path).stage("blend", "d")
    items = {f"blend-shard/{i}": named_task("blend-shard", fail, i) for i in range(4)}
    compute = LedgerCompute(client, ledger, Lines(), in_flight_per_thread=1)
    with pytest.raises(RunError, match=r"blend-shard/3: ZeroDivisionError: oh.*again to go on"):
        compute(items)
    assert set(ledger.finished) <= {"blend-shard/0", "blend-shard/1", "blend-shard/2"}
    assert "blend-shard/0" in ledger.finished


@pytest.mark.timeout(120)
def test_a_dying_worker_is_a_clear_error(tmp_path: Path, client: Client) -> None:
    def die() -> None:
        os._exit(1)

    ledger = Ledger(tmp_path).stage("blend", "d")
    with pytest.raises(RunError, match="worker died"):
        LedgerCompute(client, ledger, Lines())({"blend-shard/0": named_task("blend-shard", die)})
