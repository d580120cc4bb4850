"""How the report's figures look, and how they become the same PNG bytes every time."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

WIDTH_IN = 7.2  # text width of a printed page
LEFT_IN, RIGHT_IN = 0.62, 0.78  # the same in every figure, so that x axes line up on the page
INK, FAINT, GRID, NO_DATA = "#1f2933", "#7b8794", "#dfe4e8", "#eceff1"
# Okabe and Ito 2008: told apart by colour-blind eyes.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 5.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
}


# Matplotlib's settings are the process's: of threads that draw, one has them at a time.
_DRAWING = threading.RLock()


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's own defaults plus `RC` inside the block, whatever the user's settings are."""
    import matplotlib

    settings: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    del settings["backend"]
    settings.update(RC)
    with _DRAWING, matplotlib.rc_context(settings):
        yield


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty Agg figure that notebooks show; no pyplot, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from cemi_dask.report.shown_figure import ShownFigure

    figure = ShownFigure(figsize=(width_in, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def stacked(
    heights_in: Sequence[float],
    *,
    gap_in: float = 0.42,
    top_in: float = 0.26,
    right_in: float = RIGHT_IN,
) -> tuple[Figure, list[Axes]]:
    """A full-width figure with one axes per height, below each other, x axes aligned."""
    bottom_in = 0.42
    total = top_in + bottom_in + sum(heights_in) + gap_in * (len(heights_in) - 1)
    figure = new_figure(total)
    width = (WIDTH_IN - LEFT_IN - right_in) / WIDTH_IN
    axes, y = [], total - top_in
    for height in heights_in:
        y -= height
        place = (LEFT_IN / WIDTH_IN, y / total, width, height / total)
        axes.append(figure.add_axes(place))
        y -= gap_in
    return figure, axes


def beside(axes: Axes, *, gap_in: float = 0.1, width_in: float = 0.11) -> Axes:
    """A narrow axes to the right of `axes`, as tall, for a colour bar."""
    figure = axes.figure
    box = axes.get_position()
    full = figure.get_figure(root=True).get_size_inches()[0]
    return figure.add_axes((box.x1 + gap_in / full, box.y0, width_in / full, box.height))


def colour_bar(axes: Axes, drawn: ScalarMappable, unit: str) -> None:
    """A colour bar of what was `drawn` to the right of `axes`, with its unit above."""
    from matplotlib.ticker import MaxNLocator

    bar = axes.figure.colorbar(drawn, cax=beside(axes))
    bar.locator = MaxNLocator(nbins=4)
    bar.update_ticks()
    bar.ax.set_title(unit, loc="left", fontweight="normal", fontsize=7.5)
    bar.outline.set_linewidth(0.6)


def png_bytes(figure: Figure, dpi: float) -> bytes:
    """The figure as PNG, the same bytes for the same drawing (no date, no program name)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def vector_bytes(figure: Figure, kind: Literal["pdf", "svg"]) -> bytes:
    """The figure as PDF or SVG, the same bytes for the same drawing (no date, no random names)."""
    from matplotlib import rc_context

    nobody: dict[str, Any] = {"Creator": None, "Producer": None, "CreationDate": None}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cemi", "pdf.fonttype": 42}):
        metadata = nobody if kind == "pdf" else {"Creator": None, "Date": None}
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def data_uri(picture: bytes, media: str = "image/png") -> str:
    """The picture as a data URI, so that the page needs no other file."""
    return f"data:{media};base64," + base64.b64encode(picture).decode("ascii")


@dataclass(frozen=True)
class Unit:
    """A unit of length for axes: its name, and how many pixels and micrometres it is."""

    name: str
    px: float
    um: float


def length_unit(width_px: float, pixel_um: float | None) -> Unit:
    """The unit for axes of a picture `width_px` wide: mm, µm below 1 mm, px if unknown."""
    if not pixel_um:
        return Unit("px", 1.0, 1.0)
    if width_px * pixel_um >= 1000:
        return Unit("mm", 1000.0 / pixel_um, 1000.0)
    return Unit("µm", 1.0 / pixel_um, 1.0)


def length_text(value: float, unit: str) -> str:
    """A length with its unit: 0.2 mm, 50 µm; below 0.1 mm in µm, from 1000 µm in mm."""
    if unit == "mm" and value < 0.1:
        value, unit = value * 1000, "µm"
    elif unit == "µm" and value >= 1000:
        value, unit = value / 1000, "mm"
    return f"{value:g} {unit}"


def strip_height(
    width: float,
    height: float,
    *,
    least_in: float,
    most_in: float = 5.0,
    right_in: float = RIGHT_IN,
) -> float:
    """Height in inches of full-width axes that show width x height to scale, within limits."""
    scaled = (WIDTH_IN - LEFT_IN - right_in) * height / width
    return min(most_in, max(least_in, scaled))


def on_picture() -> dict[str, Any]:
    """The backing of text drawn on a picture."""
    return {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
