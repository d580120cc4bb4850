"""Profiles: every measure averaged across the ingot, or across a band of it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from cemi_dask.analyse.cell import weighted_standard_error
from cemi_dask.errors import InputError

NAN = float("nan")


def profile(
    cells: pd.DataFrame,
    *,
    along: Literal["x", "y"] = "x",
    band_um: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Averages along y, one row per column of the grid, out of the table of cells.

    Columns: x_um, then each measure and its standard error (``NAME_se``), then x_px,
    valid_fraction and ``cells``, the number of cells that hold data. With ``along="y"`` rows of
    the grid are averaged along x instead, and the places are y_um and y_px. `band_um` takes only
    cells whose centre across the profile lies in [low, high]. The average weighs cells
    by valid area and leaves out cells without a value; it is NaN where none has one. The
    standard error is the larger of two: what the cells' own errors add up to, and what
    the spread between the cells says.

    Raises InputError where no cell lies in the band, or cells have no place in micrometres.
    """
    across, index = ("y", "col") if along == "x" else ("x", "row")
    if band_um is not None:
        cells = _in_band(cells, across, band_um)
    measures = [c.removesuffix("_se") for c in cells.columns if c.endswith("_se")]
    rows = []
    for _, column in cells.groupby(index, sort=True):
        area = column["valid_fraction"] * column["width_px"] * column["height_px"]
        row: dict[str, float] = {f"{along}_um": float(column[f"{along}_um"].iloc[0])}
        for name in measures:
            row[name], row[f"{name}_se"] = _average(
                column[name].to_numpy(float), column[f"{name}_se"].to_numpy(float), area.to_numpy()
            )
        row[f"{along}_px"] = float(column[f"{along}_px"].iloc[0])
        row["valid_fraction"] = float(column["valid_fraction"].mean())
        row["cells"] = float((column["valid_fraction"] > 0).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _in_band(cells: pd.DataFrame, across: str, band_um: tuple[float, float]) -> pd.DataFrame:
    place, (low, high) = cells[f"{across}_um"], band_um
    if place.isna().any():
        raise InputError("A band in micrometres needs the pixel size. Give pixel_um.")
    inside = cells[(place >= low) & (place <= high)]
    if inside.empty:
        raise InputError(
            f"No cell has its centre at {across} = {low:g}..{high:g} um; they lie at "
            f"{place.min():g}..{place.max():g} um. Take a wider band."
        )
    return inside


def _average(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    errors: np.ndarray[tuple[int], np.dtype[np.float64]],
    area: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[float, float]:
    """(weighted mean, its standard error) of the finite values."""
    known = np.isfinite(values) & (area > 0)
    if not known.any():
        return NAN, NAN
    values, errors, area = values[known], errors[known], area[known]
    share = area / area.sum()
    own = float(np.sqrt(np.sum((share * errors) ** 2)))
    spread = weighted_standard_error(values, area)
    return float(np.sum(share * values)), float(np.fmax(own, spread))
