"""`write_report`: a run folder becomes figures and one HTML page."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cemi_dask import store
from cemi_dask.errors import UnreadableError
from cemi_dask.explain import explain
from cemi_dask.measures import KNOWN, measures_of
from cemi_dask.report import sections
from cemi_dask.report.acquisition import acquisition_section
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import RunFolderData, read_run_folder
from cemi_dask.report.frame_section import frame_section
from cemi_dask.report.hardness_section import hardness_section
from cemi_dask.report.numbers import (
    cell_mean,
    count_text,
    duration_text,
    uncertain,
)
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Number, Page, render
from cemi_dask.report.stitching_section import stitching_section
from cemi_dask.report.style import drawing
from cemi_dask.report.zoom_section import zoom_section


def write_report(out: Path | str, *, options: ReportOptions | None = None) -> Path:
    """``report.html``, ``figures/*.png`` and the zoom of the run folder `out`; the page's path.

    Reads the run folder alone, and without `options` takes those of the run's own config. What
    the run has not made yet is left out with a line that names the stage that makes it. Raises
    UnreadableError where `out` is no run folder or run.json is damaged, StoreError where a
    table or the mosaic is.
    """
    data = read_run_folder(out)
    options = options or _own_options(data)
    figures = FigureFolder(data.path / "figures", options)
    with drawing():
        parts = [
            *sections.mosaic_sections(data, figures, options),
            *zoom_section(data, options),
            *sections.map_sections(data, figures, options),
            hardness_section(data, figures),
            stitching_section(data, figures, options),
            sections.denoising_section(data, figures),
            sections.timing_section(data),
            *acquisition_section(data),
            *frame_section(data, figures),
            *sections.provenance_sections(data),
        ]
    run = data.run
    page = Page(
        title=options.title or str(run.get("name") or data.path.name),
        subtitle=_subtitle(data),
        numbers=summary(data),
        sections=parts,
        warnings=[str(text) for text in run.get("warnings", [])],
        failure=str(run.get("error", "")) if run.get("state") == "failed" else "",
        footer=f"Made from the run folder {data.path.resolve().name}.",
    )
    store.write_text_atomic(data.path / "report.html", render(page))
    return data.path / "report.html"


def _own_options(data: RunFolderData) -> ReportOptions:
    """What the run's config asks of its report; the defaults where it says nothing."""
    given = (data.run.get("config") or {}).get("report") or {}
    try:
        return ReportOptions.model_validate(given)
    except ValidationError as error:
        raise UnreadableError(
            f"{data.path / 'run.json'} is damaged: config.report: {explain(error, given=given)}. "
            "Run the same command again to write it anew."
        ) from error


def _subtitle(data: RunFolderData) -> str:
    run = data.run
    started, stages = str(run.get("started", "")), run.get("stages", {})
    spent = sum(float(stage.get("wall_s", 0)) for stage in stages.values())
    begun = f"Run of {started[:16].replace('T', ' ')} UTC" if started else "Run"
    return f"{begun}, {duration_text(spent)} of work, by cemi_dask {run.get('cemi_dask', '')}"


def summary(data: RunFolderData) -> list[Number]:
    """The numbers at the head of the page, as far as the run has them."""
    return [*_mosaic_numbers(data), *_measure_numbers(data), *_placement_numbers(data)]


def _mosaic_numbers(data: RunFolderData) -> list[Number]:
    numbers = []
    shape, pixel_um = data.mosaic_shape, data.pixel_um
    if shape is not None:
        value = f"{count_text(shape[1])} × {count_text(shape[0])} px"
        size = ""
        if pixel_um:
            factor, unit = (1e-3, "mm") if shape[1] * pixel_um >= 1000 else (1.0, "µm")
            size = f"{shape[1] * pixel_um * factor:.4g} × {shape[0] * pixel_um * factor:.3g} {unit}"
        numbers.append(Number("Mosaic", value, size))
    frames = data.run.get("frames")
    if isinstance(frames, dict) and "used" in frames:
        detail = f"{count_text(frames.get('rejected', 0))} not used"
        numbers.append(Number("Frames used", count_text(frames["used"]), detail))
    known = "not stated by the input" if not pixel_um else ""
    numbers.append(Number("Pixel size", f"{pixel_um:.4g} µm" if pixel_um else "unknown", known))
    cells = data.tables.get("cells")
    if cells is not None and len(cells):
        grid = f"{cells['row'].max() + 1} × {cells['col'].max() + 1} cells"
        wide, high = cells["width_um"].median(), cells["height_um"].median()
        detail = f"{wide:.4g} × {high:.4g} µm each" if wide == wide else ""
        numbers.append(Number("Grid (rows × columns)", grid, detail))
    return numbers


def _measure_numbers(data: RunFolderData) -> list[Number]:
    cells = data.tables.get("cells")
    if cells is None:
        return []
    numbers = []
    for measure in measures_of(cells)[: len(KNOWN)]:
        mean = cell_mean(cells, measure)
        detail = f"cells differ by ± {mean.spread:.2g}{' ' if measure.unit else ''}{measure.unit}"
        value = uncertain(mean.mean, mean.error, measure.unit)
        numbers.append(Number(f"{measure.title}, mean", value, detail))
    return numbers


def _placement_numbers(data: RunFolderData) -> list[Number]:
    numbers = []
    pairs = data.tables.get("pairs")
    if pairs is not None and (pairs["status"] == "ok").any():
        accepted = pairs.loc[pairs["status"] == "ok", "residual_px"].abs()
        detail = f"median of {count_text(len(accepted))} accepted pairs"
        numbers.append(Number("Placement residual", f"{accepted.median():.2g} px", detail))
    return numbers
