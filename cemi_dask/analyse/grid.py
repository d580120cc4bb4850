"""The grid of cells a mosaic is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box

Span = tuple[int, int]


class GridOptions(BaseModel):
    """Either `rows` and `cols`, or a cell's (height, width) in px or micrometres.

    Without any of them the mosaic is one cell of about 512 px after another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int | None = Field(default=None, ge=1, description="Number of cells along y.")
    cols: int | None = Field(default=None, ge=1, description="Number of cells along x.")
    cell_px: tuple[int, int] | None = Field(
        default=None, description="Height and width of a cell, px."
    )
    cell_um: tuple[float, float] | None = Field(
        default=None, description="Height and width of a cell, micrometres."
    )

    @model_validator(mode="after")
    def _one_way(self) -> GridOptions:
        if (self.rows is None) != (self.cols is None):
            raise ValueError("rows and cols go together; give both or neither")
        ways = [v for v in (self.rows, self.cell_px, self.cell_um) if v is not None]
        if len(ways) > 1:
            raise ValueError("give rows and cols, or cell_px, or cell_um; not several of them")
        for size in (self.cell_px, self.cell_um):
            if size is not None and min(size) <= 0:
                raise ValueError(f"a cell's height and width must be positive, not {size}")
        return self


@dataclass(frozen=True)
class CellGrid:
    """Cells in rows and columns: `y_spans[r]` and `x_spans[c]` are half-open, px."""

    y_spans: tuple[Span, ...]
    x_spans: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of cells."""
        return len(self.y_spans), len(self.x_spans)

    def box(self, row: int, col: int) -> Box:
        """The box of cell (row, col) in the mosaic."""
        (y0, y1), (x0, x1) = self.y_spans[row], self.x_spans[col]
        return Box(y0, x0, y1, x1)

    def __iter__(self) -> Iterator[tuple[int, int, Box]]:
        """(row, col, box) of every cell, row by row."""
        rows, cols = self.shape
        for row in range(rows):
            for col in range(cols):
                yield row, col, self.box(row, col)


def make_grid(
    shape: tuple[int, int], options: GridOptions, *, pixel_um: float | None = None
) -> CellGrid:
    """The cells of a mosaic of `shape` (height, width) px.

    Given `rows` and `cols`, all cells have the size ``height // rows`` x ``width // cols`` and
    start at ``r * height // rows``: spread evenly, at most one pixel apart. Given a size, cells
    follow each other from pixel (0, 0); what is left at the far end becomes a smaller cell if
    it holds at least half of one, and is left out otherwise.

    Raises ConfigError for a size in micrometres without `pixel_um`, InputError where the
    mosaic is smaller than the grid.
    """
    sizes: tuple[int, int]
    if options.rows is not None and options.cols is not None:
        counts = (options.rows, options.cols)
        y, x = (_spread(size, n) for size, n in zip(shape, counts, strict=True))
        return CellGrid(y, x)
    if options.cell_um is not None:
        if pixel_um is None:
            raise ConfigError(
                f"Cells of {options.cell_um} um need the pixel size. Give pixel_um, or state "
                "the cells as cell_px or as rows and cols."
            )
        sizes = (round(options.cell_um[0] / pixel_um), round(options.cell_um[1] / pixel_um))
    else:
        sizes = options.cell_px or (min(512, shape[0]), min(512, shape[1]))
    y, x = (_fill(length, size) for length, size in zip(shape, sizes, strict=True))
    return CellGrid(y, x)


def _spread(length: int, count: int) -> tuple[Span, ...]:
    size = length // count
    if size < 1:
        raise InputError(f"{count} cells do not fit into {length} px. Take fewer rows or columns.")
    starts = [i * length // count for i in range(count)]
    return tuple((start, start + size) for start in starts)


def _fill(length: int, size: int) -> tuple[Span, ...]:
    if size < 1:
        raise InputError(f"A cell of {size} px holds nothing. Take larger cells.")
    whole, rest = divmod(length, size)
    spans = [(i * size, (i + 1) * size) for i in range(whole)]
    if 2 * rest >= size:
        spans.append((whole * size, length))
    if not spans:
        raise InputError(
            f"The mosaic's {length} px are less than half a cell of {size} px. Take smaller cells."
        )
    return tuple(spans)
