"""The cells of a run as GeoJSON, CSV or Parquet, places in micrometres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.store.atomic import replacing
from cemi_dask.store.tables import read_table

CELL_FORMATS = ("geojson", "csv", "parquet")


def export_cells(out: Path | str, target: Path | str, *, format: str = "geojson") -> Path:
    """The table of cells of the run folder `out` as the file `target`; that path.

    GeoJSON has a rectangle per cell, x to the right and y down in micrometres from the mosaic's
    first pixel (no geographic coordinates), and every measure as property; null where nothing was
    measurable. CSV and Parquet hold the columns whose unit is not px. StoreError where the run has
    no cells or its pixel size is unknown.
    """
    target = Path(target)
    if format not in CELL_FORMATS:
        raise ConfigError(f"There is no format {format!r}; take one of {list(CELL_FORMATS)}.")
    cells = read_table(Path(out) / "tables", "cells")
    if cells.empty or cells["x_um"].isna().all():
        raise StoreError(
            f"The cells of {out} have no places in micrometres: state input.pixel_um and run again."
        )
    kept = cells[[name for name in cells.columns if not name.endswith(("_px", "_px_se"))]]
    with replacing(target) as temporary:
        if format == "parquet":
            kept.to_parquet(temporary, index=False)
        elif format == "csv":
            kept.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
        else:
            _write_geojson(kept, temporary)
    return target


def _write_geojson(cells: pd.DataFrame, target: Path) -> None:
    """One feature a line, so that large grids are written without being held as text."""
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        for number, row in enumerate(cells.to_dict("records")):
            file.write(",\n" if number else "")
            file.write(json.dumps(_feature(row), allow_nan=False))
        file.write("\n]}\n")


def _feature(row: dict[Any, Any]) -> dict[str, Any]:
    x, y = float(row["x_um"]), float(row["y_um"])
    wide, high = float(row["width_um"]) / 2, float(row["height_um"]) / 2
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    ring = [[x + sx * wide, y + sy * high] for sx, sy in corners]
    return {
        "type": "Feature",
        "id": f"{int(row['row'])}-{int(row['col'])}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {str(name): _plain(value) for name, value in row.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if isinstance(value, int | np.integer) else number
