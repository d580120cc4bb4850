"""Figures of hardness against the measures of the microstructure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.report.map_figures import IN_PIXELS, KNOWN, Measure, few_ticks
from cemi_dask.report.style import BLUE, FAINT, INK, new_figure, stacked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]


def fit_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def scatter_plots(
    points: pd.DataFrame, correlation: pd.DataFrame, measures: list[Measure]
) -> Figure:
    """Hardness against each measure, with the least-squares line and the correlation."""
    per_line = 3
    lines = -(-len(measures) // per_line)
    figure = new_figure(2.75 * lines)
    all_axes = figure.subplots(lines, per_line, squeeze=False).ravel()
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.16, top=0.80, wspace=0.32, hspace=0.7)
    by_measure = correlation.set_index("measure")
    for number, axes in enumerate(all_axes):
        if number >= len(measures):
            axes.set_visible(False)
            continue
        measure = measures[number]
        x, y = measure.values(points), np.asarray(points["hardness"], np.float64)
        both = np.isfinite(x) & np.isfinite(y)
        axes.plot(x[both], y[both], "o", color=BLUE, markersize=3.5, alpha=0.7, mew=0)
        if both.sum() > 2 and np.ptp(x[both]) > 0:
            slope, offset = fit_line(x[both], y[both])
            ends = np.array([x[both].min(), x[both].max()])
            axes.plot(ends, slope * ends + offset, color=INK, lw=0.9)
        axes.set_xlabel(measure.label)
        axes.set_title(_correlation_text(by_measure, measure.column), fontweight="normal")
        axes.grid(visible=True)
        axes.xaxis.set_major_locator(few_ticks())
        axes.yaxis.set_major_locator(few_ticks())
    for line in range(lines):
        all_axes[line * per_line].set_ylabel("Hardness")
    return figure


def _correlation_text(by_measure: pd.DataFrame, column: str) -> str:
    if column not in by_measure.index:
        return ""
    row = by_measure.loc[column].to_dict()
    return (
        f"r = {row['pearson_r']:.2f}  [{row['ci_low']:.2f}, {row['ci_high']:.2f}]\n"
        f"{p_text(float(row['p_value']))},  n = {int(row['n'])}"
    )


def p_text(p: float) -> str:
    """A p value as it is usually written; very small ones as a bound."""
    if not np.isfinite(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def correlation_plot(correlation: pd.DataFrame) -> Figure:
    """Pearson r of each measure with hardness, and its 95 % confidence interval."""
    titles = {m.column: m.title for m in (*KNOWN, IN_PIXELS)}
    count = len(correlation)
    figure, (axes,) = stacked([0.32 * count + 0.15], top_in=0.12)
    axes.set_position((0.27, *axes.get_position().bounds[1:2], 0.45, axes.get_position().height))
    place = np.arange(count)
    r = np.asarray(correlation["pearson_r"], np.float64)
    low = np.asarray(correlation["ci_low"], np.float64)
    high = np.asarray(correlation["ci_high"], np.float64)
    axes.errorbar(r, place, xerr=np.stack([r - low, high - r]), fmt="o", color=BLUE, ms=4.5, lw=1.4)
    axes.axvline(0, color=FAINT, lw=0.7)
    axes.set_yticks(place, [titles.get(m, str(m)) for m in correlation["measure"]])
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xlabel("Pearson r with hardness, 95 % confidence interval")
    axes.grid(visible=True, axis="x")
    for at, p, n in zip(place, correlation["p_value"], correlation["n"], strict=True):
        axes.text(1.06, float(at), f"{p_text(float(p))},  n = {int(n)}", va="center", fontsize=7.5)
    return figure
