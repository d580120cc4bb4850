"""Where the work is done: `open_client` for every kind of the section `cluster`."""

from __future__ import annotations

import importlib
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import dask
import psutil
from dask.utils import format_bytes
from distributed import Client, LocalCluster, Nanny, WorkerPlugin
from distributed.comm.core import CommClosedError

from cemi_dask.errors import ConfigError, MissingExtraError, ResourceError
from cemi_dask.pipeline.cluster_options import (
    AddressOptions,
    AnyCluster,
    JobOptions,
    LocalOptions,
)
from cemi_dask.pipeline.monitor.plugin import CemiMonitor

# Resident bytes of a worker that has imported everything and done nothing (measured).
WORKER_BASE = 300 << 20

# Of workers that this process starts, here or elsewhere.
WORKER_SETTINGS: dict[str, Any] = {
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    # dask's own values give each freed array back to the system at once: for arrays of some
    # MB, zeroing pages anew then costs more than the work on them (measured: 2.5 times).
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 256 << 20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 << 20,
    # The profile on the dashboard, from samples of every 10 ms, takes 3 % of the workers' time.
    "distributed.worker.profile.interval": "50ms",
}


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


def worker_environment() -> dict[str, str]:
    """`WORKER_SETTINGS` as the environment variables that dask reads, for other machines."""
    return {
        "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
        for name, value in WORKER_SETTINGS.items()
    }


@contextmanager
def open_client(options: AnyCluster) -> Iterator[Client]:
    """A connected client with at least one worker; what was started for it ends with it.

    Raises ResourceError when the scheduler does not answer or offers no worker in time,
    MissingExtraError where the library for that kind of cluster is not installed.
    """
    settings = {
        **WORKER_SETTINGS,
        "distributed.scheduler.worker-saturation": 1.5,
        "distributed.admin.log-format": "%(levelname)s %(name)s: %(message)s",
    }
    if isinstance(options, LocalOptions | JobOptions):
        settings["distributed.scheduler.worker-ttl"] = f"{options.lost_after_s}s"
    with (
        _same_scheduler_after(),
        dask.config.set(settings),
        _lost_connections(),
        _opened(options) as client,
    ):
        client.register_plugin(WorkerManners(embedded=isinstance(options, LocalOptions)))
        _watch(client)
        yield client


def _watch(client: Client) -> None:
    """Add the page /cemi and the metrics of runs to the scheduler; without them work goes on."""
    try:
        client.register_plugin(CemiMonitor())
    except (ImportError, AttributeError, TypeError) as error:
        warnings.warn(
            f"The scheduler does not take the page /cemi ({error}): install the same cemi_dask "
            "there.",
            stacklevel=2,
        )


def _opened(options: AnyCluster) -> Any:
    """The context of a client of that kind of cluster; libraries are imported when needed."""
    if isinstance(options, LocalOptions):
        return _local(options)
    if isinstance(options, AddressOptions):
        return _connect(options)
    if isinstance(options, JobOptions):
        from cemi_dask.pipeline.cluster_jobs import open_jobs

        return open_jobs(options, needed("dask_jobqueue", options.kind), worker_environment())
    from cemi_dask.pipeline.cluster_kubernetes import open_pods

    return open_pods(options, needed("dask_kubernetes", options.kind), worker_environment())


def needed(module: str, kind: str) -> ModuleType:
    """The library for that kind of cluster; MissingExtraError names the extra that brings it."""
    extra = "kubernetes" if kind == "kubernetes" else "slurm"
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"cluster.kind {kind!r} needs {module}, which is not installed ({error}). Install it: "
            f"pip install 'cemi-dask[{extra}]'"
        ) from error


@contextmanager
def _local(options: LocalOptions) -> Iterator[Client]:
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
        for device in range(options.gpu_workers):
            given = {
                **cluster.new_worker_spec()[workers]["options"],
                "resources": {"GPU": 1},
                "env": {"CUDA_VISIBLE_DEVICES": str(device)},
            }
            cluster.worker_spec[f"gpu-{device}"] = {"cls": Nanny, "options": given}
        cluster.sync(cluster._correct_state)
        yield client


@contextmanager
def _same_scheduler_after() -> Iterator[None]:
    """dask's default scheduler as it was before: a client that is cut off may leave its own."""
    before = dask.config.get("scheduler", None)
    try:
        yield
    finally:
        if dask.config.get("scheduler", None) != before:
            dask.config.set(scheduler=before)


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
    security = options.security.made() if options.security is not None else None
    known = security is not None or dask.config.get("distributed.comm.tls.client.cert")
    if options.address.startswith("tls://") and not known:
        raise ConfigError(
            f"{options.address} asks for a certificate. Name it in the config, in cluster.security "
            "(ca_file, cert, key)."
        )
    try:
        client = Client(options.address, timeout=options.timeout_s, security=security)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{options.address} is no address of a dask scheduler ({error}). Give one such as "
            "tcp://host:8786, or tls://host:8786 with cluster.security."
        ) from error
    except OSError as error:
        raise ResourceError(
            f"No dask scheduler answers at {options.address} within {options.timeout_s:g} s "
            f"({error}). Check the address and cluster.security, or leave --cluster away to use "
            "this machine."
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
