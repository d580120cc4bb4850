"""Maps of the measured pairs on the mosaic: residual vectors, status, grey steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.report.mosaic_figures import mosaic_axes
from cemi_dask.report.quality_figures import STATUS_ORDER, frame_size, status_counts
from cemi_dask.report.style import (
    BLUE,
    INK,
    LEFT_IN,
    ORANGE,
    PURPLE,
    RED,
    RIGHT_IN,
    WIDTH_IN,
    colour_bar,
    length_unit,
)
from cemi_dask.scalebar import nice_length

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
COLOURS = dict(zip(STATUS_ORDER, ("#a9c6db", ORANGE, RED, PURPLE), strict=True))
APART_IN = 0.11  # of two arrows: closer ones cannot be told apart
USUAL_IN = 0.15  # length of an arrow that only one in twenty exceeds
CUT = 3.0  # times that: longer arrows would cross the whole map


@dataclass(frozen=True)
class Links:
    """m measured pairs whose frames both have a place in a mosaic of `shape` px.

    `ends` (m, 2, 2): x, y px of both frames' centres; `residual` (m, 2): measured minus solved
    displacement, px; `status` (m); `grey_step` (m), NaN where unknown.
    """

    shape: tuple[int, int]
    ends: FloatArray
    residual: FloatArray
    status: npt.NDArray[Any]
    grey_step: FloatArray

    @classmethod
    def of(cls, pairs: pd.DataFrame, placed: pd.DataFrame, shape: tuple[int, int]) -> Links:
        """The pairs of a run's table between frames of the table of `placed` ones."""
        known = pairs[pairs["i"].isin(placed["frame"]) & pairs["j"].isin(placed["frame"])]
        place = placed.set_index("frame")[["x_px", "y_px"]]
        first, second = (place.loc[known[k]].to_numpy(np.float64) for k in "ij")
        step = known.get("grey_step", pd.Series(np.nan, index=known.index))
        half = np.array(frame_size(placed, shape)[::-1]) / 2
        return cls(
            shape,
            np.stack([first, second], axis=1) + half,
            known[["dx_px", "dy_px"]].to_numpy(np.float64) - (second - first),
            known["status"].to_numpy(object),
            np.asarray(step, np.float64),
        )


def link_status(links: Links, *, pixel_um: float | None) -> Figure:
    """Every measured pair as a line between its frames' centres, coloured by status."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    unit = length_unit(links.shape[1], pixel_um)
    figure, all_axes = mosaic_axes(links.shape, unit)
    counts = status_counts(pd.DataFrame({"status": links.status}))
    width = _line_width(links, len(all_axes))
    for axes in all_axes:
        for status, _ in counts:  # in the order of trust: doubtful ones on top
            lines = links.ends[links.status == status] / unit.px
            wide = width if status == "ok" else 1.6 * width
            axes.add_collection(LineCollection(list(lines), color=COLOURS[status], lw=wide))
    all_axes[0].set_title("Measured pairs")
    all_axes[0].legend(
        handles=[
            Line2D([], [], color=COLOURS[status], lw=2, label=f"{status} {count}")
            for status, count in counts
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncol=len(counts),
        borderaxespad=0.2,
        handlelength=1.2,
    )
    return figure


def seam_steps(links: Links, *, pixel_um: float | None) -> Figure:
    """Pairs that hold, coloured by the grey step that gain and offset leave between them."""
    from matplotlib.collections import LineCollection

    unit = length_unit(links.shape[1], pixel_um)
    figure, all_axes = mosaic_axes(links.shape, unit)
    step = np.abs(links.grey_step)
    # The largest last, so that no other line covers it.
    order = np.argsort(step)[: int(np.isfinite(step).sum())]
    high = float(np.percentile(step[order], 99)) or 1.0
    for axes in all_axes:
        lines = LineCollection(
            list(links.ends[order] / unit.px),
            array=step[order],
            cmap="viridis_r",
            lw=1.6 * _line_width(links, len(all_axes)),
        )
        lines.set_clim(0, high)
        axes.add_collection(lines)
    all_axes[0].set_title("Grey step between overlapping frames")
    colour_bar(all_axes[0], lines, "levels")
    return figure


def residual_vectors(links: Links, *, pixel_um: float | None) -> tuple[Figure, str]:
    """Arrows from the middle of each accepted pair along its residual, and a note on them.

    Where arrows would lie closer than can be told apart, the longest of each place is shown.
    """
    unit = length_unit(links.shape[1], pixel_um)
    figure, all_axes = mosaic_axes(links.shape, unit)
    middle = links.ends.mean(axis=1)
    px_per_in = links.shape[1] / len(all_axes) / (WIDTH_IN - LEFT_IN - RIGHT_IN)
    accepted = np.flatnonzero(links.status == "ok")
    length = np.hypot(*links.residual.T)
    shown = _longest(accepted, length, middle // (APART_IN * px_per_in))
    usual = max(float(np.percentile(length[shown], 95)), 1e-9)
    cut = np.minimum(1.0, CUT * usual / np.maximum(length[shown], 1e-12))
    arrows = links.residual[shown] * cut[:, None]
    key = nice_length(usual)
    drawn = [
        # v points up on the page, y down in the mosaic.
        axes.quiver(
            *(middle[shown] / unit.px).T,
            arrows[:, 0],
            -arrows[:, 1],
            color=np.where(cut < 1, RED, BLUE),
            angles="uv",
            scale_units="inches",
            scale=usual / USUAL_IN,
            width=0.011,
            units="inches",
            headwidth=4,
            headlength=4,
            headaxislength=3.6,
        )
        for axes in all_axes
    ]
    all_axes[0].set_title("Measured minus solved displacement")
    all_axes[0].quiverkey(
        drawn[0],
        0.97,
        1.0 + 0.13 / _height_in(all_axes[0]),
        key,
        f"{key:g} px",
        labelpos="W",
        color=INK,
        coordinates="axes",
    )
    note = f"{len(shown)} of {len(accepted)} accepted pairs: the largest at each place. "
    note = note if len(shown) < len(accepted) else ""
    return figure, note + ("Red: longer than drawn." if (cut < 1).any() else "")


def _longest(
    which: npt.NDArray[np.int64], length: FloatArray, cell: FloatArray
) -> npt.NDArray[np.int64]:
    """Of the links `which`, the one of greatest length in each cell (m, 2)."""
    table = pd.DataFrame({"x": cell[which, 0], "y": cell[which, 1], "length": length[which]})
    best = table.groupby(["y", "x"], sort=True)["length"].idxmax()
    return np.asarray(which[best.to_numpy()], np.int64)


def _line_width(links: Links, lines: int) -> float:
    """Width in points that keeps lines apart where the mosaic is folded into `lines`."""
    return float(np.clip(18.0 * np.sqrt(lines / max(1, len(links.status))), 0.5, 1.5))


def _height_in(axes: Any) -> float:
    return float(axes.get_position().height * axes.figure.get_size_inches()[1])
