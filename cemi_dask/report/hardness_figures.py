"""Figures of hardness against the measures of the microstructure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cemi_dask.measures import FloatArray, Measure, measure_named
from cemi_dask.report.map_figures import few_ticks
from cemi_dask.report.style import BLUE, FAINT, INK, WIDTH_IN, new_figure, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_LINE = 3


def fit_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def beside_hardness(points: pd.DataFrame, measures: list[Measure]) -> Figure:
    """Each measure along x, one below the other, with hardness on an axis of its own."""
    figure, all_axes = stacked([1.1] * len(measures), gap_in=0.32)
    x = np.asarray(points["x_um"], np.float64)
    hardness = np.asarray(points["hardness"], np.float64)
    error = np.asarray(points.get("hardness_error", np.full(len(points), np.nan)), np.float64)
    scale, unit = (1e-3, "mm") if np.ptp(x) >= 2000 else (1.0, "µm")
    for axes, measure in zip(all_axes, measures, strict=True):
        left, bottom, width, height = axes.get_position().bounds
        axes.set_position((left, bottom, width - 0.1 / WIDTH_IN, height))
        other = axes.twinx()
        other.errorbar(
            scale * x,
            hardness,
            yerr=np.nan_to_num(error),
            fmt="s-",
            color=FAINT,
            markersize=2.4,
            lw=0.8,
        )
        other.set_ylabel("Hardness", color=FAINT)
        axes.plot(scale * x, measure.values(points), "o-", color=BLUE, markersize=2.8, lw=1.1)
        axes.set_zorder(other.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.set_title(measure.title)
        axes.set_ylabel(measure.unit, color=BLUE)
        for each in (axes, other):
            each.yaxis.set_major_locator(few_ticks())
        axes.tick_params(labelbottom=axes is all_axes[-1])
    all_axes[-1].set_xlabel(f"x ({unit})")
    return figure


def scatter_plots(
    points: pd.DataFrame, correlation: pd.DataFrame, measures: list[Measure]
) -> Figure:
    """Hardness against each measure, with the least-squares line and the correlation."""
    left, gap, side, top, bottom = 0.55, 0.45, 1.75, 0.5, 0.5
    lines = -(-len(measures) // PER_LINE)
    wide = (WIDTH_IN - left - 0.12 - gap * (PER_LINE - 1)) / PER_LINE
    line = top + side + bottom
    figure = new_figure(line * lines)
    by_measure = correlation.set_index("measure")
    for number, measure in enumerate(measures):
        row, col = divmod(number, PER_LINE)
        x, y = left + col * (wide + gap), line * (lines - row) - top - side
        axes = figure.add_axes(
            (x / WIDTH_IN, y / (line * lines), wide / WIDTH_IN, side / (line * lines))
        )
        _scatter(axes, measure.values(points), np.asarray(points["hardness"], np.float64))
        axes.set_xlabel(measure.label)
        axes.set_title(
            _correlation_text(by_measure, measure.column), fontweight="normal", fontsize=7.5
        )
        if col == 0:
            axes.set_ylabel("Hardness")
    return figure


def _scatter(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    axes.plot(x, y, "o", color=BLUE, markersize=3.5, alpha=0.7, mew=0)
    if len(x) > 2 and np.ptp(x) > 0:
        slope, offset = fit_line(x, y)
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, slope * ends + offset, color=INK, lw=0.9)
    axes.grid(visible=True)
    axes.xaxis.set_major_locator(few_ticks())
    axes.yaxis.set_major_locator(few_ticks())


def _correlation_text(by_measure: pd.DataFrame, column: str) -> str:
    if column not in by_measure.index:
        return ""
    row: dict[str, Any] = by_measure.loc[[column]].to_dict("records")[0]  # type: ignore[assignment]
    interval = f"[{signed(row['ci_low'], 2)}, {signed(row['ci_high'], 2)}]"
    return (
        f"r = {signed(row['pearson_r'], 2)}  {interval}\n"
        f"{p_text(float(row['p_value']))},  {n_text(row).replace('independent', 'indep.')}"
    )


def signed(value: float, digits: int) -> str:
    """A number with a typographic minus; a dash where it is unknown."""
    return f"{value:.{digits}f}".replace("-", "−") if np.isfinite(value) else "–"


def n_text(row: dict[str, Any]) -> str:
    """Number of indents, and of independent ones where the table states it."""
    effective = float(row.get("n_effective", np.nan))
    text = f"n = {int(row['n'])}"
    return f"{text} ({effective:.1f} independent)" if np.isfinite(effective) else text


def p_text(p: float) -> str:
    """A p value as it is usually written; very small ones as a bound."""
    if not np.isfinite(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def correlation_plot(correlation: pd.DataFrame) -> Figure:
    """Pearson r of each measure with hardness, and its 95 % confidence interval."""
    count = len(correlation)
    figure, (axes,) = stacked([0.32 * count + 0.15], top_in=0.12)
    _, y, _, height = axes.get_position().bounds
    axes.set_position((0.25, y, 0.42, height))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    place = np.arange(count)
    r = np.asarray(correlation["pearson_r"], np.float64)
    low = np.asarray(correlation["ci_low"], np.float64)
    high = np.asarray(correlation["ci_high"], np.float64)
    axes.errorbar(r, place, xerr=np.stack([r - low, high - r]), fmt="o", color=BLUE, ms=4.5, lw=1.4)
    axes.axvline(0, color=FAINT, lw=0.7)
    axes.set_yticks(place, [measure_named(str(name)).title for name in correlation["measure"]])
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
    axes.set_xlabel("Pearson r with hardness, 95 % confidence interval")
    axes.grid(visible=True, axis="x")
    for at, row in zip(place, correlation.to_dict("records"), strict=True):
        text = f"{p_text(float(row['p_value']))},  {n_text({str(k): v for k, v in row.items()})}"
        axes.text(1.06, float(at), text, va="center", fontsize=7.5)
    return figure
