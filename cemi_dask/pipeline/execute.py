"""Carrying out a stage's items on a cluster: resumable, bounded, one task an item."""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
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
from distributed import Client, Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from cemi_dask.compute import Items
from cemi_dask.errors import CemiError, ResourceError, RunError, StoreError
from cemi_dask.pipeline.cluster_options import LocalOptions
from cemi_dask.pipeline.ledger import StageLedger
from cemi_dask.pipeline.placement import FRESH_S, Placement
from cemi_dask.pipeline.progress import Progress

FETCH_S = 10.0  # for a small result from the worker that has it


@dataclass(frozen=True)
class Flight:
    """An item in flight, and the workers that it is bound to (none: to any)."""

    item: str
    bound: frozenset[str]
    future: Future[Any]


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
    placement: Placement | None = None
    # Whether the items need a worker that offers a GPU; see `Placement.wants_gpu`.
    gpu: bool = False
    # Items of the run that was asked for first are done first.
    priority: int = 0
    # Set by whoever wants the run to end: an interrupt reaches one thread alone.
    stop: threading.Event = field(default_factory=threading.Event)
    items: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)
    cpu_s: float = field(default=0.0, init=False)
    # On a shared scheduler another run, or what an interrupted one has left, may do the same
    # items for another folder: their keys must differ.
    token: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _flying: dict[str, Flight] = field(default_factory=dict, init=False)  # by key
    _done: queue.SimpleQueue[Future[Any]] = field(default_factory=queue.SimpleQueue, init=False)
    _turn: int = field(default=0, init=False)

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
        served = time.monotonic()  # when a worker for these items was last seen
        looked = 0.0
        limit = 1
        left = True
        try:
            while left or self._flying:
                now = time.monotonic()
                if now - looked >= FRESH_S:
                    looked = now
                    workers = self._workers()
                    served = now if workers else served
                    if now - served > self._places.cluster.timeout_s:
                        raise self._places.no_worker(gpu=self.gpu)
                    limit = max(1, self.in_flight_per_thread * sum(workers.values()))
                    self._resubmit_stranded(items, frozenset(workers))
                while left and len(self._flying) < limit:
                    name = next(todo, None)
                    left = name is not None
                    if name is not None:
                        self._submit(name, items[name])
                if self.stop.is_set():
                    raise KeyboardInterrupt
                if self._flying:
                    self._take_one()
        finally:
            self._cancel(list(self._flying))

    def _take_one(self) -> None:
        """Record the next item that is done, or come back after a while without one."""
        try:
            future = self._done.get(timeout=FRESH_S)
        except queue.Empty:
            return
        flight = self._flying.get(str(future.key))
        if flight is None:  # one that was given up
            return
        name = flight.item
        outcome = self._result(name, future)
        if outcome is None:  # done again, by another worker
            future.add_done_callback(self._done.put)
            return
        result, cpu_s = outcome
        del self._flying[str(future.key)]
        future.release()
        self.cpu_s += cpu_s
        self.ledger.record(name, result)
        self.progress.advance()

    @property
    def _places(self) -> Placement:
        if self.placement is None:
            self.placement = Placement(self.client, LocalOptions())
        return self.placement

    def _workers(self) -> dict[str, int]:
        try:
            return self._places.workers(gpu=self.gpu)
        except (OSError, CommClosedError):
            return {}  # the futures tell whether the scheduler is lost for good

    def _submit(self, name: str, item: Delayed) -> None:
        kind = name.partition("/")[0]
        self._turn += 1
        key = f"{kind}-{tokenize(self.token, name, self._turn)}"
        restriction = self._places.restriction(gpu=self.gpu)
        future = self.client.submit(
            run_inline,
            pack(item),
            key=key,
            pure=False,
            retries=self.retries,
            priority=self.priority,
            **restriction,
        )
        bound = frozenset(restriction.get("workers", ()))
        self._flying[key] = Flight(name, bound, future)
        future.add_done_callback(self._done.put)

    def _resubmit_stranded(self, items: Items, workers: frozenset[str]) -> None:
        """Send items again whose workers are all gone, where others could take them."""
        stranded = [
            (key, flight.item)
            for key, flight in self._flying.items()
            if flight.bound and workers and not flight.bound & workers
        ]
        self._cancel([key for key, _ in stranded])
        for _, name in stranded:
            self._submit(name, items[name])

    def _cancel(self, keys: list[str]) -> None:
        futures = [self._flying.pop(key).future for key in keys]
        if futures:
            self.client.cancel(futures, force=True)

    def _result(self, name: str, future: Future[Any]) -> tuple[Any, float] | None:
        """(the item's JSON-able result, CPU seconds); a failure becomes a RunError.

        None where the result went with the worker that had it.
        """
        where = f"Stage {self.ledger.stage!r} failed on {name}"
        again = "Finished items are kept: run the same command again to go on."
        try:
            result, cpu_s = future.result(timeout=FETCH_S)
            if isinstance(result, CemiError):
                raise result
        except CemiError as error:
            kept = f" {again}" if isinstance(error, StoreError) else ""
            raise type(error)(f"{error} ({where}.){kept}") from error
        except (CancelledError, CommClosedError) as error:
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
            if isinstance(error, TimeoutError) and future.status != "error":
                return None
            raise RunError(f"{where}: {error}. {again}") from error
        except Exception as error:
            raise RunError(f"{where}: {type(error).__name__}: {error}. {again}") from error
        return json.loads(json.dumps(result)), cpu_s


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
