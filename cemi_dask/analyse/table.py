"""The table of cells: what every measure found in every cell of the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cemi_dask.analyse.cell import Analyser, CellView
from cemi_dask.analyse.fractions import BccFraction, LamellarFraction, PhaseFractions
from cemi_dask.analyse.grid import CellGrid, GridOptions, make_grid
from cemi_dask.analyse.orientation import Orientation
from cemi_dask.analyse.stereology import InterfaceDensity, PointCount, RegionSize
from cemi_dask.analyse.width import LamellaWidth
from cemi_dask.compute import Compute, compute_items, named_task, read_box
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box
from cemi_dask.methods import Registry

ANALYSERS: Registry[Analyser] = Registry(
    "analyser",
    Analyser,
    (
        BccFraction,
        LamellarFraction,
        LamellaWidth,
        PointCount,
        InterfaceDensity,
        Orientation,
        RegionSize,
        PhaseFractions,
    ),
)

if TYPE_CHECKING:
    Measure = Analyser
else:
    Measure = ANALYSERS.field_type()

BLOCK_PX = 4096  # cells are measured in blocks of about this size

# The contract of tables/cells.csv, standard errors beside their measures.
CELL_COLUMNS = (
    "row",
    "col",
    "x_um",
    "y_um",
    "width_um",
    "height_um",
    "bcc_fraction",
    "bcc_fraction_se",
    "lamellar_fraction",
    "lamellar_fraction_se",
    "lamella_width_um",
    "lamella_width_um_se",
    "valid_fraction",
)


class AnalyseOptions(BaseModel):
    """Which measures are taken, and which cells hold enough data for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measures: tuple[Measure, ...] = Field(
        default=(BccFraction(), LamellarFraction(), LamellaWidth()),
        description="Measures by name or with their options.",
    )
    min_valid_fraction: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Cells with less valid area are not measured."
    )
    band_um: tuple[float, float] | None = Field(
        default=None,
        description="The profile takes only cells with their centre at y in [low, high], um.",
    )

    @field_validator("measures", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("measures is a list of names or of mappings with the key 'method'")
        return tuple(ANALYSERS.parse(item) for item in value)

    @field_validator("measures")
    @classmethod
    def _once(cls, value: tuple[Analyser, ...]) -> tuple[Analyser, ...]:
        names = [name for measure in value for name in measure.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several measures give {', '.join(twice)}; name each measure once")
        return value


def analyse(
    mosaic: da.Array,
    labels: Mapping[str, da.Array],
    *,
    grid: GridOptions | CellGrid,
    options: AnalyseOptions | None = None,
    pixel_um: float | None = None,
    compute: Compute = compute_items,
) -> pd.DataFrame:
    """One row per grid cell out of a mosaic (y, x) and its labels (``lamellar``, ``bcc``).

    Columns: `CELL_COLUMNS`, then x_px, y_px, width_px, height_px, lengths in px and whatever
    else the measures give. x and y are the cell's centre (pixel (0, 0) has its centre at
    0). Every measure has its standard error in the column ``NAME_se``. Values are NaN where
    nothing can be measured or less than `min_valid_fraction` of the cell is valid, and in
    all columns in micrometres where `pixel_um` is None. The table depends on neither the
    chunks of the arrays nor the order in which blocks of cells are measured.

    Raises InputError for arrays that are no pictures or labels of another shape.
    """
    _check(mosaic, labels)
    options = options or AnalyseOptions()
    if isinstance(grid, GridOptions):
        grid = make_grid(mosaic.shape, grid, pixel_um=pixel_um)
    items = {}
    for name, cells in _blocks(grid).items():
        box = _hull([b for _, _, b in cells])
        items[name] = named_task(
            "measure-cell",
            measure_block,
            read_box(mosaic, box),
            {key: read_box(label, box) for key, label in sorted(labels.items())},
            [(row, col, b.relative_to(box)) for row, col, b in cells],
            options,
        )
    results = compute(items)
    found = pd.DataFrame([row for name in items for row in results[name]])
    cells_table = _placed(grid, pixel_um).merge(found, on=["row", "col"], validate="1:1")
    cells_table = cells_table.infer_objects().apply(pd.to_numeric)
    for measure in options.measures:
        cells_table = measure.settle(cells_table)
    return _finished(cells_table, options, pixel_um)


def measure_block(
    grey: npt.NDArray[Any],
    labels: Mapping[str, npt.NDArray[np.uint8]],
    cells: list[tuple[int, int, Box]],
    options: AnalyseOptions,
) -> list[dict[str, Any]]:
    """Rows of the table, JSON-able (None for NaN), for the cells inside a block of pixels.

    `cells` are (row, col, box in the block).
    """
    rows = []
    for row, col, box in cells:
        view = CellView(
            grey[box.slices], {name: label[box.slices] for name, label in labels.items()}
        )
        valid_fraction = float(np.count_nonzero(view.valid) / box.area_px)
        values: dict[str, float] = {"valid_fraction": valid_fraction}
        for measure in options.measures:
            enough = valid_fraction >= options.min_valid_fraction
            values |= measure(view) if enough else measure.nothing()
        plain = {k: None if v != v else float(v) for k, v in values.items()}
        rows.append({"row": row, "col": col, **plain})
    return rows


def _check(mosaic: da.Array, labels: Mapping[str, da.Array]) -> None:
    if mosaic.ndim != 2:
        raise InputError(f"A mosaic has two dimensions (y, x), not the shape {mosaic.shape}.")
    for name, label in labels.items():
        if label.shape != mosaic.shape:
            raise InputError(
                f"The label {name!r} has the shape {label.shape}, the mosaic {mosaic.shape}. "
                "Segment this mosaic again."
            )


def _blocks(grid: CellGrid) -> dict[str, list[tuple[int, int, Box]]]:
    """Cells by item, those whose centres lie in the same square of `BLOCK_PX` together."""
    squares: dict[tuple[int, int], list[tuple[int, int, Box]]] = {}
    for row, col, box in grid:
        place = (box.y0 + box.y1) // 2 // BLOCK_PX, (box.x0 + box.x1) // 2 // BLOCK_PX
        squares.setdefault(place, []).append((row, col, box))
    return {f"measure-cell/{c[0][0]}-{c[0][1]}": c for _, c in sorted(squares.items())}


def _hull(boxes: list[Box]) -> Box:
    return Box(
        min(b.y0 for b in boxes),
        min(b.x0 for b in boxes),
        max(b.y1 for b in boxes),
        max(b.x1 for b in boxes),
    )


def _placed(grid: CellGrid, pixel_um: float | None) -> pd.DataFrame:
    """Where each cell lies: centre and size, in px and micrometres."""
    rows = []
    for row, col, box in grid:
        height, width = box.shape
        px = {
            "x": (box.x0 + box.x1 - 1) / 2,
            "y": (box.y0 + box.y1 - 1) / 2,
            "width": float(width),
            "height": float(height),
        }
        um = {f"{k}_um": v * pixel_um if pixel_um else float("nan") for k, v in px.items()}
        rows.append({"row": row, "col": col, **um, **{f"{k}_px": v for k, v in px.items()}})
    return pd.DataFrame(rows)


def _finished(cells: pd.DataFrame, options: AnalyseOptions, pixel_um: float | None) -> pd.DataFrame:
    """The table with lengths in micrometres and every column of the contract, in order."""
    lengths = {
        name: name.replace("_px", "_um")
        for measure in options.measures
        for name in measure.names
        if name.removesuffix("_se").endswith("_px")
    }
    scale = float("nan") if pixel_um is None else pixel_um
    cells = cells.assign(
        **{um: cells[px] * (1 / scale if "_per_px" in px else scale) for px, um in lengths.items()}
    )
    names = [name for measure in options.measures for name in measure.names]
    # A measure that was not asked for is a column of NaN: the table's shape is a contract.
    contract = [*CELL_COLUMNS]
    cells = cells.reindex(columns=[*cells.columns, *(c for c in contract if c not in cells)])
    px = ["x_px", "y_px", "width_px", "height_px"]
    order = [*contract, *px, *lengths.values(), *names]
    ordered = cells[list(dict.fromkeys(order))].sort_values(["row", "col"], ignore_index=True)
    if ordered.duplicated(["row", "col"]).any():
        raise ConfigError("The grid names a cell twice; give each row and column once.")
    return ordered
