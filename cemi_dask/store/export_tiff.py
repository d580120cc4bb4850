"""Levels of a mosaic as one tiled BigTIFF with its pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.store.arrays import Array
from cemi_dask.store.strips import TILE_PX, tiles_of

_BUFFER_BYTES = 16 << 20  # compressed at once


def write_tiff(
    levels: Sequence[Array], target: Path, *, pixel_um: float | None, ome: bool, name: str
) -> None:
    """A BigTIFF of the levels as they are stored, each from its tiles.

    OME-TIFF keeps the coarser levels as SubIFDs of the first (what Bio-Formats and QuPath read),
    plain TIFF as pages of reduced resolution (what libvips, GDAL and OpenSlide read). The pixel
    size is in the resolution tags, and in OME's metadata.
    """
    import tifffile

    metadata: dict[str, Any] | None = None
    if ome:
        metadata = {"axes": "YX", "Name": name}
        if pixel_um is not None:
            size = {f"PhysicalSize{a}": pixel_um for a in "XY"}
            units = {f"PhysicalSize{a}Unit": "µm" for a in "XY"}
            metadata |= size | units
    with tifffile.TiffWriter(target, bigtiff=True, ome=ome) as file:
        for number, array in enumerate(levels):
            step_um = None if pixel_um is None else pixel_um * 2**number
            file.write(
                data=_whole_tiles(array),
                shape=array.shape,
                dtype=array.dtype,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": 4},
                predictor=array.dtype.kind != "f",
                resolution=(1e4 / step_um, 1e4 / step_um) if step_um else (1, 1),
                resolutionunit="CENTIMETER" if step_um else "NONE",
                subifds=len(levels) - 1 if ome and number == 0 else None,
                subfiletype=1 if number else 0,
                metadata=metadata if number == 0 else None,
                software="cemi_dask",
                maxworkers=2,
                buffersize=_BUFFER_BYTES,
            )


def _whole_tiles(array: Array) -> Iterator[npt.NDArray[Any]]:
    """The tiles of a level, those at the borders filled up with their last pixels."""
    for tile in tiles_of(array):
        missing = [(0, TILE_PX - n) for n in tile.shape]
        yield np.ascontiguousarray(np.pad(tile, missing, mode="edge") if np.any(missing) else tile)
