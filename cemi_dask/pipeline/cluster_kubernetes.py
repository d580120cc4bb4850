"""Workers in pods that the dask operator starts in a Kubernetes cluster."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from distributed import Client

from cemi_dask.errors import ResourceError
from cemi_dask.pipeline.cluster_options import KubernetesOptions, PodGroup


def worker_spec(
    library: Any, options: KubernetesOptions, group: PodGroup, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The `worker` part of a DaskCluster or DaskWorkerGroup.

    `group` is `options` itself or its `gpu`, whose workers offer the resource GPU; `library` is
    ``dask_kubernetes.operator.kubecluster.kubecluster``, which knows the resource's shape.
    """
    command = ["dask", "worker", "--nthreads", str(group.threads)]
    if group is not options:
        command += ["--resources", "GPU=1"]
    spec: dict[str, Any] = library.make_worker_spec(
        image=options.image,
        n_workers=group.workers,
        resources=group.resources,
        env={**environment, **options.env},
        worker_command=command,
    )
    pod = spec["spec"]
    pod["containers"][0] = merged(pod["containers"][0], group.container)
    spec["spec"] = merged(pod, group.pod)
    return spec


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """`first` with the keys of `second`: mappings are merged, all else is replaced."""
    both = dict(first)
    for key, value in second.items():
        before = both.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        both[key] = value
    return both


def cluster_spec(
    library: Any, options: KubernetesOptions, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The DaskCluster: the scheduler, and the workers that offer no GPU."""
    spec: dict[str, Any] = library.make_cluster_spec(
        name=options.name, image=options.image, env=dict(options.env), n_workers=options.workers
    )
    spec["spec"]["worker"] = worker_spec(library, options, options, environment)
    return spec


@contextmanager
def open_pods(
    options: KubernetesOptions, library: ModuleType, environment: dict[str, str]
) -> Iterator[Client]:
    """A client whose workers live in pods; the DaskCluster and its groups end with it.

    Raises ResourceError where the operator does not answer, or no pod is up in time.
    """
    operator = importlib.import_module(f"{library.__name__}.operator.kubecluster.kubecluster")
    try:
        cluster = operator.KubeCluster(
            namespace=options.namespace,
            custom_cluster_spec=cluster_spec(operator, options, environment),
            resource_timeout=options.timeout_s,
            quiet=True,
        )
    except Exception as error:  # of httpx, kr8s, ssl, ...: whatever keeps the API from answering
        told = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ResourceError(
            f"Kubernetes did not start the cluster {options.name!r}: {told}. See that kubectl "
            "reaches it, and that the dask operator is installed."
        ) from error
    with cluster, Client(cluster) as client:
        if options.gpu is not None:
            spec = worker_spec(operator, options, options.gpu, environment)
            cluster.add_worker_group("gpu", custom_spec=spec)
        try:
            client.wait_for_workers(1, timeout=options.timeout_s)
        except TimeoutError as error:
            raise ResourceError(
                f"No pod of {options.name!r} has brought a worker within {options.timeout_s:g} s "
                f"(cluster.timeout_s). Ask: kubectl describe pods -l dask.org/cluster-name="
                f"{options.name}"
            ) from error
        yield client
