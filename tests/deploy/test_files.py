"""What can be told of the files in deploy/ without helm, docker or SLURM."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from cemi_dask import __version__
from tests.deploy.charts import CHART, ROOT, VARIANTS

VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def keys(values: dict[str, Any], schema: dict[str, Any], above: str = "") -> set[str]:
    """Dotted keys of the values, as far as the schema names their parts."""
    found = set()
    for key, value in values.items():
        inner = resolved(schema["properties"][key])
        free = "properties" not in inner
        found |= {above + key} if free else keys(value, inner, f"{above}{key}.")
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or the definition that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["definitions"][name] if name else schema


def objects(schema: Any, where: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every schema of an object with named properties."""
    found = []
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            found.append((where, schema))
        for key, part in schema.items():
            found += objects(part, f"{where}/{key}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            found += objects(part, f"{where}/{number}")
    return found


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__


def test_the_schema_refuses_unknown_keys_at_every_level() -> None:
    found = objects(SCHEMA)
    assert len(found) >= 15
    for where, schema in found:
        assert schema.get("additionalProperties") is False, where


def test_values_and_schema_name_the_same_keys() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], where: str) -> None:
        named = set(schema["properties"]) - {"global"}
        assert set(values) <= named, where
        # The runtime class is the workers' alone, and so on: what is set is named.
        assert named == set(values), (where, named ^ set(values))
        for key, value in values.items():
            inner = resolved(schema["properties"][key])
            if "properties" in inner:
                compare(value, inner, f"{where}.{key}")

    compare(VALUES, SCHEMA, "")


def test_the_readme_names_every_key() -> None:
    text = (CHART / "README.md").read_text(encoding="utf-8")
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    named = {span.rpartition(".")[2] for span in re.findall(r"`([^`]+)`", plain)}
    for key in keys(VALUES, SCHEMA):
        assert key.rpartition(".")[2] in named, key


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "default"])
def test_variants_set_only_what_there_is(name: str) -> None:
    def check(values: dict[str, Any], schema: dict[str, Any]) -> None:
        for key, value in values.items():
            inner = resolved(schema["properties"][key])
            if "properties" in inner:
                check(value, inner)

    check(VARIANTS[name], SCHEMA)
    assert f"ci/{name}.yaml" in (CHART / "README.md").read_text(encoding="utf-8")


def test_all_yaml_that_is_no_template_is_read() -> None:
    files = [p for p in (ROOT / "deploy").rglob("*.yaml") if "templates" not in p.parts]
    assert len(files) >= 10
    for path in files:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
