"""The section on how well the frames were placed, and which were left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cemi_dask.report import link_figures, quality_figures
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.numbers import count_text
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Picture, Section, Table
from cemi_dask.solve import loop_closures

MISSING = (
    "Not drawn: the placement of the frames comes from the stage solve, which this run has not "
    "reached."
)


def stitching_section(
    data: RunFolderData, figures: FigureFolder, options: ReportOptions
) -> Section:
    """How well the frames were placed, and which were left out."""
    pictures: list[Picture] = []
    tables: list[Table] = []
    text = []
    frames, positions, pairs = (data.tables.get(k) for k in ("frames", "positions", "pairs"))
    shape = data.mosaic_shape
    placed = None if positions is None else _used(positions, frames)
    if placed is None:
        text.append(MISSING)
    elif shape is not None and len(placed):
        pictures += _placement(placed, shape, figures, data.pixel_um)
    if pairs is not None:
        loops = loop_closures(pairs)
        pictures += _histograms(pairs, loops, figures)
        if placed is not None and shape is not None and len(placed):
            pictures += _maps(link_figures.Links.of(pairs, placed, shape), figures, data.pixel_um)
        tables += [_numbers(pairs, loops, placed), _pairs_table(pairs)]
    if frames is not None:
        unused = frames[~frames["used"].astype(bool)]
        if unused.empty:
            text.append("Every frame taken is used.")
        else:
            tables.append(_unused_table(unused, options.rejected_rows))
    if (told := distortion_text(data.run.get("distortion"))) is not None:
        text.append(told)
    if (facts := data.run.get("elastic")) is not None:
        text.append(elastic_text(facts))
    return Section(
        "stitching",
        "Stitching quality",
        text=tuple(text),
        pictures=tuple(pictures),
        tables=tuple(tables),
    )


def distortion_text(facts: dict[str, Any] | None) -> str | None:
    """What was calibrated of the scan distortion and whether it was kept, in a sentence.

    None where no field was fitted, or run.json does not say.
    """
    if facts is None or facts["corner_px"] is None:
        return None
    verb = "was taken out" if facts["kept"] else "was found, and not taken out"
    return (
        f"A scan distortion of {facts['corner_px']:.2f} px at the corners of every frame {verb}: "
        f"{facts['reason']} ({count_text(facts['links'])} overlaps; misfit within those held out: "
        f"{-100 * facts['held_out_gain']:+.0f} %)."
    )


def elastic_text(facts: dict[str, Any]) -> str:
    """What the elastic option did, in a sentence."""
    if not facts["parts"]:
        return "No overlap was measured in parts, so no frame was bent (solve.elastic)."
    held_out = facts["held_out"]
    return (
        f"Every frame was bent by a mesh of its own, whose nodes move by up to "
        f"{facts['max_node_px']:.2f} px, so that {count_text(facts['parts'])} parts of overlaps "
        f"agree: of those held out, half miss by more than {held_out['before_px']:.2f} px without "
        f"and {held_out['after_px']:.2f} px with meshes."
    )


def _placement(
    placed: pd.DataFrame, shape: tuple[int, int], figures: FigureFolder, pixel_um: float | None
) -> list[Picture]:
    figure = quality_figures.placement(placed, shape, pixel_um=pixel_um)
    alt = "Standard deviation of every frame's position along x and y"
    return [figures.plot("placement", figure, alt, "Dashed: no standard deviation is known.")]


def _histograms(pairs: pd.DataFrame, loops: pd.DataFrame, figures: FigureFolder) -> list[Picture]:
    pictures = []
    if (pairs["status"] == "ok").any():
        figure = quality_figures.residuals(pairs)
        alt = "Histogram of the residuals of accepted pairs"
        pictures.append(figures.plot("residuals", figure, alt, ""))
    if len(loops):
        figure = quality_figures.closures(loops)
        alt = "Histogram of the closing errors of loops of accepted pairs"
        caption = (
            "The measured displacements around a loop of neighbouring frames add up to zero, "
            "wherever the frames were placed; what is left is the error of the measurements."
        )
        pictures.append(figures.plot("loops", figure, alt, caption))
    return pictures


def _maps(
    links: link_figures.Links, figures: FigureFolder, pixel_um: float | None
) -> list[Picture]:
    pictures = []
    if (links.status == "ok").any():
        figure, note = link_figures.residual_vectors(links, pixel_um=pixel_um)
        alt = "Residual vectors of accepted pairs on the mosaic"
        pictures.append(figures.plot("vectors", figure, alt, note))
    if len(links.status):
        figure = link_figures.link_status(links, pixel_um=pixel_um)
        alt = "Map of all measured pairs by status"
        caption = "A line joins the centres of two frames whose overlap was measured."
        pictures.append(figures.plot("links", figure, alt, caption))
    if np.isfinite(links.grey_step).any():
        figure = link_figures.seam_steps(links, pixel_um=pixel_um)
        alt = "Map of the grey steps between overlapping frames"
        caption = (
            "How much the mean grey levels of two frames differ in their overlap after gain and "
            "offset, before blending hides it."
        )
        pictures.append(figures.plot("seams", figure, alt, caption))
    return pictures


def _numbers(pairs: pd.DataFrame, loops: pd.DataFrame, placed: pd.DataFrame | None) -> Table:
    """Median, 95 % and largest of everything that tells how good the stitching is."""
    values = {"Residual of accepted pairs (px)": pairs.loc[pairs["status"] == "ok", "residual_px"]}
    for links in (3, 4):
        closure = loops.loc[loops["links"] == links, "closure_px"]
        values[f"Closing error of loops of {links} pairs (px)"] = closure
    if placed is not None:
        for axis in "xy":
            name = f"Standard deviation of positions along {axis} (px)"
            values[name] = placed[f"sigma_{axis}_px"]
    if "grey_step" in pairs.columns:
        values["Grey step between frames (grey levels)"] = pairs["grey_step"].abs()
        values["Contrast mismatch of frames (%)"] = 100 * np.expm1(
            np.log(pairs["contrast_ratio"]).abs()
        )
    heads = ("Measure", "n", "Median", "95 %", "Largest")
    rows = []
    for name, column in values.items():
        known = column.to_numpy(np.float64)
        known = known[np.isfinite(known)]
        if len(known):
            told = (f"{v:.3g}" for v in np.percentile(known, [50, 95, 100]))
            rows.append((name, count_text(len(known)), *told))
    return Table(heads, rows, numeric=heads[1:])


def _pairs_table(pairs: pd.DataFrame) -> Table:
    """How many pairs have each status, and why those are not ok."""
    total = max(1, len(pairs))
    reasons = pairs.get("reason", pd.Series("", index=pairs.index)).fillna("")
    rows = []
    for status, count in quality_figures.status_counts(pairs):
        counts = reasons[(pairs["status"] == status) & (reasons != "")].value_counts()
        told = ", ".join(
            f"{str(reason).replace('_', ' ')} {count_text(n)}" for reason, n in counts.items()
        )
        rows.append((status, count_text(count), f"{100 * count / total:.1f} %", told))
    return Table(("Pairs", "Number", "Share", "Reasons"), rows, numeric=("Number", "Share"))


def _used(positions: pd.DataFrame, frames: pd.DataFrame | None) -> pd.DataFrame:
    """The positions of frames that are part of the mosaic."""
    known = positions[positions["x_px"].notna() & positions["y_px"].notna()]
    if frames is None:
        return known
    unused = frames.loc[~frames["used"].astype(bool), "frame"]
    return known[~known["frame"].isin(unused)]


def _unused_table(unused: pd.DataFrame, limit: int) -> Table:
    reasons = unused.get("reason", pd.Series("", index=unused.index)).fillna("")
    rows = [
        (
            "" if pd.isna(row["file"]) else str(row["file"]),
            "" if pd.isna(row["source_index"]) else count_text(row["source_index"]),
            str(reason) or "not stated",
        )
        for row, reason in zip(unused.head(limit).to_dict("records"), reasons, strict=False)
    ]
    counts = ", ".join(
        f"{count_text(n)} {reason or 'without a reason'}"
        for reason, n in reasons.value_counts().items()
    )
    shown = "" if len(unused) <= limit else f" The first {limit} are listed."
    caption = f"{count_text(len(unused))} frames are not used: {counts}.{shown}"
    return Table(("File", "Frame in file", "Reason"), rows, caption, numeric=("Frame in file",))
