"""The sections of the report, each made from what the run folder holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cemi_dask import denoise, store
from cemi_dask.errors import StoreError
from cemi_dask.measures import measures_of
from cemi_dask.report import map_figures, mosaic_figures
from cemi_dask.report.details import choose_details
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import FramePair, RunFolderData
from cemi_dask.report.measures import cell_edges
from cemi_dask.report.numbers import bytes_text, count_text, duration_text
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Section, Table
from cemi_dask.report.style import length_unit

OVERVIEW_PX = 2200  # along each line of the overview, about what 300 dpi can show
NOISE_CROP_PX = 320  # three of them fit side by side
MADE_BY = "Not drawn: {what} comes from the stage {stage}, which this run has not reached."


def mosaic_sections(
    data: RunFolderData, figures: FigureFolder, options: ReportOptions
) -> list[Section]:
    """The overview of the mosaic, and crops at full resolution."""
    titles = (("mosaic", "Mosaic"), ("details", "Details at full resolution"))
    if data.mosaic is None:
        text = MADE_BY.format(what="the mosaic", stage="blend")
        return [Section(key, title, missing=text) for key, title in titles]
    details = choose_details(data, options)
    sections = []
    try:
        height, width = data.mosaic.shape
        lines = mosaic_figures.fold_count(width / height)
        small = store.thumbnail(data.mosaic, OVERVIEW_PX * lines)
    except StoreError:
        text = MADE_BY.format(what="the overview of a large mosaic", stage="pyramid")
        sections.append(Section(*titles[0], missing=text))
    else:
        figure = mosaic_figures.overview(small, data.mosaic.shape, details, pixel_um=data.pixel_um)
        alt = "The whole mosaic with axes and a scale bar"
        caption = "Pale grey: no frame."
        if isinstance(blender := data.run.get("blender"), dict):
            noise = "the same" if blender["keeps_noise"] else "lower"
            caption += f" Blended by {blender['method']}: noise is {noise} where frames overlap."
        if details:
            caption += " Orange frames: the details shown below."
        sections.append(
            Section(*titles[0], pictures=(figures.plot("overview", figure, alt, caption),))
        )
    if details:
        sections.append(_detail_section(titles[1], data, figures, details))
    return sections


def _detail_section(
    title: tuple[str, str],
    data: RunFolderData,
    figures: FigureFolder,
    details: list[mosaic_figures.Detail],
) -> Section:
    pictures = []
    labelled = False
    for detail in details:
        crop = data.crop(detail.box.slices)
        name = f"detail-{detail.letter}"
        figure = mosaic_figures.crop_figure(crop, pixel_um=data.pixel_um)
        pictures.append(
            figures.pixels(
                name, figure, f"Detail {detail.letter}", f"{detail.letter}: {detail.text}"
            )
        )
        bcc, lamellar = (data.label(label, detail.box.slices) for label in ("bcc", "lamellar"))
        if bcc is None and lamellar is None:
            continue
        labelled = True
        figure = mosaic_figures.crop_figure(
            mosaic_figures.tinted(crop, bcc=bcc, lamellar=lamellar), pixel_um=data.pixel_um
        )
        pictures.append(
            figures.pixels(
                f"{name}-segmented",
                figure,
                f"Detail {detail.letter}, segmented",
                f"{detail.letter}: BCC phase orange, border of lamellar regions blue.",
            )
        )
    text = ["One pixel of the mosaic is one pixel here."]
    if not labelled:
        text.append("The segmentation is not shown: the stage segment has not made it.")
    return Section(*title, text=tuple(text), pictures=tuple(pictures))


def map_sections(
    data: RunFolderData, figures: FigureFolder, options: ReportOptions
) -> list[Section]:
    """Heat maps and profiles of what was measured on the grid."""
    titles = (("maps", "Microstructure maps"), ("profiles", "Profiles along x"))
    cells, profile = data.tables.get("cells"), data.tables.get("profile")
    if cells is None or cells.empty:
        text = _no_analysis(data, "the table of cells")
        return [Section(key, title, missing=text) for key, title in titles]
    width_px = data.mosaic_shape[1] if data.mosaic_shape else 1.0
    unit = length_unit(width_px, data.pixel_um)
    measures = measures_of(cells)
    if not measures:
        text = "Not drawn: no cell of the grid holds anything measurable."
        return [Section(key, title, missing=text) for key, title in titles]
    figure = map_figures.heat_maps(cells, measures, unit, colormap=options.colormap)
    note = "Darker means higher. Colours span 1 to 99 % of the cells."
    if map_figures.has_gaps(cells, measures):
        note += " Hatched: nothing measurable."
    stretch = map_figures.vertical_stretch(cells, unit)
    if stretch > 1.05:
        note += f" The y axis is drawn {stretch:.1f} times enlarged."
    note += _flagged(cells)
    sections = [
        Section(
            *titles[0],
            pictures=(figures.plot("maps", figure, "Heat maps of the measures", note),),
        )
    ]
    if profile is None or profile.empty:
        return [*sections, Section(*titles[1], missing=_no_analysis(data, "the profile"))]
    edges, _ = cell_edges(cells, unit)
    figure = map_figures.profiles(
        profile,
        [m for m in measures if m.column in profile.columns],
        unit,
        (float(edges[0]), float(edges[-1])),
    )
    picture = figures.plot("profiles", figure, "Profiles of the measures along x", "")
    return [*sections, Section(*titles[1], pictures=(picture,))]


def _flagged(cells: pd.DataFrame) -> str:
    """How much of the lamellar area has no width that two methods agree on."""
    if "width_flagged_fraction" not in cells.columns:
        return ""
    known = cells.dropna(subset=["width_flagged_fraction"])
    if known.empty:
        return ""
    area = known["lamellar_fraction"].fillna(1.0) * known["valid_fraction"]
    weight = area if area.sum() > 0 else area + 1
    share = float(np.average(known["width_flagged_fraction"], weights=weight))
    return f" In {share:.0%} of the lamellar area, spectrum and chords differ by more than 5 %."


def _no_analysis(data: RunFolderData, what: str) -> str:
    config = data.run.get("config")
    if isinstance(config, dict) and "analyse" in config and config["analyse"] is None:
        return "Not drawn: the config asks for no analysis (analyse: null)."
    return MADE_BY.format(what=what, stage="analyse")


def denoising_section(data: RunFolderData, figures: FigureFolder) -> Section:
    """A frame before and after denoising, what was taken away, and the noise of both."""
    title = ("denoising", "Denoising")
    config = data.run.get("config")
    if isinstance(config, dict) and "denoise" in config and config["denoise"] is None:
        return Section(*title, missing="Not drawn: the config asks for no denoising.")
    try:
        pair = data.frame_pair()
    except StoreError as error:
        return Section(*title, missing=f"Not drawn: {error}")
    if pair is None:
        text = MADE_BY.format(what="the denoised frame store (frames.zarr)", stage="denoise")
        return Section(*title, missing=text)
    return Section(*title, **_denoising_parts(pair, figures))


def _denoising_parts(pair: FramePair, figures: FigureFolder) -> dict[str, Any]:
    before, after = denoise.estimate_noise(pair.raw), denoise.estimate_noise(pair.denoised)
    height, width = pair.raw.shape
    tall, wide = min(height, NOISE_CROP_PX), min(width, NOISE_CROP_PX)
    top, left = (height - tall) // 2, (width - wide) // 2
    part = (slice(top, top + tall), slice(left, left + wide))
    raw, denoised = pair.raw[part], pair.denoised[part]
    limits = mosaic_figures.grey_limits(raw)
    removed = raw.astype(np.float32) - denoised.astype(np.float32)
    far = max(3 * before, 1e-6)
    views = (
        ("raw", raw, limits, f"Raw: noise {before:.3g} grey levels."),
        ("denoised", denoised, limits, f"Denoised: noise {after:.3g} grey levels."),
        # Removed noise is shown around mid-grey; 0 would be taken for "no data".
        (
            "removed",
            removed + 2 * far,
            (far, 3 * far),
            "What was removed (should show no structure).",
        ),
    )
    pictures = tuple(
        figures.pixels(
            f"denoising-{name}",
            mosaic_figures.crop_figure(view, pixel_um=None, limits=shown, bar=False),
            caption,
            caption,
        )
        for name, view, shown, caption in views
    )
    text = (
        f"The middle of frame {pair.index} of {pair.key}. Noise is the estimated standard "
        "deviation of white noise."
    )
    return {"text": (text,), "pictures": pictures}


def timing_section(data: RunFolderData) -> Section:
    """Time per stage and peak memory per process."""
    stages = data.run.get("stages", {})
    walls = [float(stage.get("wall_s", 0)) for stage in stages.values()]
    longest = max(walls, default=0.0) or 1.0
    rows = [
        (
            name,
            count_text(stage.get("items", 0)),
            count_text(stage.get("skipped", 0)),
            duration_text(float(stage.get("cpu_s", 0))),
            duration_text(wall),
        )
        for (name, stage), wall in zip(stages.items(), walls, strict=True)
    ]
    heads = ("Stage", "Items", "Reused", "CPU time", "Time")
    tables = []
    if rows:
        bars = tuple(wall / longest for wall in walls)
        tables.append(Table(heads, rows, numeric=heads[1:], bars=bars))
    peaks = data.run.get("memory", {}).get("peak_rss_bytes", {})
    if peaks:
        processes = [(str(name), bytes_text(float(size))) for name, size in peaks.items()]
        tables.append(Table(("Process", "Peak memory"), processes, numeric=("Peak memory",)))
    missing = "" if tables else "run.json holds no timings."
    return Section("timings", "Time and memory", tables=tuple(tables), missing=missing)


def provenance_sections(data: RunFolderData) -> list[Section]:
    """Versions, and the exact config."""
    versions = {"cemi_dask": data.run.get("cemi_dask", "unknown"), **data.run.get("versions", {})}
    rows = [(str(name), str(version)) for name, version in versions.items()]
    return [
        Section("versions", "Versions", tables=(Table(("Software", "Version"), rows),)),
        Section(
            "config",
            "Configuration",
            text=("As resolved, defaults included: the same file repeats this run.",),
            code=str(data.run.get("config_yaml", "")),
        ),
    ]
