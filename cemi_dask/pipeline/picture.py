"""An existing mosaic or picture as a lazy array: `open_picture`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize

from cemi_dask import frames, store
from cemi_dask.errors import InputError, UnreadableError
from cemi_dask.geometry import ChunkGrid
from cemi_dask.pipeline.digests import file_identity
from cemi_dask.pipeline.folder import RunFolder

GREY_TYPES = ("uint8", "uint16", "float32")
BLOCK_PX = 4096


def open_picture(source: Path, pixel_um: float | None) -> tuple[da.Array, float | None]:
    """(lazy (y, x) array, pixel size in um or None) of an OME-Zarr, a run folder or a picture.

    TIFFs are read in blocks, other pictures whole. A picture's pixel size is the one given,
    else what its tags or sidecar state. Raises InputError for grey levels that are
    not uint8, uint16 or float32, and when the pixel size stated and the one given disagree.
    """
    if not source.is_dir():
        blocks = _tiff(source)
        array = _whole(source) if blocks is None else blocks
        return array, frames.read_metadata(source).pixel_um if pixel_um is None else pixel_um
    mosaic = store.open_mosaic(zarr_folder(source))
    stated = mosaic.pixel_um
    if stated is not None and pixel_um is not None and not np.isclose(stated, pixel_um):
        raise InputError(
            f"{source} states a pixel size of {stated:g} um, --pixel-size says {pixel_um:g}. "
            "Leave --pixel-size away, or give the same."
        )
    array = mosaic.levels[0]
    if array.dtype.name not in GREY_TYPES:
        raise InputError(
            f"{source} holds grey levels of type {array.dtype}; {', '.join(GREY_TYPES)} can be "
            "measured. Save it as one of them."
        )
    return array, stated if stated is not None else pixel_um


def picture_identity(source: Path) -> list[Any]:
    """What tells whether the mosaic or picture has changed; InputError where there is none."""
    if not source.is_dir():
        return file_identity(source)
    # A folder's own time does not change with what lies deeper in it; metadata do.
    return file_identity(store.open_mosaic(zarr_folder(source)).path / "zarr.json")


def zarr_folder(source: Path) -> Path:
    """The OME-Zarr in a run folder, or the folder itself."""
    inner = RunFolder(source).mosaic
    return inner if inner.is_dir() else source


def _whole(source: Path) -> da.Array:
    stack = frames.open_frames(frames.InputOptions(paths=(str(source),), crop="none"))
    if len(stack) > 1:
        raise InputError(
            f"{source} is a video of several frames, not one picture. Stitch it first: cemi stitch."
        )
    return stack.data[0]


def _tiff(source: Path) -> da.Array | None:
    """Blocks of a plain grey TIFF, each read alone; None for any other picture."""
    if source.suffix.lower() not in {".tif", ".tiff"}:
        return None
    import tifffile

    try:
        with tifffile.TiffFile(source) as tif:
            page = tif.pages[0]
            plain = len(tif.pages) == 1 and page.ndim == 2 and page.dtype is not None
            shape, dtype = tuple(int(n) for n in page.shape), str(page.dtype)
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise UnreadableError(
            f"{source} cannot be read as a TIFF: {error}. Save it again."
        ) from error
    if not plain or dtype not in GREY_TYPES:
        return None
    grid = ChunkGrid((shape[0], shape[1]), (BLOCK_PX, BLOCK_PX))
    name = f"read-picture-{tokenize(str(source), file_identity(source))}"
    tasks = {(name, row, col): (_read_tiff, str(source), box.slices) for row, col, box in grid}
    return da.Array(tasks, name, chunks=grid.dask_chunks, dtype=dtype)


def _read_tiff(path: str, region: tuple[slice, slice]) -> npt.NDArray[Any]:
    """The values of one region; only the strips or tiles that it touches are decoded."""
    import tifffile
    import zarr

    try:
        with tifffile.TiffFile(path) as tif:
            if tif.pages[0].is_memmappable:
                return np.array(tif.pages[0].asarray(out="memmap")[region])
            with tif.aszarr() as opened:
                return np.asarray(zarr.open_array(opened, mode="r")[region])
    except Exception as error:
        rows, cols = region
        raise UnreadableError(
            f"{path} cannot be read at [{rows.start}:{rows.stop}, {cols.start}:{cols.stop}]: "
            f"{error}. The file is damaged; save it again."
        ) from error
