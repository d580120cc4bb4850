"""Where the work is done: an embedded LocalCluster, or a scheduler that is running already."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import dask
import psutil
from dask.utils import format_bytes, parse_bytes
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.comm.core import CommClosedError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from cemi_dask.errors import ConfigError, ResourceError

# Resident bytes of a worker that has imported everything and done nothing (measured).
WORKER_BASE = 300 << 20


class LocalOptions(BaseModel):
    """An embedded cluster on this machine, sized to it unless told."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["local"] = "local"
    workers: int | None = Field(default=None, ge=1, description="processes; default: one per core")
    memory_limit: str | None = Field(
        default=None,
        description="per worker, such as '2 GiB'; default: a fair share of 80 % of the memory",
    )
    dashboard: str | None = Field(
        default="127.0.0.1:8787",
        description="address of the dashboard (a free port if taken); null: none",
    )

    @field_validator("memory_limit")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_bytes(value)
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{value!r} is no amount of memory such as '2 GiB'") from error
        return value

    def resolved(self) -> tuple[int, int]:
        """(number of workers, bytes of memory for each)."""
        workers = self.workers or available_cores()
        if self.memory_limit:
            return workers, int(parse_bytes(self.memory_limit))
        return workers, int(0.8 * psutil.virtual_memory().total / workers)


class AddressOptions(BaseModel):
    """A dask scheduler that is running already."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["address"]
    address: str = Field(description="such as tcp://host:8786")
    timeout_s: float = Field(
        default=30.0, gt=0, description="how long to wait for it and for a worker"
    )


def _kind_told(value: Any) -> Any:
    """Cluster options with their kind: an address says it, and so does its absence."""
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "address" if "address" in value else "local", **value}
    return value


ClusterOptions = Annotated[
    Annotated[LocalOptions | AddressOptions, Field(discriminator="kind")],
    BeforeValidator(_kind_told),
]


def parse_cluster(text: str) -> LocalOptions | AddressOptions:
    """Cluster options from the command line's ``local`` or a scheduler's address."""
    if text == "local":
        return LocalOptions()
    host, _, port = text.rpartition(":")
    if "://" in text or (host and port.isdigit()):
        return AddressOptions(kind="address", address=text)
    raise ConfigError(
        f"--cluster {text!r} is not known in this version. Give 'local' or a scheduler's address "
        "such as tcp://host:8786 (on SLURM or Kubernetes, start a dask scheduler there first)."
    )


def available_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class WorkerManners(WorkerPlugin):
    """Keeps OpenCV to one thread per task (tasks already fill the cores).

    Embedded workers leave Ctrl-C, which a terminal sends to all processes, to the client.
    """

    name = "cemi-worker-manners"

    def __init__(self, *, embedded: bool) -> None:
        self.embedded = embedded

    def setup(self, worker: Any) -> None:
        """Called by dask in every worker, also in those that come later."""
        import cv2

        cv2.setNumThreads(1)
        if self.embedded and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def open_client(options: LocalOptions | AddressOptions) -> Iterator[Client]:
    """A connected client with at least one worker; an embedded cluster ends with it.

    Raises ResourceError when the scheduler does not answer or offers no worker in time.
    """
    settings = {
        "distributed.scheduler.worker-saturation": 1.5,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        # dask's own values give each freed array back to the system at once: for arrays of some
        # MB, zeroing pages anew then costs more than the work on them (measured: 2.5 times).
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 256 << 20,
        "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 << 20,
        "distributed.admin.log-format": "%(levelname)s %(name)s: %(message)s",
    }
    with dask.config.set(settings), _lost_connections():
        if isinstance(options, AddressOptions):
            with _connect(options) as client:
                client.register_plugin(WorkerManners(embedded=False))
                yield client
            return
        workers, memory = options.resolved()
        if memory < WORKER_BASE:
            raise ResourceError(
                f"cluster.memory_limit leaves a worker {format_bytes(memory)}, and it takes "
                f"{format_bytes(WORKER_BASE)} before any work. Raise it, or take fewer workers."
            )
        with (
            _quiet_about_ports(),
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory,
                host="127.0.0.1",
                dashboard_address=options.dashboard,
                silence_logs=50,
            ) as cluster,
            Client(cluster) as client,
        ):
            client.register_plugin(WorkerManners(embedded=True))
            yield client


@contextmanager
def _lost_connections() -> Iterator[None]:
    """A connection that breaks is an error about the cluster, not about a file."""
    try:
        yield
    except CommClosedError as error:
        raise ResourceError(
            f"The connection to the scheduler or a worker broke ({error}). Finished items are "
            "kept: see that the cluster is up, and run the same command again."
        ) from error


@contextmanager
def _quiet_about_ports() -> Iterator[None]:
    """No warning that the dashboard took another port: its link is printed anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        yield


@contextmanager
def _connect(options: AddressOptions) -> Iterator[Client]:
    try:
        client = Client(options.address, timeout=options.timeout_s)
    except ValueError as error:
        raise ConfigError(
            f"{options.address} is no address of a dask scheduler ({error}). Give one such as "
            "tcp://host:8786."
        ) from error
    except OSError as error:
        raise ResourceError(
            f"No dask scheduler answers at {options.address} within {options.timeout_s:g} s "
            f"({error}). Check the address, or leave --cluster away to use this machine."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=options.timeout_s)
        except TimeoutError as error:
            raise ResourceError(
                f"The scheduler at {options.address} has no worker after {options.timeout_s:g} s. "
                "Start workers (dask worker ADDRESS) and run the same command again."
            ) from error
        yield client


def gpu_wanted(client: Client, device: str) -> dict[str, float]:
    """The resources that tasks for `device` (auto, cpu, cuda) must ask workers for.

    ``{"GPU": 1}`` where a worker offers it (``dask worker --resources GPU=1``) and `device`
    is not ``cpu``; nothing otherwise, so that no task waits for a worker that never comes.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    offered = any(worker["resources"].get("GPU", 0) >= 1 for worker in workers)
    return {"GPU": 1} if offered and device != "cpu" else {}


def peak_rss_bytes() -> int:
    """Largest resident memory this process has had so far, in bytes."""
    try:
        # VmHWM, not getrusage: the latter inherits the peak of the process that started us.
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def cluster_peak_rss(client: Client) -> dict[str, int]:
    """Peak resident bytes of the client and of every worker process there is."""
    peaks = {"client": peak_rss_bytes()}
    found = client.run(peak_rss_bytes, on_error="ignore")
    for number, address in enumerate(sorted(found)):
        peaks[f"worker {number}"] = int(found[address])
    return peaks
