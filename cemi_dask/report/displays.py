"""Figures and HTML of single results, for notebooks: the report's drawings of one thing each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from cemi_dask.analyse import Cells
from cemi_dask.errors import CemiError, InputError
from cemi_dask.geometry import Layout
from cemi_dask.measures import measure_named, measures_of
from cemi_dask.overlap import OverlapGraph
from cemi_dask.report.link_figures import Links, link_status
from cemi_dask.report.map_figures import heat_maps
from cemi_dask.report.mosaic_figures import overview
from cemi_dask.report.quality_figures import placement, status_counts
from cemi_dask.report.style import data_uri, drawing, length_text, length_unit, png_bytes
from cemi_dask.solve import SolveOptions, pairs_table, solve
from cemi_dask.store import Mosaic
from cemi_dask.store.thumbnail import thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110.0
MOST_FRAMES = 5000  # of a result that draws itself unasked: solving them takes about 5 s
THUMBNAIL_PX = 2000
COLORMAP = "viridis_r"  # as in the report: darker is more


def figure_of(value: Any, **options: Any) -> Figure:
    """The figure of a result; InputError where it holds nothing to draw."""
    with drawing():
        return draw(value, **options)


def html_of(value: Any) -> str:
    """Facts of a result, and its figure; where it cannot be drawn, the reason."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in facts(value).items()
    )
    return f"<div><b>{type(value).__name__}</b><table>{rows}</table>{_picture(value)}</div>"


def _picture(value: Any) -> str:
    if isinstance(value, Layout | OverlapGraph) and len(value) > MOST_FRAMES:
        return f"<p>More than {MOST_FRAMES} frames: <code>.plot()</code> draws them.</p>"
    try:
        png = png_bytes(figure_of(value), DPI)
    except CemiError as error:
        return f"<p>{escape(str(error))}</p>"
    return f'<img style="max-width:100%" alt="{type(value).__name__}" src="{data_uri(png)}">'


@singledispatch
def draw(value: Any, **options: Any) -> Figure:
    """The figure of a result, drawn with the settings that are in force."""
    raise InputError(f"There is no figure of a {type(value).__name__}.")


@singledispatch
def facts(value: Any) -> dict[str, str]:
    """What is told of a result in words, by name."""
    raise InputError(f"Nothing is told of a {type(value).__name__}.")


@draw.register(Layout)
def _layout_figure(layout: Layout, *, pixel_um: float | None = None) -> Figure:
    if not layout.used.any():
        raise InputError("The layout places no frame, so there is nothing to draw.")
    used = layout.part(np.flatnonzero(layout.used)).to_origin()
    return placement(_places(used), used.shape, pixel_um=pixel_um)


@facts.register(Layout)
def _layout_facts(layout: Layout) -> dict[str, str]:
    used = int(layout.used.sum())
    told = {"frames": f"{used} used of {len(layout)}, {_size(layout.frame_shape)} each"}
    if not used:
        return told
    sigma = np.hypot(layout.sigma_x_px, layout.sigma_y_px)[layout.used]
    known = sigma[np.isfinite(sigma)]
    told["mosaic"] = _size(layout.to_origin().shape)
    told["standard deviation of a position"] = (
        f"median {np.median(known):.3g} px, largest {known.max():.3g} px"
        if known.size
        else "unknown"
    )
    told["islands"] = str(len(np.unique(layout.component[layout.used])))
    if layout.distortion is not None:
        told["scan distortion"] = "one of all frames"
    return told


@draw.register(OverlapGraph)
def _graph_figure(
    graph: OverlapGraph, *, layout: Layout | None = None, pixel_um: float | None = None
) -> Figure:
    if not any(pair.peaks for pair in graph.pairs()):
        raise InputError("No pair of the graph has a displacement, so there is nothing to draw.")
    options = SolveOptions(allow_islands=True)
    place = solve(graph, options=options) if layout is None else layout
    place.check_fits(len(graph), graph.frame_shape)
    place = place.to_origin()
    pairs = pairs_table(graph, place, options=options)
    links = Links.of(pairs, _places(place)[place.used], place.shape)
    return link_status(links, pixel_um=pixel_um)


@facts.register(OverlapGraph)
def _graph_facts(graph: OverlapGraph) -> dict[str, str]:
    pairs = list(graph.pairs())
    counts = status_counts(pd.DataFrame({"status": [pair.status for pair in pairs]}, dtype=object))
    told = {
        "frames": f"{len(graph)}, {_size(graph.frame_shape)} each",
        "pairs": ", ".join([f"{len(pairs)} measured", *(f"{n} {status}" for status, n in counts)]),
    }
    scores = [pair.peaks[0].score for pair in pairs if pair.status == "ok" and pair.peaks]
    if scores:
        told["correlation of pairs that are ok"] = (
            f"median {np.median(scores):.2f}, least {min(scores):.2f}"
        )
    if graph.notes:
        told["notes"] = " ".join(graph.notes)
    return told


@draw.register(Mosaic)
def _mosaic_figure(mosaic: Mosaic) -> Figure:
    picture = thumbnail(mosaic, THUMBNAIL_PX)
    return overview(picture, mosaic.shape, [], pixel_um=mosaic.pixel_um)


@facts.register(Mosaic)
def _mosaic_facts(mosaic: Mosaic) -> dict[str, str]:
    unit = length_unit(mosaic.shape[1], mosaic.pixel_um)
    told = {"size": _size(mosaic.shape)}
    if mosaic.pixel_um:
        high, wide = (length_text(float(f"{n / unit.px:.4g}"), unit.name) for n in mosaic.shape)
        told["size"] += f" = {wide} x {high}"
        told["pixel"] = f"{mosaic.pixel_um:g} µm"
    told["grey levels"] = str(mosaic.levels[0].dtype)
    told["pyramid"] = f"{len(mosaic.levels)} levels, the coarsest {_size(mosaic.levels[-1].shape)}"
    told["labels"] = ", ".join(mosaic.labels) or "none"
    told["path"] = str(mosaic.path)
    return told


@draw.register(Cells)
def _cells_figure(cells: Cells, *, measures: Sequence[str] | None = None) -> Figure:
    known = [name for name in cells.table.columns if is_numeric_dtype(cells.table[name])]
    wrong = [name for name in measures or () if name not in known]
    if wrong:
        raise InputError(f"The cells have no measure {wrong[0]!r}; they have {known}.")
    drawn = measures_of(cells.table) if measures is None else [*map(measure_named, measures)]
    if not drawn:
        raise InputError("Nothing was measured in any cell, so there is nothing to draw.")
    unit = length_unit(cells.width_px, cells.pixel_um)
    return heat_maps(cells.table, drawn, unit, colormap=COLORMAP)


@facts.register(Cells)
def _cells_facts(cells: Cells) -> dict[str, str]:
    rows, cols = cells.shape
    told = {"grid": f"{rows} x {cols} cells"}
    for measure in measures_of(cells.table):
        values = measure.values(cells.table)
        known = values[np.isfinite(values)]
        told[measure.label] = (
            f"{known.mean():.3g}, from {known.min():.3g} to {known.max():.3g} in {known.size} cells"
        )
    return told


def _size(shape: tuple[int, ...]) -> str:
    """Width x height of an array (y, x)."""
    return f"{shape[1]} x {shape[0]} px"


def _places(layout: Layout) -> pd.DataFrame:
    """The columns of positions.csv that figures read."""
    names = ("x_px", "y_px", "sigma_x_px", "sigma_y_px", "component")
    return pd.DataFrame({"frame": range(len(layout)), **{n: getattr(layout, n) for n in names}})
