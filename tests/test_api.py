"""The public API: small, explicit, documented."""

from __future__ import annotations

import importlib
import inspect

import pytest

import cemi_dask

PACKAGES = (
    "learn",
    "frames",
    "denoise",
    "register",
    "solve",
    "blend",
    "store",
    "segment",
    "analyse",
    "report",
    "simulate",
    "pipeline",
)


def test_top_level_has_at_most_20_names_and_each_loads() -> None:
    assert len(cemi_dask.__all__) <= 20
    assert list(cemi_dask.__all__) == sorted(cemi_dask.__all__)
    for name in cemi_dask.__all__:
        assert getattr(cemi_dask, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cemi_dask.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented_and_typed(package: str) -> None:
    module = importlib.import_module(f"cemi_dask.{package}")
    assert module.__doc__
    assert module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        assert inspect.getdoc(value), f"{package}.{name} has no docstring"
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            assert signature.return_annotation is not inspect.Signature.empty, name
            untyped = [
                p.name
                for p in signature.parameters.values()
                if p.annotation is inspect.Parameter.empty
            ]
            assert not untyped, f"{package}.{name}: no type for {untyped}"


def test_every_error_has_a_built_in_parent_too() -> None:
    from cemi_dask import errors

    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.CemiError)
    ]
    for cls in classes:
        if cls is not errors.CemiError:
            assert len(cls.__bases__) == 2
            assert cls.__bases__[0] is errors.CemiError
