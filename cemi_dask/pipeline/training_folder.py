"""The folder of a training: whose it is, and who may write into it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from cemi_dask.errors import ConfigError
from cemi_dask.store import write_text_atomic

CONFIG = "train.json"
MODEL = "model.safetensors"


def is_first() -> bool:
    """True in the one process that writes, where torchrun started several."""
    return os.environ.get("RANK", "0") == "0"


def refuse_another(folder: Path, config: BaseModel) -> None:
    """ConfigError where `folder` holds the training of another config."""
    note = folder / CONFIG
    if not note.exists():
        return
    before = json.loads(note.read_text(encoding="utf-8"))
    values = config.model_dump(mode="json")
    changed = sorted(key for key in values if before.get(key) != values[key])
    if changed:
        raise ConfigError(
            f"{folder} holds a training with another config ({', '.join(changed)} differ). "
            "Give another --out, or --fresh to delete that training."
        )


def claim(folder: Path, config: BaseModel, parts: Sequence[str] = ()) -> None:
    """Say in `folder` whose training it holds; `parts` of an old one are deleted first."""
    for part in parts:
        shutil.rmtree(folder / part, ignore_errors=True)
    write_text_atomic(folder / CONFIG, json.dumps(config.model_dump(mode="json"), indent=2))


def old_stages(folder: Path) -> list[str]:
    """Names of the stages of the training that `folder` holds; none where it holds none."""
    note = folder / CONFIG
    if not note.exists():
        return []
    return [stage["name"] for stage in json.loads(note.read_text(encoding="utf-8"))["stages"]]
