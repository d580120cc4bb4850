"""A level of a mosaic read from top to bottom, a strip of chunks at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import StoreError
from cemi_dask.store.arrays import Array

TILE_PX = 512
_WIDE = 16  # tiles read at once


def tiles_of(array: Array) -> Iterator[npt.NDArray[Any]]:
    """Every TILE_PX square of a level (y, x), row by row; those at the borders are smaller."""
    height, width = array.shape
    for y in range(0, height, TILE_PX):
        for start in range(0, width, TILE_PX * _WIDE):
            part = read_part(array, y, start, (TILE_PX, TILE_PX * _WIDE))
            for x in range(0, part.shape[1], TILE_PX):
                yield part[:, x : x + TILE_PX]


def read_part(array: Array, y: int, x: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The pixels from (y, x) on, cut to the image; StoreError where files are damaged."""
    try:
        return np.asarray(array[y : y + shape[0], x : x + shape[1]])
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreError(
            f"Cannot read {array.store_path} at row {y}, column {x}: {error}. The file is damaged; "
            "write it anew."
        ) from error


def as_grey(values: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Values as 8-bit grey between the levels of `window`; 0 where there are no data."""
    low, high = window
    known = ~np.isnan(values) if values.dtype.kind == "f" else values != 0
    scaled = (np.nan_to_num(values.astype(np.float32)) - low) * (255 / (high - low))
    return np.asarray(np.where(known, np.clip(np.rint(scaled), 0, 255), 0), np.uint8)
