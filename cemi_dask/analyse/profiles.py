"""Profiles along x: every measure averaged along y."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cemi_dask.analyse.cell import weighted_standard_error

NAN = float("nan")


def profile(cells: pd.DataFrame) -> pd.DataFrame:
    """Averages along y, one row per column of the grid, out of the table of cells.

    Columns: x_um, then each measure and its standard error (``NAME_se``), then x_px,
    valid_fraction and ``cells``, the number of cells that hold data. The average weighs cells
    by valid area and leaves out cells without a value; it is NaN where none has one. The
    standard error is the larger of two: what the cells' own errors add up to, and what
    the spread between the cells says.
    """
    measures = [c.removesuffix("_se") for c in cells.columns if c.endswith("_se")]
    rows = []
    for _, column in cells.groupby("col", sort=True):
        area = column["valid_fraction"] * column["width_px"] * column["height_px"]
        row: dict[str, float] = {"x_um": float(column["x_um"].iloc[0])}
        for name in measures:
            row[name], row[f"{name}_se"] = _average(
                column[name].to_numpy(float), column[f"{name}_se"].to_numpy(float), area.to_numpy()
            )
        row["x_px"] = float(column["x_px"].iloc[0])
        row["valid_fraction"] = float(column["valid_fraction"].mean())
        row["cells"] = float((column["valid_fraction"] > 0).sum())
        rows.append(row)
    return pd.DataFrame(rows)


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
