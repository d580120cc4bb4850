"""Lints, renders and validates the chart; runs where helm and the Kubernetes schemas are installed.

Not a test: `test_chart.py` calls it with the interpreter of the environment that `make
check-deploy` makes. Reads JSON from standard input, `{"chart": FOLDER, "variants": {NAME:
{"values": VALUES, "files": [...]}}}`, and writes for every variant what became of it.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import yaml

# The oldest that the chart allows, and the newest there are schemas of.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())
# Read once: the definitions take a second, and there are a hundred manifests.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


@cache
def operator_schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """The operator's own schemas by (apiVersion, kind), from the dask-kubernetes package."""
    schemas: dict[tuple[str, str], dict[str, Any]] = {}
    package = distribution("dask-kubernetes")
    for file in package.files or ():
        if file.parent.name == "crds" and file.suffix == ".yaml":
            text = Path(str(package.locate_file(file))).read_text(encoding="utf-8")
            for document in filter(None, yaml.safe_load_all(text)):
                group, kind = document["spec"]["group"], document["spec"]["names"]["kind"]
                for version in document["spec"]["versions"]:
                    found = version["schema"]["openAPIV3Schema"]
                    schemas[f"{group}/{version['name']}", kind] = closed(found)
    if not schemas:
        raise RuntimeError("the dask-kubernetes package holds no resource definitions")
    return schemas


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema refusing unknown keys, which a server would silently drop."""
    inner: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            inner[key] = {name: closed(part) for name, part in value.items()}
        elif isinstance(value, dict):
            inner[key] = closed(value)
        elif isinstance(value, list):
            inner[key] = [closed(v) if isinstance(v, dict) else v for v in value]
        else:
            inner[key] = value
    if "properties" in schema and not (
        {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(schema)
    ):
        inner["additionalProperties"] = False
    return inner


def faults(document: dict[str, Any], schemas: dict[tuple[str, str], Any]) -> list[str]:
    """What is wrong with one manifest."""
    key = document["apiVersion"], document["kind"]
    where = f"{key[1]} {document['metadata']['name']}"
    if key in schemas:
        plain = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
        found = jsonschema.Draft7Validator(schemas[key]).iter_errors(plain)
        return [f"{where}: {list(error.path)}: {error.message[:300]}" for error in found]
    told = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as error:
            told.append(f"{where} in {version}: {type(error).__name__}: {str(error)[:300]}")
    return told


def examine(chart: helm.Chart, folder: str, values: dict[str, Any]) -> dict[str, Any]:
    """What lint, template and the schemas say to these values."""
    report = helm.lint(folder, values, strict=True, namespace="cemi")
    told = [str(m["error"]) for m in report["messages"] if m["severity"] >= 2]
    try:
        chart.validate_schema(values)
        rendered = chart.render(values, name="demo", namespace="cemi", revision=1, is_install=True)
    except helm.HelmError as error:
        return {"error": str(error), "lint": told + report["errors"]}
    notes = [text for name, text in rendered.items() if name.endswith("NOTES.txt")]
    schemas = operator_schemas()
    manifests = [
        document
        for name, text in sorted(rendered.items())
        if not name.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    return {
        "lint": told + report["errors"],
        "manifests": manifests,
        "faults": [fault for document in manifests for fault in faults(document, schemas)],
        "notes": notes,
    }


def main() -> None:
    """Standard input to standard output."""
    asked = json.load(sys.stdin)
    with helm.Chart.load(asked["chart"]) as chart:
        told = {name: examine(chart, asked["chart"], v) for name, v in asked["variants"].items()}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
