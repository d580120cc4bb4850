"""Write docs/config.md: every key of a config, from the models that check it.

python docs/make_reference.py          writes the page
python docs/make_reference.py --check  exit status 1 when the page is out of date
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cemi_dask.pipeline.config import config_model
from cemi_dask.pipeline.train import TrainConfig
from cemi_dask.pipeline.train_segment import SegmentTraining

PAGE = Path(__file__).with_name("config.md")
HEAD = """# Every key of a config

Written by `python docs/make_reference.py` from the models that check a config. `cemi schema`
prints the same as JSON schema, for editors.

Unknown keys are refused, and the error lists the valid ones. Lengths are in pixels where a name
ends in `_px`, in micrometres where it ends in `_um`; pairs are (height, width). Relative paths
start at the folder of the config file. Where a method is wanted, its name alone stands for the
method with its defaults: `denoise: fourier`.
"""
TRAINING = """# Every key of a training config

For `cemi train denoise`, see [guide.md](guide.md#training). `network: compact` and `network: paper`
stand for the presets; paths start at the folder of the config file.
"""
SEGMENTING = """# Every key of a training config of a segmenter

For `cemi train segment`, see [guide.md](guide.md#training-a-segmenter). `network: paper` and
`network: compact` stand for the presets; paths start at the folder of the config file.
"""
# A key with one value tells which of several models is meant; headings name that value.
TAGS = ("method", "kind", "family")
# For keys whose model says nothing: what a method is for is said by the method.
MEANINGS = {
    "denoise": "how frames are denoised before they are blended; null: not at all",
    "blend": "how overlapping frames become one picture",
    "segment": "the two label images; null: none, and nothing is measured from them",
    "segment.lamellar": "which regions are lamellar",
    "segment.bcc": "which pixels are BCC",
    "analyse": "the grid, what is measured in its cells, what it is related to; null: nothing",
    "analyse.measures.estimator": "from grey levels, or from the label `bcc`",
    "analyse.measures.variant": "what goes into the column lamella_width_um",
    "cluster": "where the work is done",
    "fit": "how long it is trained, and what is minimised",
    "data": "what the network is trained on",
}
WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Any: "anything",
}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def page() -> str:
    """The whole page."""
    run, training = section(config_model(), "", set()), section(TrainConfig, "", set())
    segmenting = section(SegmentTraining, "", set())
    parts = [HEAD, *run, TRAINING, *training, SEGMENTING, *segmenting]
    return "\n".join(parts).rstrip() + "\n"


def section(
    model: type[BaseModel], path: str, seen: set[tuple[type[BaseModel], str]]
) -> Iterator[str]:
    """Heading, summary and table of one model, then those of the models in its fields.

    Nothing for what was `seen` at that place: models in a union may have fields alike.
    """
    if (model, path) in seen:
        return
    seen.add((model, path))
    name = method_of(model)
    if path:
        # The RunConfig's own table needs no heading of its own: it is the page.
        yield f"## `{path}`" + (f": `{name}`" if name else "") + "\n"
        yield (summary(model) or MEANINGS[path]) + "\n"
    rows = [row(field, key, path) for key, field in keys(model)]
    if rows:
        yield from ["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    for key, field in keys(model):
        for inner in models_in(field.annotation):
            yield from section(inner, f"{path}.{key}".lstrip("."), seen)


def keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a model as they stand in YAML, without the one that tells which model it is."""
    for name, field in model.model_fields.items():
        if not tag_of(name, field):
            yield field.alias or name, field


def method_of(model: type[BaseModel]) -> str:
    """The name by which a method goes in YAML, or an empty text."""
    return next(filter(None, (tag_of(*item) for item in model.model_fields.items())), "")


def tag_of(name: str, field: FieldInfo) -> str:
    """The value of a field that tells which model is meant; empty for other fields.

    Where it has several, and so no default, all of them.
    """
    values = get_args(field.annotation)
    told = name in TAGS and (len(values) == 1 or field.is_required())
    return ", ".join(map(str, values)) if told else ""


def summary(model: type[BaseModel]) -> str:
    """The first paragraph of a model's docstring, on one line."""
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def row(field: FieldInfo, key: str, path: str) -> str:
    """One line of a table."""
    own = MEANINGS.get(f"{path}.{key}".lstrip("."), "")
    meaning = own or field.description or next(map(summary, models_in(field.annotation)), "")
    limits = [
        f"{SIGNS[name]} {getattr(part, name):g}"
        for part in field.metadata
        for name in SIGNS
        if getattr(part, name, None) is not None
    ]
    values = ", ".join([values_of(field.annotation), *limits])
    cells = [f"`{key}`", values, default_of(field), meaning]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def arms(annotation: Any) -> Iterator[Any]:
    """The plain types that a (perhaps optional, annotated) union is made of."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from arms(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for arm in get_args(annotation):
            yield from arms(arm)
    else:
        yield annotation


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value may be, or that a list may hold."""
    for arm in arms(annotation):
        if get_origin(arm) in (tuple, list):
            yield from models_in(get_args(arm)[0])
        elif isinstance(arm, type) and issubclass(arm, BaseModel):
            yield arm


def values_of(annotation: Any) -> str:
    """What a value may be, in words."""
    words: list[str] = []
    for arm in arms(annotation):
        if arm is type(None):
            words.append("null")
        elif get_origin(arm) is Literal:
            words += [f"`{value}`" for value in get_args(arm)]
        elif get_origin(arm) is tuple:
            inner = get_args(arm)
            many = inner[-1] is Ellipsis
            words.append(
                f"{'list of' if many else len(inner)} {values_of(inner[0])}{'s' * (not many)}"
            )
        elif get_origin(arm) is dict:
            name, value = map(values_of, get_args(arm))
            words.append(f"keys ({name}) with values ({value})")
        elif isinstance(arm, type) and issubclass(arm, BaseModel):
            name = method_of(arm)
            words.append(f"`{name}`" if name else "keys (see below)")
        else:
            words.append(WORDS.get(arm, str(arm)))
    return " or ".join(dict.fromkeys(words))


def default_of(field: FieldInfo) -> str:
    """The default as it would stand in YAML."""
    if field.is_required():
        return "(needed)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`{method_of(type(value))}`" if method_of(type(value)) else ""
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return ", ".join(f"`{method_of(type(item))}`" for item in value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"`{value}`"


def main() -> int:
    """Write the page, or check it; the exit status."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
