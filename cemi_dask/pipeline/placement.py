"""Which workers an item may run on: those that offer a GPU, those that do not, or any."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from cemi_dask.errors import ConfigError, ResourceError
from cemi_dask.pipeline.cluster_options import AddressOptions, AnyCluster, LocalOptions

# Age at which the list of workers is asked for again.
FRESH_S = 1.0
GPU: dict[str, float] = {"GPU": 1}


@dataclass
class Placement:
    """The workers of a cluster in two groups, and how long to wait for one of either.

    Where there are workers with and without a GPU, what needs none stays off the former: they
    are few, and what does need one would wait. Threads may share a `Placement`.
    """

    client: Client
    cluster: AnyCluster
    _workers: Mapping[str, Any] = field(default_factory=dict, init=False)
    _asked: float = field(default=-1e9, init=False)
    _seen_plain: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._seen_plain = not isinstance(self.cluster, AddressOptions)

    def workers(self, *, gpu: bool) -> dict[str, int]:
        """Address and number of threads of each worker that may be given such an item."""
        self._refresh()
        offering = {address for address, worker in self._workers.items() if offers_gpu(worker)}
        if gpu:
            fitting = offering
        elif self._seen_plain:
            fitting = set(self._workers) - offering
        else:  # a running cluster of GPU workers alone: nobody else will come
            fitting = set(self._workers)
        return {address: self._workers[address]["nthreads"] for address in sorted(fitting)}

    def restriction(self, *, gpu: bool) -> dict[str, Any]:
        """Arguments of `Client.submit` that send an item to the workers it may run on."""
        if gpu:
            return {"resources": GPU}
        fitting = self.workers(gpu=False)
        if len(fitting) == len(self._workers) or not fitting:
            return {}
        return {"workers": list(fitting), "allow_other_workers": False}

    def wants_gpu(self, device: str | None, *, stage: str) -> bool:
        """Whether work for `device` (auto, cpu, cuda; None: it is no network's) goes to GPUs."""
        choice = self.cluster.use_gpu
        if choice == "never":
            return False
        if choice == "always":
            return device is not None or stage == "denoise"
        able = device not in (None, "cpu")
        return able and (gpu_coming(self.cluster) or bool(self.workers(gpu=True)))

    def no_worker(self, *, gpu: bool) -> ResourceError:
        """The error for an item that nobody has come for."""
        waited = f"{self.cluster.timeout_s:g} s (cluster.timeout_s)"
        if gpu:
            return ResourceError(
                f"No worker offers the resource GPU after {waited}. Start one (dask worker ADDRESS "
                "--resources GPU=1), or set cluster.use_gpu: never to work on CPUs."
            )
        return ResourceError(
            f"No worker is left, and none has come for {waited}. Start workers again."
        )

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._asked < FRESH_S:
                return
            self._workers = dict(self.client.scheduler_info(n_workers=-1)["workers"])
            self._asked = time.monotonic()
            if any(not offers_gpu(worker) for worker in self._workers.values()):
                self._seen_plain = True


def offers_gpu(worker: Mapping[str, Any]) -> bool:
    """Whether a worker, as the scheduler describes it, offers a GPU."""
    return bool(worker["resources"].get("GPU", 0) >= 1)


def gpu_coming(cluster: AnyCluster) -> bool:
    """Whether the config itself starts workers that offer a GPU."""
    if isinstance(cluster, LocalOptions):
        return cluster.gpu_workers > 0
    return not isinstance(cluster, AddressOptions) and cluster.gpu is not None


def check_placement(cluster: AnyCluster, denoiser: Any) -> None:
    """Raise ConfigError where GPUs are asked for, and the config says that none will come."""
    if cluster.use_gpu != "always" or denoiser is None:
        return
    if getattr(denoiser, "device", None) == "cpu":
        raise ConfigError(
            "denoise.device is 'cpu' and cluster.use_gpu is 'always'. Take denoise.device: auto, "
            "or cluster.use_gpu: auto."
        )
    if not (isinstance(cluster, AddressOptions) or gpu_coming(cluster)):
        key = "gpu_workers" if isinstance(cluster, LocalOptions) else "gpu"
        raise ConfigError(
            f"cluster.use_gpu is 'always' and the cluster starts no worker that offers one. Set "
            f"cluster.{key}, or cluster.use_gpu: auto."
        )
