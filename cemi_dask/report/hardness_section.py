"""The report's section on hardness: profiles beside it, correlations, models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cemi_dask.measures import Measure, measure_named
from cemi_dask.report import hardness_figures
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.hardness_figures import signed
from cemi_dask.report.numbers import count_text
from cemi_dask.report.page import Picture, Section, Table

CORRELATION_NOTE = (
    "n independent: what the autocorrelation of both series leaves of n (Dutilleul 1993); p and "
    "intervals use it. p by shifts: share of circular shifts with as strong an r. Partial r: the "
    "other measures of the model taken out."
)
MODEL_NOTE = (
    "R²: of the fit itself. Q²: share of the variance predicted of indents left out, one by one, "
    "and in five blocks of neighbours. A model whose R² is high and whose Q² is not, or whose R² "
    "as many random measures would reach, is over-fitted."
)


def hardness_section(data: RunFolderData, figures: FigureFolder) -> Section:
    """The relation to hardness, where hardness data were given."""
    title = ("hardness", "Relation to hardness")
    table = data.tables.get("correlation")
    if table is None or table.empty:
        return Section(*title, missing="Not drawn: no hardness data (analyse.hardness.file).")
    points = data.tables.get("correlation_points")
    if points is not None and "hardness" in points.columns:
        measures = [measure_named(name) for name in table["measure"] if name in points.columns]
        pictures = _pictures(points, table, measures, figures)
    else:
        figure = hardness_figures.correlation_plot(table)
        pictures = (figures.plot("correlation", figure, "Pearson r of each measure", ""),)
    tables = [_correlation_table(table)]
    models = data.tables.get("models")
    if models is not None and not models.empty:
        tables.append(_model_table(models))
    return Section(*title, text=_offset_text(table), pictures=pictures, tables=tuple(tables))


def _pictures(
    points: pd.DataFrame, table: pd.DataFrame, measures: list[Measure], figures: FigureFolder
) -> tuple[Picture, ...]:
    drawn = [m for m in measures if points[m.column].notna().any()]
    found = []
    if drawn:
        figure = hardness_figures.beside_hardness(points, drawn)
        caption = (
            "Each measure at the indents (left axis, coloured) and hardness (right axis, grey)."
        )
        alt = "Measures and hardness along x"
        found.append(figures.plot("hardness-profiles", figure, alt, caption))
    figure = hardness_figures.scatter_plots(points, table, measures)
    caption = "Pearson r with its 95 % confidence interval; line: least squares."
    found.append(figures.plot("hardness", figure, "Hardness against each measure", caption))
    return tuple(found)


def _offset_text(table: pd.DataFrame) -> tuple[str, ...]:
    if "p_search" not in table.columns or table["p_search"].isna().all():
        return ()
    best = float(table["p_search"].min())
    offset = float(table["x_offset_um"].iloc[0])
    return (
        f"The indents' x was moved by {offset:.4g} µm, the best of the offsets searched. Looking "
        "for the best finds one in anything: the p and intervals below do not know of the search; "
        f"paid for it, the smallest p is {best:.2g} (p_search in correlation.csv).",
    )


def _correlation_table(table: pd.DataFrame) -> Table:
    rows = [
        _correlation_row({str(k): v for k, v in row.items()}) for row in table.to_dict("records")
    ]
    heads = (
        "Measure",
        "n",
        "n independent",
        "Pearson r",
        "95 % interval",
        "p",
        "p by shifts",
        "Spearman r",
        "p of ranks",
        "Partial r",
    )
    return Table(heads, rows, caption=CORRELATION_NOTE, numeric=heads[1:])


def _correlation_row(row: dict[str, Any]) -> tuple[str, ...]:
    effective = float(row.get("n_effective", np.nan))
    return (
        measure_named(str(row["measure"])).title,
        count_text(row["n"]),
        f"{effective:.1f}" if np.isfinite(effective) else "–",
        signed(row["pearson_r"], 3),
        " to ".join(signed(row[name], 3) for name in ("ci_low", "ci_high")),
        _p(row, "p_value"),
        _p(row, "p_shift"),
        signed(float(row.get("spearman_r", np.nan)), 3),
        _p(row, "spearman_p"),
        signed(float(row.get("partial_r", np.nan)), 3),
    )


def _p(row: dict[str, Any], name: str) -> str:
    value = float(row.get(name, np.nan))
    if not np.isfinite(value):
        return "–"
    return hardness_figures.p_text(value).removeprefix("p ").removeprefix("= ")


def _model_table(models: pd.DataFrame) -> Table:
    rows = []
    for row in models.to_dict("records"):
        names = [measure_named(name).title for name in str(row["measures"]).split("+")]
        told = {True: "over-fitted", False: "holds"}.get(row["over_fitted"], "–")
        numbers = (signed(float(row[k]), 2) for k in ("r2", "r2_adjusted", "q2", "q2_blocks"))
        rows.append((str(row["model"]), ", ".join(names), count_text(row["n"]), *numbers, told))
    heads = ("Model", "Measures", "n", "R²", "R² adjusted", "Q²", "Q² by blocks", "")
    return Table(heads, rows, caption=MODEL_NOTE, numeric=heads[2:7])
