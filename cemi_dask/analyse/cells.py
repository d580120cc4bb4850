"""`Cells`: the table of cells as a thing that can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cemi_dask.display import Displayed
from cemi_dask.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLACES = ("row", "col", "x_px", "y_px", "width_px", "height_px", "x_um", "width_um")


@dataclass(frozen=True, eq=False)  # tables are not compared as a whole
class Cells(Displayed):
    """What was measured on a grid: `table` as `analyse` returns it, a row per cell.

    Raises InputError where the table has no cell, or does not say where cells lie.
    """

    table: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in _PLACES if name not in self.table.columns]
        if missing or self.table.empty:
            raise InputError(
                f"A table of {len(self.table)} rows without the columns {missing} is none of "
                "cells. Give what `analyse` returns, or cells.csv of a run."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the grid."""
        return int(self.table["row"].max()) + 1, int(self.table["col"].max()) + 1

    @property
    def pixel_um(self) -> float | None:
        """Size of a pixel of the mosaic; None where lengths are known in px only."""
        ratio = float(self.table["width_um"].iloc[0]) / float(self.table["width_px"].iloc[0])
        return ratio if np.isfinite(ratio) else None

    @property
    def width_px(self) -> float:
        """Where the last column of cells ends."""
        return float((self.table["x_px"] + self.table["width_px"] / 2).max())

    def plot(self, *, measures: Sequence[str] | None = None) -> Figure:
        """A matplotlib figure: a map of each measure in its unit, hatched where it has no value.

        `measures` names columns of the table, by default all that have values. Raises InputError
        where nothing was measured in any cell, or there is no such column.
        """
        return self._figure(measures=measures)
