"""The chart as rendered by helm, which lives in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "cemi-dask"
# The chart's own defaults, and what its folder ci/ holds.
VARIANTS = {"default": {}} | {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((CHART / "ci").glob("*.yaml"))
}


def deploy_environment() -> Path:
    """The environment that has helm; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CEMI_DEPLOY_ENV", ROOT / ".venv-deploy"))
    if not list(folder.glob("lib/*/site-packages/helm_python")):
        pytest.skip(f"no helm in {folder}: `make check-deploy` installs it")
    return folder


def examine(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What lint, template and schema validation say of each set of values."""
    asked = json.dumps({"chart": str(CHART), "variants": values})
    tool = Path(__file__).with_name("helm_tool.py")
    python = deploy_environment() / "bin" / "python"
    done = subprocess.run(
        [python, tool], input=asked, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, labels, spec) of every pod that the manifests describe, the operator's included."""
    for document in manifests:
        kind, name = document["kind"], document["metadata"]["name"]
        where = f"{kind} {name}"
        labels = document["metadata"].get("labels", {})
        spec = document.get("spec", {})
        if kind == "Pod":
            yield where, labels, spec
        elif kind in ("Deployment", "Job"):
            yield where, spec["template"]["metadata"]["labels"], spec["template"]["spec"]
        elif kind in ("DaskCluster", "DaskWorkerGroup"):
            for role in ("scheduler", "worker"):
                if role in spec:
                    # The operator gives its objects' labels to their pods.
                    own = spec[role]["metadata"]["labels"]
                    yield f"{where} {role}", labels | own, spec[role]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, the initial ones first."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The manifests of one kind."""
    return [document for document in manifests if document["kind"] == kind]
