"""The chart as Kubernetes would see it: valid in every variant, closed, and wired together."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.charts import VARIANTS, containers, examine, of_kind, pods

pytestmark = pytest.mark.helm
each_variant = pytest.mark.parametrize("name", VARIANTS)

Charts = dict[str, Any]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"wrokers": {}}, "wrokers"),
    ({"mode": "operators"}, "mode"),
    ({"image": {"repository": ""}}, "repository"),
    ({"image": {"repository": "cemi-dask:1"}}, "repository"),
    ({"workers": {"cpu": {"replicas": -1}}}, "replicas"),
    ({"workers": {"cpu": {"replicas": "4"}}}, "replicas"),
    ({"workers": {"gpu": {"gpus": 0}}}, "gpus"),
    ({"workers": {"cpu": {"resources": {"limits": {"cpu": 1}}}}}, "cpu"),
    ({"workers": {"cpu": {"resources": {"limits": {"memory": "4 GB"}}}}}, "memory"),
    ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
    ({"job": {"enabled": True}}, "input"),
    ({"job": {"enabled": True, "input": "a.csv", "out": "b", "command": "view"}}, "command"),
    ({"ingress": {"enabled": True}}, "host"),
    ({"storage": {"kind": "nfs"}}, "kind"),
    ({"storage": {"s3": {"endpointUrl": "minio:9000"}}}, "endpointUrl"),
    ({"tls": {"source": "vault"}}, "source"),
    ({"networkPolicy": {"storagePorts": [70000]}}, "storagePorts"),
    ({"daskConfig": {"PATH": "/tmp"}}, "daskConfig"),
    ({"podDisruptionBudget": {"workersMaxUnavailable": "half"}}, "workersMaxUnavailable"),
    # What single values cannot tell.
    ({"scheduler": {"serviceType": "LoadBalancer"}}, "tls.enabled"),
    ({"workers": {"cpu": {"enabled": False}}}, "enable cpu, gpu or both"),
    ({"tls": {"enabled": True, "source": "secret"}}, "tls.secretName"),
    (
        {"mode": "operator", "workers": {"gpu": {"autoscaling": {"enabled": True}}}},
        "workers.gpu.autoscaling",
    ),
    (
        {
            "mode": "operator",
            "tls": {"enabled": True},
            "workers": {"cpu": {"autoscaling": {"enabled": True}}},
        },
        "workers.cpu.autoscaling",
    ),
    (
        {
            "mode": "operator",
            "tls": {"enabled": True},
            "scheduler": {"serviceType": "NodePort"},
        },
        "scheduler.serviceType",
    ),
]


@each_variant
def test_lint_finds_nothing(charts: Charts, name: str) -> None:
    assert charts[name].get("error") is None
    assert charts[name]["lint"] == []


@each_variant
def test_every_manifest_keeps_the_schemas(charts: Charts, name: str) -> None:
    assert charts[name]["faults"] == []
    assert len(charts[name]["manifests"]) >= 8


def test_the_schemas_tell_wrong_manifests() -> None:
    wrong = {"workers": {"cpu": {"affinity": {"nodeAffinities": {}}}}}
    told = examine({"plain": wrong, "operator": {"mode": "operator", **wrong}})
    for name, kind in (("plain", "Deployment"), ("operator", "DaskWorkerGroup")):
        faults = told[name]["faults"]
        assert any(kind in fault and "nodeAffinities" in fault for fault in faults), name


@pytest.fixture(scope="module")
def refused() -> dict[str, Any]:
    """What is said to each of the wrong values."""
    return examine({str(number): values for number, (values, _) in enumerate(WRONG)})


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[words for _, words in WRONG])
def test_wrong_values_are_refused_by_name(refused: Charts, number: int) -> None:
    told = refused[str(number)]
    assert WRONG[number][1] in told["error"], told


@each_variant
def test_pods_may_do_next_to_nothing(charts: Charts, name: str) -> None:
    count = 0
    for where, _, spec in pods(charts[name]["manifests"]):
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, where
        assert pod["runAsUser"] > 0, where
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        for container in containers(spec):
            may = container["securityContext"]
            assert may["readOnlyRootFilesystem"] is True, where
            assert may["allowPrivilegeEscalation"] is False, where
            assert may["privileged"] is False, where
            assert may["runAsNonRoot"] is True, where
            assert may["capabilities"] == {"drop": ["ALL"]}, where
            for kind in ("requests", "limits"):
                asked = container["resources"][kind]
                assert {"cpu", "memory"} <= set(asked), where
                assert all(isinstance(amount, str) for amount in asked.values()), where
            count += 1
        assert all("hostPath" not in volume for volume in spec["volumes"]), where
    assert count >= 3


@each_variant
def test_a_read_only_root_has_where_to_write(charts: Charts, name: str) -> None:
    manifests = charts[name]["manifests"]
    (settings,) = [
        c["data"] for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"].endswith("dask")
    ]
    for key in ("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        assert settings[key].startswith("/scratch"), key
    for where, _, spec in pods(manifests):
        assert {v["name"] for v in spec["volumes"] if "emptyDir" in v} == {"scratch"}, where
        for container in containers(spec):
            mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
            assert mounts["scratch"] == "/scratch", where
            assert set(mounts) <= {volume["name"] for volume in spec["volumes"]}, where
            assert "configMapRef" in container["envFrom"][0], where


@each_variant
def test_dask_processes_tell_their_health(charts: Charts, name: str) -> None:
    found = 0
    for where, _, spec in pods(charts[name]["manifests"]):
        for container in spec["containers"]:
            if container["name"] not in ("scheduler", "worker"):
                continue
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe]["httpGet"]
                assert asked == {"path": "/health", "port": "http-dashboard"}, where
            given = container["args"][container["args"].index("--dashboard-address") + 1]
            assert given == f":{ports['http-dashboard']}", where
            found += 1
    assert found >= 2


@each_variant
def test_selectors_find_their_pods(charts: Charts, name: str) -> None:
    manifests = charts[name]["manifests"]
    there = [labels for _, labels, _ in pods(manifests)]

    def found(selector: dict[str, str]) -> int:
        return sum(selector.items() <= labels.items() for labels in there)

    everything = found({"app.kubernetes.io/instance": "demo"})
    assert everything == len(there)
    for service in of_kind(manifests, "Service"):
        assert found(service["spec"]["selector"]) == 1
    for deployment in of_kind(manifests, "Deployment"):
        assert found(deployment["spec"]["selector"]["matchLabels"]) == 1
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"]) >= 1
    policies = of_kind(manifests, "NetworkPolicy")
    assert found(policies[0]["spec"]["podSelector"]["matchLabels"]) == everything
    assert set(policies[0]["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        (target,) = [
            d
            for d in of_kind(manifests, "Deployment")
            if d["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"]
        ]
        assert "replicas" not in target["spec"]


@each_variant
def test_only_gpu_workers_ask_for_and_offer_a_gpu(charts: Charts, name: str) -> None:
    offered = 0
    for where, labels, spec in pods(charts[name]["manifests"]):
        gpu = labels.get("app.kubernetes.io/component") == "worker-gpu"
        for container in containers(spec):
            text = " ".join(container.get("args", []))
            assert ("--resources GPU=1" in text) == gpu, where
            assert ("nvidia.com/gpu" in container["resources"]["limits"]) == gpu, where
            assert container["image"].endswith("-cuda") == gpu, where
        if gpu:
            assert spec["tolerations"][0]["key"] == "nvidia.com/gpu", where
        offered += gpu
    assert bool(offered) == (VARIANTS[name].get("workers", {}).get("gpu", {}).get("enabled", False))


def test_groups_of_the_operator_are_scaled_one_by_one(charts: Charts) -> None:
    manifests = charts["operator"]["manifests"]
    (cluster,) = of_kind(manifests, "DaskCluster")
    groups = {g["metadata"]["name"]: g["spec"] for g in of_kind(manifests, "DaskWorkerGroup")}
    assert cluster["spec"]["worker"]["replicas"] == 0
    assert {name: spec["worker"]["replicas"] for name, spec in groups.items()} == {
        "demo-cemi-dask-cpu": 8,
        "demo-cemi-dask-gpu": 2,
    }
    assert {spec["cluster"] for spec in groups.values()} == {cluster["metadata"]["name"]}
    assert not of_kind(manifests, "Deployment")
    scaled = charts["operator-scaled"]["manifests"]
    (scaler,) = of_kind(scaled, "DaskAutoscaler")
    assert scaler["spec"] == {"cluster": "demo-cemi-dask", "minimum": 2, "maximum": 32}
    assert of_kind(scaled, "DaskCluster")[0]["spec"]["worker"]["replicas"] == 2
    assert not of_kind(scaled, "DaskWorkerGroup")


def test_buckets_are_reached_with_a_secret_and_without_a_volume(charts: Charts) -> None:
    manifests = charts["s3"]["manifests"]
    assert not of_kind(manifests, "PersistentVolumeClaim")
    served = 0
    for where, labels, spec in pods(manifests):
        assert all("persistentVolumeClaim" not in v for v in spec["volumes"]), where
        for container in spec["containers"]:
            env = {item["name"]: item for item in container.get("env", [])}
            if labels["app.kubernetes.io/component"] in ("worker-cpu", "job"):
                for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                    source = env[key]["valueFrom"]["secretKeyRef"]
                    assert source == {"name": "bucket-credentials", "key": key}, where
                assert env["AWS_ENDPOINT_URL"]["value"] == "http://minio.storage.svc:9000"
                assert env["AWS_REGION"]["value"] == "eu-central-1"
                served += 1
            else:
                assert not any(key.startswith("AWS_") for key in env), where
    assert served == 2
    rules = of_kind(manifests, "NetworkPolicy")[0]["spec"]["egress"]
    assert {"protocol": "TCP", "port": 9000} in [p for r in rules for p in r.get("ports", [])]


def test_the_dashboard_is_served_under_its_host(charts: Charts) -> None:
    manifests = charts["ingress"]["manifests"]
    (ingress,) = of_kind(manifests, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    (service,) = of_kind(manifests, "Service")
    backend = path["backend"]["service"]
    assert rule["host"] == "cemi.example.org"
    assert ingress["spec"]["tls"] == [
        {"hosts": ["cemi.example.org"], "secretName": "cemi-example-org"}
    ]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    opened = of_kind(manifests, "NetworkPolicy")[1]["spec"]["ingress"]
    assert [
        rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in opened
    ] == ["ingress-nginx", "monitoring"]
    assert all(rule["ports"] == [{"protocol": "TCP", "port": 8787}] for rule in opened)


def test_the_job_goes_on_after_a_fault_but_not_with_a_wrong_config(charts: Charts) -> None:
    (job,) = of_kind(charts["cpu"]["manifests"], "Job")
    spec = job["spec"]
    assert job["metadata"]["name"] == "demo-cemi-dask-batch-1"
    assert spec["backoffLimit"] == 3
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"]["values"] == [2]
    assert ignore["action"] == "Ignore"
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (config,) = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    (files,) = [
        c["data"]
        for c in of_kind(charts["cpu"]["manifests"], "ConfigMap")
        if c["metadata"]["name"] == config
    ]
    assert files["ingots.csv"].splitlines()[0] == "config"
    assert of_kind(charts["gpu"]["manifests"], "Job")[0]["spec"]["activeDeadlineSeconds"] == 86400


@each_variant
def test_notes_say_where_the_scheduler_is(charts: Charts, name: str) -> None:
    (notes,) = charts[name]["notes"]
    protocol = "tls" if name.startswith("tls") else "tcp"
    assert f"{protocol}://demo-cemi-dask-scheduler.cemi.svc:8786" in notes
    assert not re.search(r"<no value>|%!", notes)
