"""A mosaic as Deep Zoom: NAME.dzi and NAME_files/LEVEL/COLUMN_ROW.png, for any web page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import StoreError
from cemi_dask.store.arrays import Array
from cemi_dask.store.atomic import PARTIAL_SUFFIX, storing, write_text_atomic
from cemi_dask.store.pyramid import halve_mean
from cemi_dask.store.strips import TILE_PX, as_grey, tiles_of

_MOST_PX = 1 << 26  # of the coarsest stored level: what lies below is made from it in memory
_XML = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="png" Overlap="0" '
    'TileSize="{tile}"><Size Width="{width}" Height="{height}"/></Image>\n'
)


def write_dzi(levels: Sequence[Array], target: Path, *, window: tuple[float, float]) -> Path:
    """The levels as Deep Zoom at `target` (NAME.dzi), 8-bit grey; that path.

    Deep Zoom goes on down to one pixel: what the mosaic's pyramid lacks is made from its coarsest
    level. The folder NAME_files is replaced whole. StoreError where it holds anything else.
    """
    height, width = levels[0].shape
    if levels[-1].shape[0] * levels[-1].shape[1] > _MOST_PX:
        raise StoreError(
            f"The coarsest level has {levels[-1].shape[0]} x {levels[-1].shape[1]} px, too many to "
            "make smaller ones from. Write the mosaic's pyramid first (store.write_pyramid)."
        )
    folder = target.with_name(f"{target.name.removesuffix('.dzi')}_files")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    _refuse_foreign(folder)
    top = (max(height, width) - 1).bit_length()
    with storing(target):
        try:
            for number, array in enumerate(levels):
                across = -(-array.shape[1] // TILE_PX)
                for k, tile in enumerate(tiles_of(array)):
                    _write_tile(temporary / str(top - number), divmod(k, across), tile, window)
            small: npt.NDArray[Any] = np.asarray(levels[-1][:])
            for number in range(top - len(levels), -1, -1):
                small = halve_mean(small)
                for y in range(0, small.shape[0], TILE_PX):
                    for x in range(0, small.shape[1], TILE_PX):
                        part = small[y : y + TILE_PX, x : x + TILE_PX]
                        place = (y // TILE_PX, x // TILE_PX)
                        _write_tile(temporary / str(number), place, part, window)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    write_text_atomic(target, _XML.format(tile=TILE_PX, width=width, height=height))
    return target


def _write_tile(
    folder: Path, place: tuple[int, int], tile: npt.NDArray[Any], window: tuple[float, float]
) -> None:
    row, col = place
    folder.mkdir(parents=True, exist_ok=True)
    done, png = cv2.imencode(".png", as_grey(tile, window), [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise StoreError(f"Cannot encode the tile {col}_{row} of {folder}.")
    (folder / f"{col}_{row}.png").write_bytes(png.tobytes())


def _refuse_foreign(folder: Path) -> None:
    """StoreError where `folder` is there and is no Deep Zoom folder: it would be deleted."""
    if not folder.exists():
        return
    parts = list(folder.iterdir()) if folder.is_dir() else [folder]
    if any(not (part.is_dir() and part.name.isdigit()) for part in parts):
        raise StoreError(f"{folder} holds something else than tiles. Choose another --out.")
