"""`ViewSource`: what is shown, a run folder with its tables or a mosaic alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cemi_dask import store
from cemi_dask.errors import StoreError, UnreadableError

TABLES = ("frames", "pairs", "positions", "cells", "profile", "correlation_points")
# Names that are used as folder names or in addresses.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ViewSource:
    """What is shown: a mosaic, and those tables of its run that exist."""

    name: str
    mosaic: store.Mosaic
    tables: dict[str, pd.DataFrame]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the mosaic; a name that is no plain one is left out."""
        return tuple(name for name in self.mosaic.labels if _PLAIN_NAME.fullmatch(name))


def open_source(path: Path | str) -> ViewSource:
    """The run folder or mosaic at `path`, ready to be shown.

    Raises StoreError for what is neither, for a run whose mosaic is not finished, and for
    links that lead out of the folder: what is served must be what was named.
    """
    folder = Path(path)
    mosaic = folder / "mosaic.ome.zarr"
    if not mosaic.exists() and not (folder / "run.json").exists():
        _refuse_links(folder)
        return ViewSource(_stem(folder), store.open_mosaic(folder), {})
    if not mosaic.exists():
        raise StoreError(
            f"{folder} has no mosaic yet: its run has not reached the stage blend. Run the same "
            "command again, or give another folder."
        )
    _refuse_links(folder)
    tables = {
        name: store.read_table(folder / "tables", name)
        for name in TABLES
        if (folder / "tables" / f"{name}.csv").is_file()
    }
    name = str(_run_json(folder / "run.json").get("name") or _stem(folder))
    return ViewSource(name, store.open_mosaic(mosaic), tables)


def _stem(folder: Path) -> str:
    return folder.absolute().name.removesuffix(".zarr").removesuffix(".ome") or "mosaic"


def _refuse_links(folder: Path) -> None:
    """StoreError where a level, label or table under `folder` lies elsewhere, by a link."""
    if not folder.is_dir():
        return
    root = folder.resolve()
    mosaic = folder / "mosaic.ome.zarr"
    mosaic = mosaic if mosaic.exists() else folder
    parts = [folder / "run.json", folder / "tables", *(folder / "tables").glob("*")]
    for image in (mosaic, *(mosaic / "labels").glob("*")):
        parts += [image, *image.glob("*"), *image.glob("*/zarr.json"), *image.glob("*/c")]
    for part in parts:
        if part.exists() and not part.resolve().is_relative_to(root):
            raise StoreError(
                f"{part} leads out of {folder}, to {part.resolve()}; only what lies in the folder "
                "is shown. Give the folder that holds it."
            )


def _run_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableError(
            f"{file} is damaged ({error}). Run the same command again to write it anew."
        ) from error
    return run if isinstance(run, dict) else {}
