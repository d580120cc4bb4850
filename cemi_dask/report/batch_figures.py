"""One measure of many ingots: a map and a profile of each, on the same scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cemi_dask.measures import Measure
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.map_figures import colour_limits, colour_map, draw_map, few_ticks
from cemi_dask.report.measures import cell_edges, places, to_grid
from cemi_dask.report.style import BLUE, WIDTH_IN, length_unit, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAP_IN, PROFILE_IN = 3.0, 2.5  # widths
LEFT_IN, GAP_IN = 0.5, 0.95  # before the map; between it and the profile, colour bar included
LEAST_IN, MOST_IN = 0.55, 2.0  # heights
TITLE_IN, BELOW_IN = 0.27, 0.42


def side_by_side(runs: Mapping[str, RunFolderData], measure: Measure, *, colormap: str) -> Figure:
    """A line per ingot: its map of `measure` to the left, its profile along x to the right.

    All have the same limits of colours and of values; lengths are in the unit that suits each.
    """
    every = np.concatenate([measure.values(run.tables["cells"]) for run in runs.values()])
    limits = colour_limits(every[np.isfinite(every)])
    heights = [_height(run) for run in runs.values()]
    figure = new_figure(sum(heights) + len(heights) * (TITLE_IN + BELOW_IN))
    y = full = float(figure.get_size_inches()[1])
    for (name, run), tall in zip(runs.items(), heights, strict=True):
        y -= TITLE_IN + tall
        cells, profile = run.tables["cells"], run.tables.get("profile")
        unit = length_unit(_width_px(run), run.pixel_um)
        box = (LEFT_IN / WIDTH_IN, y / full, MAP_IN / WIDTH_IN, tall / full)
        axes = figure.add_axes(box)
        edges = cell_edges(cells, unit)
        grid = to_grid(cells, measure.values(cells))
        draw_map(axes, edges, grid, measure.unit, limits, colour_map(colormap))
        axes.set_title(name)
        axes.set_xlabel(f"x ({unit.name})", labelpad=1)
        axes.set_ylabel(f"y ({unit.name})")
        if profile is not None and measure.column in profile:
            left = (LEFT_IN + MAP_IN + GAP_IN) / WIDTH_IN
            beside = figure.add_axes((left, box[1], PROFILE_IN / WIDTH_IN, box[3]))
            x, values = places(profile, "x", unit), measure.values(profile)
            errors = np.nan_to_num(measure.errors(profile))
            beside.fill_between(x, values - errors, values + errors, color=BLUE, alpha=0.25, lw=0)
            beside.plot(x, values, color=BLUE)
            beside.set_xlim(edges[0][0], edges[0][-1])
            beside.set_ylim(*limits[:2])
            beside.yaxis.set_major_locator(few_ticks())
            beside.set_xlabel(f"x ({unit.name})", labelpad=1)
            beside.grid(visible=True)
        y -= BELOW_IN
    return figure


def _width_px(run: RunFolderData) -> float:
    return float((run.mosaic_shape or (1, 1))[1])


def _height(run: RunFolderData) -> float:
    """Inches that the map is high: to scale, within limits."""
    unit = length_unit(_width_px(run), run.pixel_um)
    x, y = cell_edges(run.tables["cells"], unit)
    return float(min(MOST_IN, max(LEAST_IN, MAP_IN * (y[-1] - y[0]) / (x[-1] - x[0]))))
