"""What was measured on the grid: columns of cells.csv, their names and units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A measured column: its title, and the unit and factor it is shown in."""

    column: str
    title: str
    unit: str
    factor: float

    def values(self, table: pd.DataFrame) -> FloatArray:
        """The column in the unit shown, NaN where nothing was measured."""
        return np.asarray(table[self.column], np.float64) * self.factor

    def errors(self, table: pd.DataFrame) -> FloatArray:
        """Its standard errors in the unit shown; NaN where the table has none."""
        name = f"{self.column}_se"
        if name not in table.columns:
            return np.full(len(table), np.nan)
        return np.asarray(table[name], np.float64) * self.factor

    @property
    def label(self) -> str:
        """Title and unit for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


KNOWN = (
    Measure("bcc_fraction", "BCC phase fraction", "%", 100.0),
    Measure("lamellar_fraction", "Lamellar area fraction", "%", 100.0),
    Measure("lamella_width_um", "Lamella width", "µm", 1.0),
)
OTHERS = (
    Measure("bcc_fraction_label", "BCC fraction by label", "%", 100.0),
    Measure("point_fraction", "Fraction by points", "%", 100.0),
    Measure("interface_density_per_um", "Interface density", "1/µm", 1.0),
    Measure("interface_density_per_px", "Interface density", "1/px", 1.0),
    Measure("dark_width_um", "Dark lamellae", "µm", 1.0),
    Measure("bright_width_um", "Bright lamellae", "µm", 1.0),
    Measure("dark_width_px", "Dark lamellae", "px", 1.0),
    Measure("bright_width_px", "Bright lamellae", "px", 1.0),
)
IN_PIXELS = Measure("lamella_width_px", "Lamella width", "px", 1.0)


def measure_named(column: str) -> Measure:
    """How a column is shown: as one of the known measures, or by its own name."""
    for known in (*KNOWN, IN_PIXELS, *OTHERS):
        if known.column == column:
            return known
    unit = {"_um": "µm", "_nm": "nm", "_px": "px"}.get(column[-3:], "")
    title = (column[:-3] if unit else column).replace("_", " ")
    return Measure(column, title[:1].upper() + title[1:], unit, 1.0)


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """The three measures of the paper as far as the table has values, then those of plug-ins.

    Lengths are taken in px only where no pixel size gives micrometres. A plug-in's measure is
    a column that has a standard error (``NAME_se``) beside it.
    """
    measured = [
        column
        for column in table.columns
        if f"{column}_se" in table.columns and table[column].notna().any()
    ]
    doubled = {f"{column[:-3]}_px" for column in measured if column.endswith("_um")}
    order = [measure.column for measure in (*KNOWN, IN_PIXELS)]
    columns = [column for column in order if column in measured]
    columns += [column for column in measured if column not in order]
    return [measure_named(column) for column in columns if column not in doubled]
