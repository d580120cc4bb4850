"""Figures of the grid of cells: heat maps, and profiles along x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cemi_dask.errors import ConfigError
from cemi_dask.measures import FloatArray, Measure
from cemi_dask.report.measures import cell_edges, places, to_grid
from cemi_dask.report.style import (
    BLUE,
    FAINT,
    GREEN,
    RED,
    WIDTH_IN,
    Unit,
    beside,
    new_figure,
    stacked,
    strip_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Limits = tuple[float, float, str]  # lowest and highest value shown, which ends are open
LINE_COLOURS = (BLUE, GREEN, RED)
# Cells in which nothing is measurable.
GAP: dict[str, Any] = {
    "facecolor": "#dde2e6",
    "edgecolor": "#93a0ab",
    "hatch": "//////",
    "linewidth": 0.0,
}
LEAST_HEIGHT_IN = 0.6
STRIP = 2.5  # maps longer than this times their height lie below each other
PER_LINE = 3  # others side by side


def heat_maps(cells: pd.DataFrame, measures: list[Measure], unit: Unit, *, colormap: str) -> Figure:
    """One map per measure in physical units, darker where it is higher.

    Maps of a strip lie below each other, others side by side. Cells without a value are
    hatched.
    """
    x, y = cell_edges(cells, unit)
    wide, high = x[-1] - x[0], y[-1] - y[0]
    if wide >= STRIP * high:
        tall = strip_height(wide, high, least_in=LEAST_HEIGHT_IN)
        figure, all_axes = stacked([tall] * len(measures), gap_in=0.5)
        low_axes, left_axes = all_axes[-1:], all_axes
    else:
        figure, all_axes = _side_by_side(len(measures), high / wide)
        low_axes, left_axes = all_axes, all_axes[::PER_LINE]
    for axes, measure in zip(all_axes, measures, strict=True):
        grid = to_grid(cells, measure.values(cells))
        limits = colour_limits(grid[np.isfinite(grid)])
        draw_map(axes, (x, y), grid, measure.unit, limits, colour_map(colormap))
        axes.set_title(measure.title)
    for axes in left_axes:
        axes.set_ylabel(f"y ({unit.name})")
    for axes in low_axes:
        axes.set_xlabel(f"x ({unit.name})")
    if left_axes is all_axes and has_gaps(cells, measures):
        _legend_of_gaps(all_axes[0])
    return figure


def has_gaps(cells: pd.DataFrame, measures: list[Measure]) -> bool:
    """True where some cell has no value, which the maps show hatched."""
    return bool(cells[[measure.column for measure in measures]].isna().to_numpy().any())


def _side_by_side(count: int, shape: float) -> tuple[Figure, list[Axes]]:
    """Axes of height to width ratio `shape`, three in a line, with room for colour bars."""
    left, right, gap, top, bottom = 0.5, 0.68, 0.95, 0.28, 0.5
    wide = (WIDTH_IN - left - right - gap * (PER_LINE - 1)) / PER_LINE
    tall = wide * shape
    lines = -(-count // PER_LINE)
    line = top + tall + bottom
    figure = new_figure(line * lines)
    axes = []
    for number in range(count):
        row, col = divmod(number, PER_LINE)
        x, y = left + col * (wide + gap), line * (lines - row) - top - tall
        place = (x / WIDTH_IN, y / (line * lines), wide / WIDTH_IN, tall / (line * lines))
        axes.append(figure.add_axes(place))
    return figure, axes


def vertical_stretch(cells: pd.DataFrame, unit: Unit) -> float:
    """How many times larger than the x axis the y axis of the heat maps is drawn."""
    x, y = cell_edges(cells, unit)
    wide, high = x[-1] - x[0], y[-1] - y[0]
    if wide < STRIP * high:
        return 1.0
    to_scale = strip_height(wide, high, least_in=0.0)
    return max(1.0, LEAST_HEIGHT_IN / to_scale)


def draw_map(
    axes: Axes,
    edges: tuple[FloatArray, FloatArray],
    grid: FloatArray,
    unit: str,
    limits: Limits,
    cmap: Colormap,
) -> None:
    """Values on the grid of cells with borders `edges` (x, y), and a colour bar with `unit`."""
    from matplotlib.patches import Rectangle

    (x, y), (low, high, extend) = edges, limits
    axes.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], zorder=0, **GAP))
    mesh = axes.pcolormesh(
        x, y, np.ma.masked_invalid(grid), cmap=cmap, vmin=low, vmax=high, rasterized=True, zorder=1
    )
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[-1], y[0])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    bar = axes.figure.colorbar(mesh, cax=beside(axes), extend=extend, extendrect=True)
    bar.ax.set_title(unit, loc="left", fontweight="normal", fontsize=7.5)
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


def colour_limits(known: FloatArray) -> Limits:
    """Colour limits at 1 and 99 % of the values, and which ends the colour bar leaves open."""
    if known.size == 0:
        return 0.0, 1.0, "neither"
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    if high <= low:
        pad = abs(low) * 0.01 or 1.0
        return low - pad, high + pad, "neither"
    below, above = bool((known < low).any()), bool((known > high).any())
    return low, high, {(0, 0): "neither", (1, 0): "min", (0, 1): "max"}.get((below, above), "both")


def colour_map(name: str) -> Colormap:
    """Matplotlib's colour map of that name; ConfigError where there is none."""
    import matplotlib

    try:
        return matplotlib.colormaps[name]
    except KeyError as error:
        raise ConfigError(
            f"report.colormap: matplotlib has no colour map {name!r}. Take viridis_r, cividis_r "
            "or another of its names."
        ) from error


def profiles(
    profile: pd.DataFrame, measures: list[Measure], unit: Unit, x_limits: tuple[float, float]
) -> Figure:
    """Each measure averaged along y against x, with a band of one standard error."""
    figure, all_axes = stacked([1.1] * len(measures), gap_in=0.32)
    x = places(profile, "x", unit)
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
