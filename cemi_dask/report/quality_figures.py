"""Figures that show how well the frames were placed: sigma, islands, residuals, loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.report.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    colour_bar,
    length_unit,
    stacked,
    strip_height,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
ISLAND_COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE)
FEW = 300  # frames up to which each has a border
STATUS_ORDER = ("ok", "ambiguous", "rejected", "empty")


def frame_size(positions: pd.DataFrame, mosaic_shape: tuple[int, int]) -> tuple[float, float]:
    """(height, width) of a frame in px, from the mosaic they span."""
    height = mosaic_shape[0] - np.ceil(positions["y_px"].max())
    width = mosaic_shape[1] - np.ceil(positions["x_px"].max())
    return float(max(1.0, height)), float(max(1.0, width))


def placement(
    positions: pd.DataFrame, mosaic_shape: tuple[int, int], *, pixel_um: float | None
) -> Figure:
    """Every placed frame: by the standard deviation of its place along x and y, and by island.

    The last map is drawn only where the frames form more than one island.
    """
    height, width = mosaic_shape
    unit = length_unit(width, pixel_um)
    tall = strip_height(width, height, least_in=0.9, most_in=3.2)
    islands = np.asarray(positions["component"], int)
    several = len(np.unique(islands)) > 1
    figure, all_axes = stacked([tall] * (3 if several else 2), gap_in=0.5)
    corners = _corners(positions, frame_size(positions, mosaic_shape)) / unit.px
    for axes, along in zip(all_axes, "xy", strict=False):
        axes.set_title(f"Standard deviation of each frame's position along {along}")
        _by_sigma(axes, corners, positions[f"sigma_{along}_px"].to_numpy(np.float64))
    if several:
        _by_island(all_axes[2], corners, islands)
    for axes in all_axes:
        axes.set_xlim(0, width / unit.px)
        axes.set_ylim(height / unit.px, 0)
        axes.set_ylabel(f"y ({unit.name})")
    all_axes[-1].set_xlabel(f"x ({unit.name})")
    return figure


def _corners(positions: pd.DataFrame, size: tuple[float, float]) -> FloatArray:
    """(n, 4, 2) x, y of the frames' corners in px."""
    height, width = size
    x, y = (positions[name].to_numpy(np.float64) for name in ("x_px", "y_px"))
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)


def _line_width(count: int) -> float:
    return float(np.clip(14.0 / np.sqrt(count), 0.25, 1.1))


def _by_sigma(axes: Axes, corners: FloatArray, sigma: FloatArray) -> None:
    from matplotlib.collections import PolyCollection

    known = np.isfinite(sigma)
    if (~known).any():
        axes.add_collection(
            PolyCollection(
                list(corners[~known]), facecolor="none", edgecolor=FAINT, lw=0.6, ls="--"
            )
        )
    if not known.any():
        return
    # Filled, the later frame on top: outlines of thousands of frames are one blur.
    frames = PolyCollection(
        list(corners[known]),
        array=sigma[known],
        cmap="viridis_r",
        edgecolor="white",
        linewidth=_line_width(len(sigma)) if len(sigma) < FEW else 0.0,
    )
    low, high = (float(v) for v in np.percentile(sigma[known], [1, 99]))
    frames.set_clim(low, high if high > low else low + 1e-3)
    axes.add_collection(frames)
    colour_bar(axes, frames, "px")


def _by_island(axes: Axes, corners: FloatArray, islands: npt.NDArray[Any]) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

    axes.set_title("Islands: frames that measured overlaps link")
    handles = []
    for number in np.unique(islands):
        colour = ISLAND_COLOURS[min(number, len(ISLAND_COLOURS) - 1)]
        mine = islands == number
        axes.add_collection(
            PolyCollection(
                list(corners[mine]),
                facecolor="none",
                edgecolor=colour,
                lw=_line_width(len(islands)),
            )
        )
        if number < len(ISLAND_COLOURS):
            more = number == len(ISLAND_COLOURS) - 1 and islands.max() > number
            text = f"{number}{' and more' if more else ''}"
            handles.append(Line2D([], [], color=colour, label=text))
    axes.legend(
        handles=handles,
        title="Island",
        loc="upper left",
        bbox_to_anchor=(1.005, 1.0),
        handlelength=1.2,
    )


def residuals(pairs: pd.DataFrame) -> Figure:
    """Distribution of the accepted pairs' residuals: measured minus solved displacement."""
    values = pairs.loc[pairs["status"] == "ok", "residual_px"].to_numpy(np.float64)
    figure, (axes,) = stacked([1.5], top_in=0.12)
    _histogram(axes, {"": np.abs(values)})
    axes.set_xlabel("Residual of accepted pairs (px)")
    axes.set_ylabel("Pairs")
    return figure


def closures(loops: pd.DataFrame) -> Figure:
    """Distribution of the closing errors of loops of accepted pairs, see `loop_closures`."""
    figure, (axes,) = stacked([1.5], top_in=0.12)
    parts = {
        f"loops of {links}": loops.loc[loops["links"] == links, "closure_px"].to_numpy(np.float64)
        for links in (3, 4)
    }
    _histogram(axes, {name: values for name, values in parts.items() if len(values)})
    axes.set_xlabel("Closing error of loops of 3 and 4 accepted pairs (px)")
    axes.set_ylabel("Loops")
    axes.legend(loc="center right")
    return figure


def _histogram(axes: Axes, parts: dict[str, FloatArray]) -> None:
    """Stacked histogram of parts by name, with median and 95 % of them all."""
    parts = {name: values[np.isfinite(values)] for name, values in parts.items()}
    values = np.concatenate(list(parts.values()))
    high = float(np.percentile(values, 99.5)) * 1.05 if values.size else 1.0
    high = high if high > 0 else 1.0
    beyond = int((values > high).sum())
    axes.hist(
        [part[part <= high] for part in parts.values()],
        bins=min(60, max(10, int(np.sqrt(len(values))))),
        range=(0, high),
        stacked=True,
        color=(BLUE, ORANGE)[: len(parts)],
        label=list(parts),
        alpha=0.85,
    )
    axes.set_xlim(0, high)
    axes.grid(visible=True, axis="y")
    for share, name in ((50, "median"), (95, "95 %")):
        if values.size:
            at = float(np.percentile(values, share))
            axes.axvline(at, color=INK, lw=0.9, ls="--" if share == 95 else "-")
            axes.annotate(
                f"{name} {at:.3g} px",
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                fontsize=7.5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )
    if beyond:
        axes.text(
            0.995,
            0.7,
            f"{beyond} beyond the axis",
            transform=axes.transAxes,
            ha="right",
            color=FAINT,
            fontsize=7.5,
        )


def status_counts(pairs: pd.DataFrame) -> list[tuple[str, int]]:
    """How many pairs have each status, in the order of trust."""
    counts = pairs["status"].value_counts()
    return [(status, int(counts.get(status, 0))) for status in STATUS_ORDER]
