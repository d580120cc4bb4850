"""The kinds of cluster: what is asked of batch systems and Kubernetes, and TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import trustme
from dask_kubernetes.operator.kubecluster import kubecluster
from distributed import Client, Scheduler, SpecCluster, Worker

from cemi_dask.errors import ConfigError, MissingExtraError, ResourceError
from cemi_dask.pipeline import cluster as cluster_module
from cemi_dask.pipeline import parse_config, run
from cemi_dask.pipeline.cluster import open_client, worker_environment
from cemi_dask.pipeline.cluster_jobs import CLASSES, Group, groups_of
from cemi_dask.pipeline.cluster_kubernetes import cluster_spec, open_pods, worker_spec
from cemi_dask.pipeline.cluster_options import (
    AddressOptions,
    JobOptions,
    KubernetesOptions,
    LocalOptions,
    parse_cluster,
)
from cemi_dask.pipeline.placement import check_placement
from tests.pipeline.conftest import contents, write_config

# ---------------------------------------------------------------- which cluster


def test_the_command_line_keeps_the_options_of_its_kind() -> None:
    configured = JobOptions(kind="slurm", queue="long")
    assert parse_cluster("slurm", configured) is configured
    assert parse_cluster("pbs", configured) == JobOptions(kind="pbs")
    assert parse_cluster("local", configured) == LocalOptions()
    assert isinstance(parse_cluster("kubernetes", configured), KubernetesOptions)
    address = AddressOptions(kind="address", address="tls://a:1", timeout_s=3)
    assert parse_cluster("tls://b:2", address) == address.model_copy(
        update={"address": "tls://b:2"}
    )


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ({"kind": "slurm", "workers": 2, "minimum": 3}, "minimum 3 is more than workers"),
        ({"kind": "slurm", "memory": "much"}, "is no amount of memory"),
        ({"kind": "slurm", "gpu": {"cores": 1, "processes": 2}}, "processes 2 are more"),
        ({"kind": "kubernetes", "name": "Not_A_Name"}, "cluster.*name"),
        ({"kind": "slurm", "partition": "x"}, "partition"),
    ],
)
def test_wrong_options_are_refused(cluster: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config({"input": {"paths": ["x"]}, "cluster": cluster})


def test_gpus_that_the_config_rules_out_are_refused_at_once() -> None:
    class Denoiser:
        device = "auto"

    for options, key in (
        (LocalOptions(use_gpu="always"), "gpu_workers"),
        (JobOptions(kind="slurm", use_gpu="always"), "gpu"),
    ):
        with pytest.raises(ConfigError, match=rf"Set cluster\.{key}, or"):
            check_placement(options, Denoiser())
    both = LocalOptions(use_gpu="always", gpu_workers=1)
    check_placement(both, Denoiser())
    Denoiser.device = "cpu"
    with pytest.raises(ConfigError, match=r"denoise\.device is 'cpu'"):
        check_placement(both, Denoiser())


def test_a_library_that_is_absent_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cluster_module.importlib, "import_module", absent)
    for kind, extra in (("pbs", "slurm"), ("kubernetes", "kubernetes")):
        with (
            pytest.raises(MissingExtraError, match=rf"cemi-dask\[{extra}\]"),
            open_client(parse_cluster(kind)),
        ):
            pass


# ---------------------------------------------------------------- batch systems


def job_script(kind: str, group: str, **options: Any) -> str:
    """The script of one job of that group, as the batch system would get it."""
    import dask_jobqueue

    asked = JobOptions.model_validate({"kind": kind, "memory": "2 GB", **options})

    class Stub:  # what `groups_of` asks of a cluster, without a scheduler
        job_cls = getattr(dask_jobqueue, CLASSES[kind]).job_cls
        _job_kwargs: ClassVar[dict[str, Any]] = {"interface": asked.interface}

    groups = {g.name: g for g in groups_of(asked, Stub(), worker_environment())}
    job = Stub.job_cls("tls://10.0.0.1:8786", name="cpu-0", **groups[group].spec["options"])
    return str(job.job_script())


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("slurm", ["#SBATCH -p long", "#SBATCH -A ingots", "#SBATCH --cpus-per-task=4"]),
        ("pbs", ["#PBS -q long", "#PBS -A ingots", "#PBS -l select=1:ncpus=4"]),
        ("sge", ["#$ -q long", "#$ -P ingots"]),
        ("lsf", ["#BSUB -q long", '#BSUB -P "ingots"', "#BSUB -n 4"]),
    ],
)
def test_every_batch_system_is_told_the_same(
    kind: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "lsf":  # asks the batch system itself for its unit of memory
        monkeypatch.setattr("dask_jobqueue.lsf.lsf_detect_units", lambda: "mb")
    script = job_script(
        kind,
        "cpu",
        queue="long",
        account="ingots",
        cores=4,
        processes=2,
        prologue=["module load python"],
        log_directory=str(tmp_path),
        local_directory="/scratch",
    )
    for line in [*lines, "module load python"]:
        assert line in script
    command = script.splitlines()[-1]
    for part in ("tls://10.0.0.1:8786", "--nworkers 2", "--nthreads 2", "/scratch"):
        assert part in command
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False" in script
    assert "GPU" not in script


def test_jobs_for_gpus_hold_one_worker_that_offers_one(tmp_path: Path) -> None:
    script = job_script(
        "slurm",
        "gpu",
        queue="cpu",
        log_directory=str(tmp_path),
        gpu={"queue": "gpu", "cores": 8, "job_extra_directives": ["--gres=gpu:1"]},
    )
    assert "#SBATCH -p gpu\n" in script
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "#SBATCH --cpus-per-task=8\n" in script
    assert "--resources GPU=1 --nthreads 1" in script.splitlines()[-1]
    assert "--nworkers" not in script


def test_jobs_follow_the_work_between_their_limits() -> None:
    asked = JobOptions(kind="slurm", workers=5, minimum=1, cores=2)
    group = Group("cpu", False, asked, {})
    counts = []
    for waiting, now in ((0, 0.0), (3, 1.0), (99, 2.0), (1, 3.0), (0, 50.0), (0, 64.0)):
        group.recount(waiting, now)
        counts.append(group.count)
    assert counts == [1, 2, 5, 5, 5, 1]
    kept = Group("cpu", False, JobOptions(kind="slurm", workers=3), {})
    kept.recount(0, 0.0)
    assert list(kept.specs()) == ["cpu-0", "cpu-1", "cpu-2"]


# ---------------------------------------------------------------- Kubernetes

PODS = KubernetesOptions(
    kind="kubernetes",
    image="registry/cemi:1",
    workers=3,
    threads=2,
    resources={"limits": {"memory": "4Gi"}},
    env={"A": "b"},
    pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "ingots"}}]},
    container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
    gpu={
        "workers": 1,
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "pod": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "gpu"}]},
    },
)


def test_pods_are_what_the_config_says() -> None:
    spec = cluster_spec(kubecluster, PODS, {"M": "n"})
    assert spec["kind"] == "DaskCluster"
    assert spec["metadata"]["name"] == "cemi"
    worker = spec["spec"]["worker"]
    pod = worker["spec"]
    container = pod["containers"][0]
    assert worker["replicas"] == 3
    assert container["image"] == "registry/cemi:1"
    assert container["args"][:4] == ["dask", "worker", "--nthreads", "2"]
    assert "--resources" not in container["args"]
    assert {"name": "A", "value": "b"} in container["env"]
    assert {"name": "M", "value": "n"} in container["env"]
    assert container["resources"] == {"limits": {"memory": "4Gi"}}
    assert container["volumeMounts"][0]["mountPath"] == "/data"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "ingots"}
    assert spec["spec"]["scheduler"]["spec"]["containers"][0]["image"] == "registry/cemi:1"


def test_pods_for_gpus_offer_one_and_go_where_they_are() -> None:
    assert PODS.gpu is not None
    spec = worker_spec(kubecluster, PODS, PODS.gpu, {})["spec"]
    container = spec["containers"][0]
    place = container["args"].index("--resources")
    assert container["args"][place + 1] == "GPU=1"
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert spec["nodeSelector"] == {"gpu": "yes"}
    assert "volumes" not in spec


def test_a_kubernetes_cluster_is_opened_with_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Pods(SpecCluster):
        def __init__(self, **given: Any) -> None:
            asked.update(given)
            here = {"host": "127.0.0.1", "dashboard_address": ":0"}
            super().__init__({"pod": {"cls": Worker}}, {"cls": Scheduler, "options": here})

        def add_worker_group(self, name: str, **given: Any) -> None:
            asked[name] = given["custom_spec"]

    monkeypatch.setattr(kubecluster, "KubeCluster", Pods)
    with open_client(PODS) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert asked["custom_cluster_spec"] == cluster_spec(kubecluster, PODS, worker_environment())
    assert asked["gpu"]["replicas"] == 1
    assert asked["resource_timeout"] == PODS.timeout_s


def test_a_kubernetes_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask_kubernetes

    def refuse(**_: Any) -> None:
        raise TimeoutError("Dask Cluster resource not actioned after 600 seconds")

    monkeypatch.setattr(kubecluster, "KubeCluster", refuse)
    with (
        pytest.raises(ResourceError, match=r"'cemi': Dask Cluster resource not actioned"),
        open_pods(PODS, dask_kubernetes, {}),
    ):
        pass


# ---------------------------------------------------------------- an address, with TLS


def certificates(folder: Path) -> dict[str, str]:
    """An authority of its own and a certificate of it: {ca_file, cert, key}."""
    folder.mkdir()
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    paths = {name: folder / f"{name}.pem" for name in ("ca_file", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca_file"])
    issued.private_key_pem.write_to_path(paths["key"])
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(paths["cert"], append=number > 0)
    return {name: str(path) for name, path in paths.items()}


@contextmanager
def running(folder: Path, mine: dict[str, str]) -> Iterator[str]:
    """The address of a scheduler with a worker that speak TLS alone."""
    file = folder / "scheduler.json"
    flags = {"--tls-ca-file": "ca_file", "--tls-cert": "cert", "--tls-key": "key"}
    tls = [part for flag, name in flags.items() for part in (flag, mine[name])]
    common = ["--host", "tls://127.0.0.1", "--no-dashboard", "--scheduler-file", str(file), *tls]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command, *common],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        for command in (
            ["scheduler", "--port", "0", "--protocol", "tls"],
            ["worker", "--nworkers", "1", "--nthreads", "2", "--no-nanny"],
        )
    ]
    try:
        options = AddressOptions(kind="address", address="tls://x:1", security=mine).security
        assert options is not None
        with Client(scheduler_file=str(file), timeout=60, security=options.made()) as client:
            client.wait_for_workers(1, timeout=60)
            address = str(client.scheduler.address)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def test_a_run_speaks_tls_and_strangers_are_refused(ingot: Path, tmp_path: Path) -> None:
    mine = certificates(tmp_path / "mine")
    strange = certificates(tmp_path / "strange")
    with running(tmp_path, mine) as address:
        assert address.startswith("tls://127.0.0.1")
        cluster = {"kind": "address", "address": address, "security": mine, "timeout_s": 30}
        # The command line's address takes the config's certificates.
        config = write_config(ingot, cluster={**cluster, "address": "tls://127.0.0.1:1"})
        result = run(config, out=tmp_path / "run", cluster=address, until="frames")
        plain = run(ingot, out=tmp_path / "plain", until="frames")
        assert contents(result.tables) == contents(plain.tables)
        # Another authority's certificate, none, and no encryption.
        other = {**cluster, "security": strange, "timeout_s": 2}
        with (
            pytest.raises(ResourceError, match="No dask scheduler answers"),
            open_client(AddressOptions.model_validate(other)),
        ):
            pass
        with (
            pytest.raises(ConfigError, match="asks for a certificate"),
            open_client(AddressOptions(kind="address", address=address)),
        ):
            pass
        unencrypted = address.replace("tls://", "tcp://")
        with (
            pytest.raises(ResourceError, match="No dask scheduler answers"),
            open_client(AddressOptions(kind="address", address=unencrypted, timeout_s=2)),
        ):
            pass
        # The scheduler has taken in nobody but the run's own client.
        security = AddressOptions.model_validate(cluster).security
        assert security is not None
        with Client(address, security=security.made()) as client:
            clients = client.run_on_scheduler(told_clients)
        assert len([name for name in clients if name.startswith("Client")]) == 1


def told_clients(dask_scheduler: Scheduler) -> list[str]:
    return list(dask_scheduler.clients)


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    mine = certificates(tmp_path / "mine") | {"key": str(tmp_path / "gone.pem")}
    given = {"kind": "address", "address": "tls://127.0.0.1:1", "security": mine}
    with (
        pytest.raises(ConfigError, match=r"cluster\.security\.key: .*gone\.pem cannot be read"),
        open_client(AddressOptions.model_validate(given)),
    ):
        pass
