"""Which places of the mosaic the report shows at full resolution."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cemi_dask.geometry import Box
from cemi_dask.measures import Measure, measures_of
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.measures import places
from cemi_dask.report.mosaic_figures import Detail
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.style import Unit, length_unit

LETTERS = "ABCDEFGHIJKL"
WHOLE_CELL = 0.98  # a cell with less valid area shows a border of the mosaic
PREFERRED = ("lamella_width_um", "lamella_width_px", "bcc_fraction")


def choose_details(data: RunFolderData, options: ReportOptions) -> list[Detail]:
    """Places spread from the lowest to the highest measured value, or evenly along x."""
    if data.mosaic is None or options.detail_count == 0:
        return []
    shape = data.mosaic.shape
    unit = length_unit(shape[1], data.pixel_um)
    cells = data.tables.get("cells")
    measures = {} if cells is None else {m.column: m for m in measures_of(cells)}
    wanted = [measures[name] for name in PREFERRED if name in measures]
    if cells is None or not wanted:
        share = (np.arange(options.detail_count) + 0.5) / options.detail_count
        centres = [(shape[0] / 2, float(s) * shape[1]) for s in share]
        return _details(centres, [""] * len(centres), shape, unit, options)
    rows = _spread_rows(cells, wanted[0], options.detail_count)
    y, x = (places(rows, axis, unit) * unit.px for axis in "yx")
    centres = [(float(a), float(b)) for a, b in zip(y, x, strict=True)]
    values = wanted[0].values(rows)
    texts = [
        f", {wanted[0].title.lower()} {value:.3g} {wanted[0].unit}{rank}"
        for value, rank in zip(values, _ranks(len(values)), strict=True)
    ]
    return _details(centres, texts, shape, unit, options)


def _spread_rows(cells: pd.DataFrame, measure: Measure, count: int) -> pd.DataFrame:
    """Up to `count` cells, evenly spaced in the order of their values."""
    known = cells[cells[measure.column].notna()]
    whole = known[known["valid_fraction"] >= WHOLE_CELL]
    ordered = (whole if len(whole) else known).sort_values([measure.column, "row", "col"])
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round())
    return ordered.iloc[places.astype(int)]


def _ranks(count: int) -> list[str]:
    if count < 2:
        return [""] * count
    return [" (lowest)", *[""] * (count - 2), " (highest)"]


def _details(
    centres: list[tuple[float, float]],
    texts: list[str],
    shape: tuple[int, int],
    unit: Unit,
    options: ReportOptions,
) -> list[Detail]:
    """Boxes around the centres, moved to lie inside the mosaic."""
    tall, wide = min(shape[0], round(0.75 * options.detail_px)), min(shape[1], options.detail_px)
    details = []
    for letter, (y, x), text in zip(LETTERS, centres, texts, strict=False):
        y0 = int(np.clip(round(y - tall / 2), 0, shape[0] - tall))
        x0 = int(np.clip(round(x - wide / 2), 0, shape[1] - wide))
        place = f"x = {x / unit.px:.4g} {unit.name}, y = {y / unit.px:.3g} {unit.name}"
        details.append(Detail(letter, Box(y0, x0, y0 + tall, x0 + wide), f"{place}{text}."))
    return details
