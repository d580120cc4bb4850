"""Figures of the grid of cells: heat maps, and profiles along x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.errors import ConfigError
from cemi_dask.report.style import (
    BLUE,
    FAINT,
    GREEN,
    RED,
    Unit,
    beside,
    stacked,
    strip_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
LINE_COLOURS = (BLUE, GREEN, RED)
# Cells in which nothing is measurable.
GAP: dict[str, Any] = {
    "facecolor": "#dde2e6",
    "edgecolor": "#93a0ab",
    "hatch": "//////",
    "linewidth": 0.0,
}


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
IN_PIXELS = Measure("lamella_width_px", "Lamella width", "px", 1.0)


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """The three measures of the paper as far as the table has them, then those of plug-ins.

    Lamella width is taken in px where no pixel size gives micrometres. A plug-in's measure is
    a column that has a standard error (``NAME_se``) beside it.
    """
    found = [m for m in KNOWN if m.column in table.columns and table[m.column].notna().any()]
    columns = set(table.columns)
    has_width = any(m.column == "lamella_width_um" for m in found)
    if not has_width and IN_PIXELS.column in columns and table[IN_PIXELS.column].notna().any():
        found.append(IN_PIXELS)
    own = {m.column for m in KNOWN} | {IN_PIXELS.column}
    for column in table.columns:
        if f"{column}_se" not in columns or column in own or column.endswith("_px"):
            continue
        unit = {"_um": "µm", "_nm": "nm"}.get(column[-3:], "")
        title = column.removesuffix(f"_{unit.replace('µ', 'u')}").replace("_", " ").capitalize()
        found.append(Measure(column, title, unit, 1.0))
    return found


def heat_maps(cells: pd.DataFrame, measures: list[Measure], unit: Unit, *, colormap: str) -> Figure:
    """One map per measure in physical units, darker where it is higher, below each other.

    Cells without a value are hatched.
    """
    x, y = cell_edges(cells, unit)
    tall = _map_height(x, y)
    figure, all_axes = stacked([tall] * len(measures), gap_in=0.5)
    for axes, measure in zip(all_axes, measures, strict=True):
        grid = to_grid(cells, measure.values(cells))
        _heat_map(axes, x, y, grid, measure, _colour_map(colormap))
        axes.set_ylabel(f"y ({unit.name})")
    if cells[[m.column for m in measures]].isna().to_numpy().any():
        _legend_of_gaps(all_axes[0])
    all_axes[-1].set_xlabel(f"x ({unit.name})")
    return figure


def _map_height(x: FloatArray, y: FloatArray) -> float:
    return strip_height(x[-1] - x[0], y[-1] - y[0], least_in=0.6, most_in=3.6)


def vertical_stretch(cells: pd.DataFrame, unit: Unit) -> float:
    """How many times larger than the x axis the y axis of the heat maps is drawn."""
    x, y = cell_edges(cells, unit)
    to_scale = strip_height(x[-1] - x[0], y[-1] - y[0], least_in=0.0, most_in=np.inf)
    return _map_height(x, y) / to_scale


def _heat_map(
    axes: Axes, x: FloatArray, y: FloatArray, grid: FloatArray, measure: Measure, cmap: Colormap
) -> None:
    """One measure on the grid, with its colour bar."""
    from matplotlib.patches import Rectangle

    known = grid[np.isfinite(grid)]
    low, high, extend = _robust_limits(known)
    axes.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], zorder=0, **GAP))
    mesh = axes.pcolormesh(
        x, y, np.ma.masked_invalid(grid), cmap=cmap, vmin=low, vmax=high, rasterized=True, zorder=1
    )
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[-1], y[0])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.set_title(measure.title)
    # extendrect and no extendfrac: triangles would make the bar differ between the maps.
    bar = axes.figure.colorbar(mesh, cax=beside(axes), extend=extend, extendrect=True)
    bar.set_label(measure.unit, rotation=0, ha="left", va="center", labelpad=6)
    bar.outline.set_linewidth(0.6)
    bar.locator = few_ticks()
    bar.update_ticks()


def _legend_of_gaps(axes: Axes) -> None:
    from matplotlib.patches import Patch

    axes.legend(
        handles=[Patch(label="nothing measurable", **GAP)],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.1,
        handlelength=1.6,
    )


def few_ticks() -> Any:
    """A locator of at most five round tick values."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])


def _robust_limits(known: FloatArray) -> tuple[float, float, str]:
    """Colour limits at 1 and 99 % of the values, and which ends the colour bar leaves open."""
    if known.size == 0:
        return 0.0, 1.0, "neither"
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    if high <= low:
        pad = abs(low) * 0.01 or 1.0
        return low - pad, high + pad, "neither"
    below, above = bool((known < low).any()), bool((known > high).any())
    return low, high, {(0, 0): "neither", (1, 0): "min", (0, 1): "max"}.get((below, above), "both")


def _colour_map(name: str) -> Colormap:
    import matplotlib

    try:
        return matplotlib.colormaps[name]
    except KeyError as error:
        raise ConfigError(
            f"report.colormap: matplotlib has no colour map {name!r}. Take viridis_r, cividis_r "
            "or another of its names."
        ) from error


def to_grid(cells: pd.DataFrame, values: FloatArray) -> FloatArray:
    """Values of the cells as an array (rows, cols), NaN where there is no cell."""
    rows, cols = np.asarray(cells["row"], int), np.asarray(cells["col"], int)
    grid = np.full((rows.max() + 1, cols.max() + 1), np.nan)
    grid[rows, cols] = values
    return grid


def cell_edges(cells: pd.DataFrame, unit: Unit) -> tuple[FloatArray, FloatArray]:
    """Borders of the columns (along x) and rows (along y) of cells in `unit`.

    Cells are numbered instead where their places in micrometres are unknown.
    """
    found = []
    for index, place, size in (("col", "x_um", "width_um"), ("row", "y_um", "height_um")):
        first = cells.drop_duplicates(index).sort_values(index)
        low = np.asarray(first[place], np.float64)
        wide = np.asarray(first[size], np.float64)
        if not (np.isfinite(low).all() and np.isfinite(wide).all()):
            found.append(np.arange(len(first) + 1, dtype=np.float64))
            continue
        found.append(np.append(low, low[-1] + wide[-1]) / unit.um)
    return found[0], found[1]


def profiles(
    profile: pd.DataFrame, measures: list[Measure], unit: Unit, x_limits: tuple[float, float]
) -> Figure:
    """Each measure averaged along y against x, with a band of one standard error."""
    figure, all_axes = stacked([1.1] * len(measures), gap_in=0.32)
    x = np.asarray(profile["x_um"], np.float64) / unit.um
    marker = "o" if len(x) <= 60 else ""
    for number, (axes, measure) in enumerate(zip(all_axes, measures, strict=True)):
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        values, errors = measure.values(profile), measure.errors(profile)
        band = np.isfinite(errors)
        axes.fill_between(
            x, values - errors, values + errors, where=band, color=colour, alpha=0.25, lw=0
        )
        axes.plot(x, values, color=colour, marker=marker, markersize=2.6)
        axes.set_title(measure.title)
        axes.set_ylabel(measure.unit)
        axes.set_xlim(*x_limits)
        axes.yaxis.set_major_locator(few_ticks())
        axes.grid(visible=True)
        axes.tick_params(labelbottom=axes is all_axes[-1])
    all_axes[-1].set_xlabel(f"x ({unit.name})")
    all_axes[0].annotate(
        "band: ± 1 standard error",
        (1, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        color=FAINT,
        fontsize=7.5,
    )
    return figure
