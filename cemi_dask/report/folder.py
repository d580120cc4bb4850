"""What a run folder holds, read for the report: `RunFolderData`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask import store
from cemi_dask.errors import StoreError, UnreadableError
from cemi_dask.frames import FlatField
from cemi_dask.frames.flat import flattened

TABLES = (
    "frames",
    "pairs",
    "positions",
    "cells",
    "profile",
    "correlation",
    "correlation_points",
    "models",
)
Picture = npt.NDArray[Any]


@dataclass(frozen=True)
class FramePair:
    """One frame before and after denoising: name of its source, index there, both pictures."""

    key: str
    index: int
    raw: Picture
    denoised: Picture


@dataclass(frozen=True)
class RunFolderData:
    """What a run left so far: run.json, those tables that exist, the mosaic if it is whole."""

    path: Path
    run: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    mosaic: store.Mosaic | None

    @property
    def pixel_um(self) -> float | None:
        """Size of a mosaic pixel; None where no source states it."""
        if self.mosaic is not None and self.mosaic.pixel_um:
            return float(self.mosaic.pixel_um)
        value = self.run.get("pixel_um")
        return float(value) if value else None

    @property
    def mosaic_shape(self) -> tuple[int, int] | None:
        """(height, width) of the mosaic in px."""
        if self.mosaic is not None:
            return self.mosaic.shape
        known = self.run.get("mosaic_shape")
        return (int(known[0]), int(known[1])) if known else None

    def crop(self, box: tuple[slice, slice]) -> Picture:
        """Part of the mosaic at full resolution."""
        if self.mosaic is None:
            raise StoreError(f"{self.path} has no mosaic yet. Run the stage blend.")
        return np.asarray(self.mosaic.levels[0][box].compute(scheduler="sync"))

    def label(self, name: str, box: tuple[slice, slice]) -> Picture | None:
        """Part of a label image beside the mosaic; None where there is none of this name."""
        if self.mosaic is None or name not in self.mosaic.labels:
            return None
        return np.asarray(self.mosaic.label(name)[box].compute(scheduler="sync"))

    def frame_pair(self) -> FramePair | None:
        """The middle frame of the middle source, raw and denoised; None without both."""
        folder = self.path / "frames.zarr"
        keys = sorted(path.name for path in (folder / "denoised").glob("*") if path.is_dir())
        keys = [key for key in keys if (folder / "raw" / key).is_dir()]
        if not keys or "denoise" not in self.run.get("stages", {}):
            return None
        key = keys[len(keys) // 2]
        stacks = [store.open_frame_store(folder, [f"{kind}/{key}"]) for kind in ("raw", "denoised")]
        index = len(stacks[0]) // 2
        raw, denoised = (np.asarray(stack[index].compute(scheduler="sync")) for stack in stacks)
        if isinstance(self.run.get("flat_field"), dict):  # stored frames are as recorded
            raw = flattened(raw, FlatField.from_json(self.run["flat_field"]).gain())
        return FramePair(key, index, raw, denoised)


def read_run_folder(out: str | Path) -> RunFolderData:
    """Everything the report needs from the run folder `out`.

    Raises UnreadableError where `out` is no run folder or run.json is damaged, StoreError
    where a table or the mosaic is.
    """
    path = Path(out)
    run = _read_run_json(path / "run.json")
    folder = path / "tables"
    tables = {
        name: store.read_table(folder, name)
        for name in TABLES
        if (folder / f"{name}.csv").is_file()
    }
    # A run that is stopped while blending leaves arrays that are no mosaic yet.
    whole = "blend" in run.get("stages", {}) and (path / "mosaic.ome.zarr").is_dir()
    mosaic = store.open_mosaic(path / "mosaic.ome.zarr") if whole else None
    return RunFolderData(path, run, tables, mosaic)


def _read_run_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UnreadableError(
            f"{file.parent} is no run folder: it has no run.json. Give the --out of a run."
        )
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableError(
            f"{file} is damaged ({error}). Run the same command again to write it anew."
        ) from error
    if not isinstance(run, dict):
        raise UnreadableError(f"{file} holds no mapping. Run the same command again.")
    return run
