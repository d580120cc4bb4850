"""The summary of a batch: a table of all ingots, and their maps and profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cemi_dask import store
from cemi_dask.measures import Measure, measures_of
from cemi_dask.report.batch_figures import side_by_side
from cemi_dask.report.folder import RunFolderData, read_run_folder
from cemi_dask.report.numbers import cell_mean, count_text, duration_text, uncertain
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Page, Picture, Section, Table, render
from cemi_dask.report.style import drawing, png_bytes


@dataclass(frozen=True)
class Entry:
    """How an ingot of a batch ended: state is waiting, finished or failed (then with an error)."""

    name: str
    out: Path
    state: str
    wall_s: float = 0.0
    error: str = ""


def write_batch(
    folder: Path, entries: Sequence[Entry], options: ReportOptions | None = None
) -> Path:
    """``batch.csv`` and ``index.html`` in `folder`; the path of the page.

    Reads the run folders of those ingots that are finished. The page needs no other file; its
    links lead to the reports in the run folders, where these lie below `folder`.
    """
    runs = {e.name: read_run_folder(e.out) for e in entries if e.state == "finished"}
    measures = _measures(list(runs.values()))
    options = options or ReportOptions()
    rows = [_row(entry, runs.get(entry.name), measures, folder) for entry in entries]
    with store.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    store.write_text_atomic(
        folder / "batch.csv", pd.DataFrame(rows).convert_dtypes().to_csv(index=False)
    )
    sections = [_table(entries, runs, measures, folder)]
    measured = {name: run for name, run in runs.items() if "cells" in run.tables}
    with drawing():
        for measure in measures:
            with_it = {n: r for n, r in measured.items() if _has(r, measure)}
            figure = side_by_side(with_it, measure, colormap=options.colormap)
            alt = f"Maps and profiles of {measure.title} of {len(with_it)} ingots"
            caption = "One scale of colours and of values for all. Hatched: nothing measurable."
            picture = Picture(png_bytes(figure, options.page_dpi), alt, caption)
            sections.append(Section(measure.column, measure.title, pictures=(picture,)))
    failed = [entry for entry in entries if entry.error]
    page = Page(
        title=folder.resolve().name,
        subtitle=f"{len(entries)} ingots, {len(runs)} finished, {len(failed)} failed",
        numbers=(),
        sections=sections,
        warnings=[f"{entry.name}: {entry.error}" for entry in failed],
        footer="Made from the run folders of the ingots.",
    )
    store.write_text_atomic(folder / "index.html", render(page))
    return folder / "index.html"


def _measures(runs: Sequence[RunFolderData]) -> list[Measure]:
    """Every measure that some ingot has, each once."""
    found: dict[str, Measure] = {}
    for run in runs:
        for measure in measures_of(run.tables["cells"]) if "cells" in run.tables else ():
            found.setdefault(measure.column, measure)
    return list(found.values())


def _has(run: RunFolderData, measure: Measure) -> bool:
    cells = run.tables.get("cells")
    return (
        cells is not None and measure.column in cells and bool(cells[measure.column].notna().any())
    )


def _row(
    entry: Entry, run: RunFolderData | None, measures: Sequence[Measure], folder: Path
) -> dict[str, Any]:
    """The row of batch.csv: measures in the units of cells.csv, empty where there is none."""
    height, width = (run.mosaic_shape if run else None) or (None, None)
    row: dict[str, Any] = {
        "name": entry.name,
        "state": entry.state,
        "run_folder": _relative(entry.out, folder),
        "frames_used": run.run.get("frames", {}).get("used") if run else None,
        "mosaic_width_px": width,
        "mosaic_height_px": height,
        "pixel_um": run.pixel_um if run else None,
        "warnings": len(run.run.get("warnings", ())) if run else None,
        "wall_s": round(entry.wall_s, 3) if entry.state != "waiting" else None,
    }
    for measure in measures:
        mean = cell_mean(run.tables["cells"], measure) if run and _has(run, measure) else None
        row[measure.column] = mean.mean / measure.factor if mean else None
        row[f"{measure.column}_se"] = mean.error / measure.factor if mean else None
    return {**row, "error": entry.error}


def _relative(out: Path, folder: Path) -> str:
    try:
        return out.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return out.resolve().as_posix()


def _table(
    entries: Sequence[Entry],
    runs: dict[str, RunFolderData],
    measures: Sequence[Measure],
    folder: Path,
) -> Section:
    """The ingots as a table whose names lead to their reports."""
    rows, links = [], []
    for entry in entries:
        run = runs.get(entry.name)
        cells = [entry.name, entry.state]
        shape = run.mosaic_shape if run else None
        used = run.run.get("frames", {}).get("used") if run else None
        cells.append("" if used is None else count_text(used))
        cells.append(f"{count_text(shape[1])} × {count_text(shape[0])}" if shape else "")
        for measure in measures:
            mean = cell_mean(run.tables["cells"], measure) if run and _has(run, measure) else None
            cells.append(uncertain(mean.mean, mean.error, measure.unit) if mean else "")
        cells.append(duration_text(entry.wall_s) if entry.state != "waiting" else "")
        rows.append(tuple(cells))
        links.append(quote(f"{_relative(entry.out, folder)}/report.html") if run else "")
    heads = ("Ingot", "State", "Frames", "Mosaic (px)", *(m.title for m in measures), "Time")
    table = Table(heads, rows, numeric=heads[2:], links=tuple(links))
    return Section("ingots", "Ingots", tables=(table,))
