"""What is wrong with the values a user gave, in words: `explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Place = tuple[str | int, ...]


def explain(
    error: ValidationError, *, given: Any = None, model: type[BaseModel] | None = None
) -> str:
    """A pydantic error as one clause per place: the key, what is wrong, what is valid.

    With the values `given` and the `model` that refused them, places are those of the user's
    file, and an unknown key is answered with the keys there are.
    """
    told: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        loc: Place = problem["loc"]
        place = loc if given is None else _user_place(given, loc, problem["type"])
        key = ".".join(str(part) for part in place)
        told.setdefault(key, []).append(_clause(problem, _keys_at(model, loc[:-1])))
    # A value that may be of several kinds is refused once for each kind.
    clauses = {key: " or ".join(dict.fromkeys(texts)) for key, texts in told.items()}
    return "; ".join(f"{key}: {text}" if key else text for key, text in clauses.items())


def _user_place(given: Any, loc: Place, kind: str) -> Place:
    """`loc` without the names of union members, which are no keys of what was given."""
    kept: list[str | int] = []
    here: Any = given
    for number, part in enumerate(loc):
        if isinstance(here, list):
            here = dict(enumerate(here))
        if isinstance(here, dict) and part in here:
            here = here[part]
            kept.append(part)
        elif kind == "missing" and number == len(loc) - 1:
            kept.append(part)
    return tuple(kept)


def _clause(problem: Any, keys: list[str]) -> str:
    """What is wrong at one place, the value, and what would be right."""
    value, context = problem.get("input"), problem.get("ctx", {})
    shown = "" if isinstance(value, dict | list) or value is None else f" (given: {value!r})"
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        valid = f"; the keys here are {', '.join(keys)}" if keys else ""
        return f"no such key{shown}{_nearest(key, keys)}{valid}"
    if problem["type"] == "union_tag_invalid":
        valid = str(context["expected_tags"])
        names = [name.strip(" '") for name in valid.split(",")]
        label, tag = str(context["discriminator"]).strip("'"), str(context["tag"])
        return f"there is no {label} {tag!r}{_nearest(tag, names)}; valid are {valid}"
    if problem["type"] == "union_tag_not_found":
        return f"the key {context['discriminator']} is missing{shown}"
    if problem["type"] == "missing":
        return "is missing and has no default"
    if problem["type"] == "model_type":
        return f"should hold keys and values{shown}"
    return f"{problem['msg'].removeprefix('Value error, ').removeprefix('Input ')}{shown}"


def _nearest(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _keys_at(model: type[BaseModel] | None, loc: Place) -> list[str]:
    """The valid keys at a place below `model`, in the order of its fields."""
    here = [] if model is None else [model]
    for part in loc:
        below = [found for each in here for found in _below(each, part)]
        # The name of a union's member: by class or by the value that tells it.
        named = [each for each in here if part in _names(each)]
        here = below or named or here
    return list(dict.fromkeys(key for each in here for key in _keys(each)))


def _below(model: type[BaseModel], part: str | int) -> list[type[BaseModel]]:
    fields = [f for name, f in model.model_fields.items() if part in (name, f.alias)]
    return [found for field in fields for found in _models_in(field.annotation)]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _names(model: type[BaseModel]) -> Iterable[Any]:
    tags = (model.model_fields[name] for name in ("method", "kind") if name in model.model_fields)
    return [model.__name__, *(value for tag in tags for value in get_args(tag.annotation))]


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
