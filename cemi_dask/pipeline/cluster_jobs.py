"""Workers in jobs of a batch system: SLURM, PBS, SGE and LSF, through dask-jobqueue."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from distributed import Client, Scheduler
from tornado.ioloop import PeriodicCallback

from cemi_dask.errors import ResourceError
from cemi_dask.pipeline.cluster_options import JobGroup, JobOptions, SecurityOptions

CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
ACCOUNTS = {"slurm": "account", "pbs": "account", "sge": "project", "lsf": "project"}
LOOK_EVERY_S = 2.0  # for jobs that have ended, and for work that waits
IDLE_S = 60.0  # after which jobs beyond the minimum end
WAITING = {"processing", "queued", "no-worker"}  # states of tasks that are not done


def job_options(
    options: JobOptions, group: JobGroup, environment: dict[str, str]
) -> dict[str, Any]:
    """What dask-jobqueue's job of that `group` takes: one of `options` itself, and its `gpu`."""
    gpu = group is not options
    processes = 1 if gpu else group.processes or group.cores
    given: dict[str, Any] = {
        "cores": group.cores,
        "processes": processes,
        "memory": group.memory,
        "walltime": group.walltime,
        "queue": group.queue,
        ACCOUNTS[options.kind]: options.account,
        "job_extra_directives": list(group.job_extra_directives),
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in environment.items()),
            *group.prologue,
        ],
        "local_directory": options.local_directory,
        "log_directory": str(Path(options.log_directory).resolve()),
        "python": options.python,
        "job_name": f"cemi-{'gpu' if gpu else 'cpu'}",
        "worker_extra_args": [],
    }
    if gpu:
        # Some threads for one item: a network's own, or those that read and write.
        given["worker_extra_args"] = ["--resources", "GPU=1", "--nthreads", "1"]
    return given


@dataclass
class Group:
    """The jobs of one kind: how many, and since when they have had nothing to do."""

    name: str
    gpu: bool
    asked: JobGroup
    spec: dict[str, Any]
    count: int = 0
    busy: float = field(default_factory=time.monotonic)

    @property
    def minimum(self) -> int:
        """Jobs that are kept whether there is work or not."""
        return self.asked.workers if self.asked.minimum is None else self.asked.minimum

    def recount(self, waiting: int, now: float) -> None:
        """Set the number of jobs for `waiting` items, each of which takes a thread."""
        self.count = max(self.count, self.minimum)
        if waiting:
            self.busy = now
            threads = 1 if self.gpu else self.asked.cores
            self.count = min(self.asked.workers, max(self.count, math.ceil(waiting / threads)))
        elif now - self.busy > IDLE_S:
            self.count = self.minimum

    def specs(self) -> dict[str, Any]:
        """The jobs by name, as `SpecCluster` takes them."""
        return {f"{self.name}-{number}": self.spec for number in range(self.count)}


def waiting_items(scheduler: Scheduler) -> tuple[int, int]:
    """Tasks that wait or run: (those for workers without a GPU, those that need one)."""
    plain = gpu = 0
    for task in scheduler.tasks.values():
        if task.state in WAITING:
            needs = bool(task.resource_restrictions and "GPU" in task.resource_restrictions)
            gpu += needs
            plain += not needs
    return plain, gpu


def groups_of(options: JobOptions, cluster: Any, environment: dict[str, str]) -> list[Group]:
    """The groups that the config asks for, with what `cluster` adds: certificates, interface."""
    groups = []
    for name, asked in (("cpu", options), ("gpu", options.gpu)):
        if asked is None:
            continue
        given = {**cluster._job_kwargs, **job_options(options, asked, environment)}
        spec: dict[str, Any] = {"cls": cluster.job_cls, "options": given}
        if given["processes"] > 1:
            spec["group"] = [f"-{number}" for number in range(given["processes"])]
        groups.append(Group(name, asked is options.gpu, asked, spec))
    return groups


def keeper(cluster: Any, groups: list[Group]) -> Callable[[], Any]:
    """What is to be called now and then: starts jobs for work that waits and for jobs lost."""

    async def keep() -> None:
        plain, gpu = waiting_items(cluster.scheduler)
        for group in groups:
            group.recount(gpu if group.gpu else plain, time.monotonic())
        cluster.worker_spec = {k: v for group in groups for k, v in group.specs().items()}
        await cluster._correct_state()

    return keep


@contextmanager
def open_jobs(
    options: JobOptions, library: ModuleType, environment: dict[str, str]
) -> Iterator[Client]:
    """A client whose workers live in jobs; the jobs end with it.

    A job whose worker was lost is asked for again. Raises ResourceError where the batch system
    refuses a job, or where none has started within `timeout_s`.
    """
    logs = Path(options.log_directory).resolve()
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    security: Any = options.security
    if isinstance(security, SecurityOptions):
        security = security.made()
    cluster = getattr(library, CLASSES[options.kind])(
        **job_options(options, options, environment),
        interface=options.interface,
        security=True if security == "temporary" else security,
        shared_temp_directory=str(logs),
        scheduler_options={
            "dashboard": options.dashboard is not None,
            "dashboard_address": options.dashboard or "127.0.0.1:0",
        },
        death_timeout=60,
    )
    with cluster, Client(cluster) as client:
        keep = keeper(cluster, groups_of(options, cluster, environment))
        try:
            cluster.sync(keep)
        except (RuntimeError, OSError) as error:
            # Closing asserts that each of these has ended, and the one refused has not begun.
            cluster._created.clear()
            told = " ".join(str(error).rpartition("stderr:")[2].split()).rstrip(".")
            raise ResourceError(
                f"The batch system ({options.kind}) refused a job: {told}. Correct `cluster` in "
                "the config, or run where its commands work."
            ) from error
        again = PeriodicCallback(keep, LOOK_EVERY_S * 1000)
        cluster.loop.add_callback(again.start)
        try:
            _await_first(client, options, logs)
            yield client
        finally:
            cluster.loop.add_callback(again.stop)


def _await_first(client: Client, options: JobOptions, logs: Path) -> None:
    if options.minimum == 0:
        return
    try:
        client.wait_for_workers(1, timeout=options.timeout_s)
    except TimeoutError as error:
        raise ResourceError(
            f"No job of {options.kind} has brought a worker within {options.timeout_s:g} s "
            f"(cluster.timeout_s). See the queue, and the jobs' logs in {logs}."
        ) from error
