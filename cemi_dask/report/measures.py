"""The grid of cells as arrays: values in rows and columns, borders and places in a unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cemi_dask.measures import FloatArray
from cemi_dask.report.style import Unit


def to_grid(cells: pd.DataFrame, values: FloatArray) -> FloatArray:
    """Values of the cells as an array (rows, cols), NaN where there is no cell."""
    rows, cols = np.asarray(cells["row"], int), np.asarray(cells["col"], int)
    grid = np.full((rows.max() + 1, cols.max() + 1), np.nan)
    grid[rows, cols] = values
    return grid


def cell_edges(cells: pd.DataFrame, unit: Unit) -> tuple[FloatArray, FloatArray]:
    """Borders of the columns (along x) and rows (along y) of cells in `unit`."""
    found = []
    for index, axis, size in (("col", "x", "width"), ("row", "y", "height")):
        first = cells.drop_duplicates(index).sort_values(index)
        middle, wide = places(first, axis, unit), places(first, size, unit)
        low = middle - wide / 2
        found.append(np.append(low, low[-1] + wide[-1]))
    return found[0], found[1]


def places(table: pd.DataFrame, name: str, unit: Unit) -> FloatArray:
    """The positions or sizes `name` (x, y, width, height) of a table in `unit`."""
    if unit.name != "px":
        return np.asarray(table[f"{name}_um"], np.float64) / unit.um
    return np.asarray(table[f"{name}_px"], np.float64)
