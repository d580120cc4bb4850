"""Carrying out a stage's items on a cluster: resumable, bounded, one task an item."""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.local import get_sync
from dask.optimization import cull
from dask.utils import ensure_dict
from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from cemi_dask.compute import Items
from cemi_dask.errors import CemiError, ResourceError, RunError, StoreError
from cemi_dask.pipeline.ledger import StageLedger
from cemi_dask.pipeline.progress import Progress


@dataclass
class LedgerCompute:
    """A `Compute` that skips finished items, records each one, and bounds what is in flight.

    Every item runs as one task on one worker, with all that it depends on inside: pixels
    never travel between workers, and the scheduler sees a few thousand tasks, not millions.
    """

    client: Client
    ledger: StageLedger
    progress: Progress
    in_flight_per_thread: int = 3
    retries: int = 1
    # What a worker must offer to be given an item; see `cluster.gpu_wanted`.
    resources: dict[str, float] = field(default_factory=dict)
    items: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    cpu_s: float = field(default=0.0, init=False)
    # On a shared scheduler another run, or what an interrupted one has left, may do the same
    # items for another folder: their keys must differ.
    token: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)

    def __call__(self, items: Items, /) -> dict[str, Any]:
        """Results of `items` by name, from the ledger where it has them."""
        todo = [name for name in items if name not in self.ledger.finished]
        self.items += len(items)
        self.skipped += len(items) - len(todo)
        self.progress.expect(len(items), done=len(items) - len(todo))
        if todo:
            self._compute(items, iter(todo))
        return {name: self.ledger.finished[name] for name in items}

    def _compute(self, items: Items, todo: Iterator[str]) -> None:
        threads = threads_that_offer(self.client, self.resources) or 1
        names: dict[str, str] = {}
        running = as_completed()

        def submit_next() -> None:
            name = next(todo, None)
            if name is not None:
                future = self._submit(name, items[name])
                names[str(future.key)] = name
                running.add(future)

        try:
            for _ in range(self.in_flight_per_thread * threads):
                submit_next()
            for future in running:
                name = names.pop(str(future.key))
                result, cpu_s = self._result(name, future)
                future.release()
                submit_next()
                self.cpu_s += cpu_s
                self.ledger.record(name, result)
                self.progress.advance()
        finally:
            self.client.cancel([Future(key, self.client) for key in names], force=True)

    def _submit(self, name: str, item: Delayed) -> Future[Any]:
        kind = name.partition("/")[0]
        key = f"{kind}-{tokenize(self.token, name)}"
        return self.client.submit(
            run_inline,
            pack(item),
            key=key,
            pure=False,
            retries=self.retries,
            resources=self.resources or None,
        )

    def _result(self, name: str, future: Future[Any]) -> tuple[Any, float]:
        """(the item's JSON-able result, CPU seconds); a failure becomes a RunError."""
        where = f"Stage {self.ledger.stage!r} failed on {name}"
        again = "Finished items are kept: run the same command again to go on."
        try:
            result, cpu_s = future.result()
            if isinstance(result, CemiError):
                raise result
        except CemiError as error:
            raise type(error)(f"{error} ({where}.)") from error
        except CancelledError as error:
            raise ResourceError(
                f"{where}: the scheduler was lost or has cancelled it. Start it, and workers, "
                f"again. {again}"
            ) from error
        except KilledWorker as error:
            raise RunError(
                f"{where}: its worker died again and again, most often for "
                f"lack of memory. Give workers more memory or take fewer of them. {again}"
            ) from error
        except OSError as error:
            raise RunError(f"{where}: {error}. {again}") from error
        except Exception as error:
            raise RunError(f"{where}: {type(error).__name__}: {error}. {again}") from error
        return json.loads(json.dumps(result)), cpu_s


def threads_that_offer(client: Client, resources: Mapping[str, float]) -> int:
    """Threads of the workers that offer at least these resources."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(
        worker["nthreads"]
        for worker in workers
        if all(worker["resources"].get(name, 0) >= least for name, least in resources.items())
    )


def pack(item: Delayed) -> bytes:
    """The culled graph of one item, pickled, so that dask does not look into it again."""
    keys = list(flatten(item.__dask_keys__()))
    graph, _ = cull(ensure_dict(item.__dask_graph__()), keys)
    return bytes(cloudpickle.dumps((graph, keys[0])))


def run_inline(packed: bytes) -> tuple[Any, float]:
    """(result, CPU seconds of this thread) of an item whose graph runs right here.

    What the input is refused for comes back as the result: trying again would not help.
    """
    start = time.thread_time()
    graph, key = cloudpickle.loads(packed)
    try:
        result = get_sync(graph, key)
    except StoreError:
        raise
    except CemiError as error:
        error.add_note(traceback.format_exc())
        result = error
    return result, time.thread_time() - start
