"""Stage positions of tiles from a CSV table."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.frames.grid import Grid
from cemi_dask.frames.options import TileOptions
from cemi_dask.frames.sources import natural_key

FILE_NAMES = ("file", "filename", "name", "image", "imagename", "tile", "path")
INDEX_NAMES = ("frame", "index", "imagenumber", "number", "n")
UNITS_UM = {"um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}

Positions = tuple[np.ndarray, np.ndarray, Grid, str]


def read_positions(
    path: str | Path,
    files: Sequence[str],
    *,
    grid: Grid,
    options: TileOptions,
    pixel_um: float | None,
) -> Positions:
    """(x, y in px of every file, the grid in the table's order, in words how), from a CSV.

    Tiles are found by file name, else by col and row (col#, row#), else by index in the
    natural order of the names. x and y are in px or in a length unit by their column names
    (x_px, y_um, ...), else by ``tiles.position_unit``. Raises UnreadableError, ConfigError
    (no unit, no pixel size) or InputError (a tile without a position).
    """
    try:
        table = pd.read_csv(path, sep=None, engine="python", skipinitialspace=True)
    except (OSError, ValueError, csv.Error) as error:
        raise UnreadableError(
            f"{path} cannot be read as a table of stage positions ({error}). It needs a header "
            "and columns such as file,x_um,y_um."
        ) from error
    columns = {_plain(str(name)): str(name) for name in table.columns}
    places = [_axis(columns, axis, path, options) for axis in ("x", "y")]
    scaled = [
        _values(table, name, path) * _px_per_unit(unit, pixel_um, path) for name, unit in places
    ]
    rows, grid, how = _lookup(table, columns, files, grid, path)
    x, y = (values[rows] for values in scaled)
    x = -x if options.position_x == "left" else x
    return x, (-y if options.position_y == "up" else y), grid, how


def _plain(name: str) -> str:
    return re.sub(r"[\s#()\[\].\-/]+", "", name.casefold())


def _axis(
    columns: dict[str, str], axis: str, path: str | Path, options: TileOptions
) -> tuple[str, str]:
    """(column, unit) of an axis."""
    for plain, name in columns.items():
        match = re.fullmatch(rf"(?:stage)?{axis}_?(?:position|pos|nominal)?_?([a-zµ]*)", plain)
        if match is None:
            continue
        unit = match.group(1)
        if unit in UNITS_UM or unit in ("px", "pixel", "pixels"):
            return name, unit if unit in UNITS_UM else "px"
        if not unit:
            if options.position_unit is None:
                raise ConfigError(
                    f"{path}: the column {name!r} states no unit. Set tiles.position_unit to "
                    "'px' or 'um'."
                )
            return name, options.position_unit
    raise InputError(
        f"{path} has no column for {axis} among {list(columns.values())}. Name it {axis}_px or "
        f"{axis}_um."
    )


def _px_per_unit(unit: str, pixel_um: float | None, path: str | Path) -> float:
    if unit == "px":
        return 1.0
    if pixel_um is None:
        raise ConfigError(
            f"{path} gives positions in {unit}, and no pixel size is known to turn them into px. "
            "Set input.pixel_um."
        )
    return UNITS_UM[unit] / pixel_um


def _values(table: pd.DataFrame, name: str, path: str | Path) -> np.ndarray:
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{path}, line {bad[0] + 2}: {name} is {table[name].iloc[bad[0]]!r}, not a number."
        )
    return values


def _lookup(
    table: pd.DataFrame,
    columns: dict[str, str],
    files: Sequence[str],
    grid: Grid,
    path: str | Path,
) -> tuple[np.ndarray, Grid, str]:
    """Line of the table for every file, the grid, and in words how they were matched."""
    for plain in FILE_NAMES:
        if plain in columns:
            names = [Path(str(n).strip().replace("\\", "/")).name for n in table[columns[plain]]]
            rows = _rows(names, [Path(f).name for f in files], [Path(f).stem for f in files])
            return _complete(rows, files, path), grid, f"by the column {columns[plain]!r}"
    if "col" in columns and "row" in columns and grid.kind == "grid":
        found = _by_grid(table, columns, files, grid)
        if found is not None:
            return found
    if len(table) != len(files):
        raise InputError(
            f"{path} holds {len(table)} positions for {len(files)} tiles and no column with file "
            "names. Add a column 'file'."
        )
    order = np.argsort([_rank(n, files) for n in range(len(files))], kind="stable")
    rows_by_file = np.empty(len(files), np.int64)
    rows_by_file[order] = _index_order(table, columns)
    return rows_by_file, grid, "line by line in the natural order of the file names"


def _rank(number: int, files: Sequence[str]) -> int:
    ordered = sorted(files, key=lambda f: (natural_key(Path(f).name), f))
    return ordered.index(files[number])


def _index_order(table: pd.DataFrame, columns: dict[str, str]) -> np.ndarray:
    for plain in INDEX_NAMES:
        if plain in columns and table[columns[plain]].is_unique:
            return np.argsort(table[columns[plain]].to_numpy(), kind="stable")
    return np.arange(len(table))


def _by_grid(
    table: pd.DataFrame, columns: dict[str, str], files: Sequence[str], grid: Grid
) -> tuple[np.ndarray, Grid, str] | None:
    """Tiles by column and row; the table also tells which number in a bare name is which."""
    rows, cols = (table[columns[k]].to_numpy(np.int64) for k in ("row", "col"))
    listed = [(int(r), int(c)) for r, c in zip(rows - rows.min(), cols - cols.min(), strict=True)]
    for candidate in (grid, grid.swapped("column then row, as in the table of positions")):
        wanted = list(zip(candidate.rows, candidate.cols, strict=True))
        if set(wanted) <= set(listed) and (candidate is grid or grid.bare):
            lines = np.array([listed.index(place) for place in wanted])
            return lines, candidate, "by column and row"
    return None


def _rows(names: list[str], *wanted: list[str]) -> np.ndarray:
    where = {name: n for n, name in enumerate(names)}
    found = [
        next((where[w] for w in alike if w in where), -1) for alike in zip(*wanted, strict=True)
    ]
    return np.array(found, np.int64)


def _complete(rows: np.ndarray, files: Sequence[str], path: str | Path) -> np.ndarray:
    missing = [f for f, row in zip(files, rows, strict=True) if row < 0]
    if missing:
        raise InputError(
            f"{path} has no position for {len(missing)} of {len(files)} tiles, the first "
            f"{missing[0]}. Add it, or leave the tile out."
        )
    return rows
