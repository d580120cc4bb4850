"""Options of the section `cluster`: where the work is done, and which workers there are."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self, get_args

import psutil
from dask.utils import parse_bytes
from distributed import Security
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from cemi_dask.errors import ConfigError


def _readable(value: str | None) -> str | None:
    if value is not None:
        try:
            parse_bytes(value)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{value!r} is no amount of memory such as '2 GiB'") from error
    return value


Memory = Annotated[str, AfterValidator(_readable)]
BatchSystem = Literal["slurm", "pbs", "sge", "lsf"]
PLAIN_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecurityOptions(_Options):
    """TLS between client, scheduler and workers; all paths must be readable on every machine."""

    ca_file: str = Field(description="PEM file of the authority that has signed the certificates")
    cert: str = Field(description="PEM file with this side's certificate")
    key: str = Field(description="PEM file with the key of `cert`")

    def made(self) -> Security:
        """What distributed takes: nothing unencrypted, the same certificate for every role.

        Raises ConfigError for a file that cannot be read.
        """
        for name, path in self:
            if not os.access(path, os.R_OK):
                raise ConfigError(f"cluster.security.{name}: {path} cannot be read. Correct it.")
        roles = {f"tls_{role}_cert": self.cert for role in ("client", "scheduler", "worker")}
        keys = {f"tls_{role}_key": self.key for role in ("client", "scheduler", "worker")}
        return Security(tls_ca_file=self.ca_file, require_encryption=True, **roles, **keys)


class _Cluster(_Options):
    """What holds wherever the work is done."""

    use_gpu: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="auto: networks and training go to workers that offer the resource GPU, where "
        "there are such; always: these and all denoising go there and nowhere else; never: all "
        "work goes to the others",
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="how long to wait for a worker: the first one, one that offers the GPU that "
        "use_gpu asks for, or a new one where all are lost",
    )


class LocalOptions(_Cluster):
    """An embedded cluster on this machine, sized to it unless told."""

    kind: Literal["local"] = "local"
    workers: int | None = Field(default=None, ge=1, description="processes; default: one per core")
    gpu_workers: int = Field(
        default=0,
        ge=0,
        description="processes beside them that offer the resource GPU, one per device",
    )
    memory_limit: Memory | None = Field(
        default=None,
        description="per worker, such as '2 GiB'; default: a fair share of 80 % of the memory",
    )
    dashboard: str | None = Field(
        default="127.0.0.1:8787",
        description="address of the dashboard (a free port if taken); null: none",
    )
    lost_after_s: float = Field(
        default=300.0, gt=0, description="a worker that is silent for so long is given up"
    )

    def resolved(self) -> tuple[int, int]:
        """(number of workers without a GPU, bytes of memory for each worker)."""
        workers = self.workers or available_cores()
        if self.memory_limit:
            return workers, int(parse_bytes(self.memory_limit))
        everyone = workers + self.gpu_workers
        return workers, int(0.8 * psutil.virtual_memory().total / everyone)


class AddressOptions(_Cluster):
    """A dask scheduler that is running already."""

    kind: Literal["address"]
    address: str = Field(description="such as tcp://host:8786, or tls://host:8786 with security")
    security: SecurityOptions | None = None


class JobGroup(_Options):
    """Jobs of a batch system, each of which holds one or more workers."""

    workers: int = Field(default=1, ge=1, description="jobs at most")
    minimum: int | None = Field(
        default=None,
        ge=0,
        description="jobs at least: the others come with the work and end when they are idle; "
        "default: all are kept",
    )
    cores: int = Field(default=1, ge=1, description="of a job")
    processes: int | None = Field(
        default=None, ge=1, description="workers in a job; default: one per core"
    )
    memory: Memory = Field(default="4 GB", description="of a job")
    walltime: str = Field(default="04:00:00", description="of a job, as the batch system writes it")
    queue: str | None = Field(default=None, description="queue, or SLURM's partition")
    job_extra_directives: tuple[str, ...] = Field(
        default=(), description="more options for the batch system, such as --gres=gpu:1"
    )
    prologue: tuple[str, ...] = Field(
        default=(), description="shell lines before the worker starts, such as module load cuda"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.minimum is not None and self.minimum > self.workers:
            raise ValueError(f"minimum {self.minimum} is more than workers ({self.workers})")
        if self.processes is not None and self.processes > self.cores:
            raise ValueError(f"processes {self.processes} are more than cores ({self.cores})")
        return self


class JobOptions(_Cluster, JobGroup):
    """Jobs of a batch system hold the workers; the scheduler lives in this process."""

    kind: BatchSystem
    gpu: JobGroup | None = Field(
        default=None, description="jobs whose workers offer the resource GPU, one worker a job"
    )
    account: str | None = Field(default=None, description="account or project to charge")
    interface: str | None = Field(
        default=None, description="network interface that all machines share, such as ib0"
    )
    local_directory: str | None = Field(
        default=None, description="scratch of the workers, best on a local disk"
    )
    log_directory: str = Field(
        default="cemi-jobs",
        description="logs of the jobs, and their certificates; on a disk that all machines share",
    )
    python: str | None = Field(
        default=None, description="Python on the workers' machines; default: this one"
    )
    security: SecurityOptions | Literal["temporary"] | None = Field(
        default="temporary",
        description="temporary: TLS with certificates made for this run; null: no encryption, and "
        "whoever reaches the scheduler may run code as you",
    )
    dashboard: str | None = Field(
        default="127.0.0.1:8787", description="address of the dashboard; null: none"
    )
    lost_after_s: float = Field(
        default=300.0, gt=0, description="a worker that is silent for so long is given up"
    )
    timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="how long to wait for a worker, the queue included; see use_gpu",
    )


class PodGroup(_Options):
    """Pods of Kubernetes, one worker in each."""

    workers: int = Field(default=2, ge=1, description="pods")
    threads: int = Field(default=1, ge=1, description="items that a worker does at once")
    resources: dict[str, dict[str, str]] = Field(
        default={},
        description="Kubernetes' requests and limits of a pod, such as {limits: {memory: 4Gi}}",
    )
    pod: dict[str, Any] = Field(
        default={},
        description="merged into the pod's spec: volumes, nodeSelector, tolerations, ...",
    )
    container: dict[str, Any] = Field(
        default={}, description="merged into its container: volumeMounts, securityContext, ..."
    )


class KubernetesOptions(_Cluster, PodGroup):
    """Pods that the dask operator starts in a Kubernetes cluster."""

    kind: Literal["kubernetes"]
    name: str = Field(
        default="cemi", pattern=PLAIN_NAME, max_length=50, description="of the DaskCluster"
    )
    namespace: str | None = Field(default=None, description="default: that of your kubeconfig")
    image: str = Field(
        default="cemi-dask:latest", description="with the same cemi_dask, for all pods"
    )
    env: dict[str, str] = Field(default={}, description="environment of all pods")
    gpu: PodGroup | None = Field(
        default=None, description="pods whose workers offer the resource GPU"
    )
    timeout_s: float = Field(
        default=600.0, gt=0, description="how long to wait for a pod, pulling its image included"
    )


AnyCluster = LocalOptions | AddressOptions | JobOptions | KubernetesOptions


def _kind_told(value: Any) -> Any:
    """Cluster options with their kind: an address says it, and so does its absence."""
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "address" if "address" in value else "local", **value}
    return value


ClusterOptions = Annotated[
    Annotated[AnyCluster, Field(discriminator="kind")],
    BeforeValidator(_kind_told),
]


def parse_cluster(text: str, configured: AnyCluster | None = None) -> AnyCluster:
    """Cluster options from the command line's kind, or a scheduler's address.

    The options of that kind which the config has are kept, those of security with an address.
    """
    if configured is not None and configured.kind == text:
        return configured
    if text == "local":
        return LocalOptions()
    if text in get_args(BatchSystem):
        return JobOptions.model_validate({"kind": text})
    if text == "kubernetes":
        return KubernetesOptions(kind="kubernetes")
    host, _, port = text.rpartition(":")
    if "://" in text or (host and port.isdigit()):
        if isinstance(configured, AddressOptions):
            return configured.model_copy(update={"address": text})
        return AddressOptions(kind="address", address=text)
    raise ConfigError(
        f"--cluster {text!r} is not known. Give local, slurm, pbs, sge, lsf, kubernetes, or a "
        "scheduler's address such as tcp://host:8786."
    )


def available_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
