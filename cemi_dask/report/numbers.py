"""Numbers as text, and means over cells with their errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np
import pandas as pd

from cemi_dask.measures import Measure

THIN = "\u202f"  # narrow no-break space between groups of three digits


def count_text(value: float) -> str:
    """A whole number in groups of three digits."""
    return f"{round(value):,}".replace(",", THIN)


def uncertain(value: float, error: float, unit: str) -> str:
    """A value and its standard error, cut at the error's first digit: 0.61 ± 0.03 µm.

    An error that starts with 1 keeps two digits: 0.612 ± 0.014 µm.
    """
    gap = "\u00a0" if unit else ""
    if not isfinite(value):
        return "not measurable"
    if not (isfinite(error) and error > 0):
        return f"{value:.3g}{gap}{unit}"
    first = floor(log10(error))
    digits = max(0, (1 if error < 1.95 * 10.0**first else 0) - first)
    return f"{value:.{digits}f} ± {error:.{digits}f}{gap}{unit}"


def duration_text(seconds: float) -> str:
    """A time span: 8.4 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def bytes_text(size: float) -> str:
    """A number of bytes in MB or GB (powers of ten)."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class CellMean:
    """Mean of a measure over cells, its standard error, the spread between cells, and their
    number. Cells count by their valid area."""

    mean: float
    error: float
    spread: float
    count: int


def cell_mean(cells: pd.DataFrame, measure: Measure) -> CellMean:
    """The valid-area weighted mean of a measure over all cells that have a value.

    The standard error is propagated from the cells' own (NaN where they have none).
    """
    values, errors = measure.values(cells), measure.errors(cells)
    weights = np.ones(len(cells))
    if "valid_fraction" in cells.columns:
        weights = np.nan_to_num(np.asarray(cells["valid_fraction"], np.float64))
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return CellMean(np.nan, np.nan, np.nan, 0)
    values, errors, weights = values[known], errors[known], weights[known]
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    has_error = np.isfinite(errors)
    error = np.nan
    if has_error.any():
        # A cell with a value but no error counts with the typical one.
        filled = np.where(has_error, errors, np.median(errors[has_error]))
        error = float(np.sqrt(((weights * filled) ** 2).sum()) / weights.sum())
    return CellMean(mean, error, spread, int(known.sum()))
