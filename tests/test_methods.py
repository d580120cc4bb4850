"""Every registered method keeps one contract; plug-ins are checked when they load."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError, create_model

from cemi_dask import methods
from cemi_dask.analyse import ANALYSERS
from cemi_dask.blend import BLENDERS
from cemi_dask.denoise import DENOISERS
from cemi_dask.errors import ConfigError, PluginError
from cemi_dask.methods import Method, Registry
from cemi_dask.segment import PHASES, SEGMENTERS

REGISTRIES: list[Registry[Any]] = [DENOISERS, BLENDERS, SEGMENTERS, PHASES, ANALYSERS]
ALL = [
    pytest.param(registry, name, id=f"{registry.kind}-{name}")
    for registry in REGISTRIES
    for name in registry.classes()
]


@pytest.mark.parametrize(("registry", "name"), ALL)
def test_a_method_round_trips_through_yaml_values(registry: Registry[Any], name: str) -> None:
    made = registry.parse(name)
    assert made.method == name
    again = registry.parse(made.model_dump(mode="json"))
    assert again == made
    assert registry.parse(made) is made


@pytest.mark.parametrize(("registry", "name"), ALL)
def test_a_method_is_frozen_and_refuses_unknown_keys(registry: Registry[Any], name: str) -> None:
    made = registry.parse(name)
    with pytest.raises(ValidationError):
        made.method = "other"
    with pytest.raises(ConfigError, match="no_such_key"):
        registry.parse({"method": name, "no_such_key": 1})


@pytest.mark.parametrize(("registry", "name"), ALL)
def test_a_method_states_its_halo_and_documents_itself(registry: Registry[Any], name: str) -> None:
    made = registry.parse(name)
    assert isinstance(made.halo_px, int)
    assert made.halo_px >= 0
    assert type(made).__doc__
    assert callable(made)


@pytest.mark.parametrize(("registry", "name"), ALL)
def test_a_field_keeps_its_parameters_in_a_dump(registry: Registry[Any], name: str) -> None:
    # A field typed as the base class would dump {} and make digests blind to parameters.
    model: type[BaseModel] = create_model("Holder", value=(registry.field_type(), ...))
    dumped = model(value={"method": name}).model_dump(mode="json")
    assert dumped["value"] == registry.parse(name).model_dump(mode="json")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
def test_a_typo_lists_the_valid_names(registry: Registry[Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.parse("fether")
    for name in registry.classes():
        assert name in str(caught.value)


FRAME = np.clip(np.random.default_rng(0).normal(120, 20, (96, 130)), 1, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "name", [name for name, cls in DENOISERS.classes().items() if cls.needs == "frame"]
)
def test_a_denoiser_keeps_shape_and_dtype_and_its_input(name: str) -> None:
    denoiser = DENOISERS.parse(name)
    before = FRAME.copy()
    for frame in (FRAME, FRAME.astype(np.uint16) * 200, FRAME.astype(np.float32)):
        result = denoiser(frame)
        assert result.shape == frame.shape
        assert result.dtype == frame.dtype
        again = denoiser(frame)
        np.testing.assert_array_equal(result, again)
    np.testing.assert_array_equal(FRAME, before)


class Shape(Method):
    """A kind of method made for these tests."""


class Round(Shape):
    """One built-in."""

    method: Literal["round"] = "round"


def registry_with(monkeypatch: pytest.MonkeyPatch, value: str) -> Registry[Shape]:
    point = EntryPoint(name="x", value=value, group="cemi_dask.shapes")
    monkeypatch.setattr(methods, "entry_points", lambda group: [point])
    return Registry("shape", Shape, (Round,))


def test_a_plug_in_joins_the_built_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with(monkeypatch, f"{__name__}:Square")
    assert list(registry.classes()) == ["round", "square"]
    assert isinstance(registry.parse("square"), Square)


def test_a_broken_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with(monkeypatch, "no_such_module:Thing")
    with pytest.raises(PluginError, match="no_such_module:Thing"):
        registry.classes()


def test_a_duplicate_plug_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with(monkeypatch, f"{__name__}:AlsoRound")
    with pytest.raises(PluginError, match="'round', which"):
        registry.classes()


def test_a_plug_in_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with(monkeypatch, "collections:OrderedDict")
    with pytest.raises(PluginError, match="is not a Shape"):
        registry.classes()


class Square(Shape):
    """A plug-in."""

    method: Literal["square"] = "square"


class AlsoRound(Shape):
    """A plug-in whose name is taken."""

    method: Literal["round"] = "round"
