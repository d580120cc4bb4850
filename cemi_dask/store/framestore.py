"""Frames on disk: one zarr array (n, y, x) per source, one chunk per frame.

Frames are not compressed: the noise of fast scans leaves lz4 nothing to save.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task

from cemi_dask.errors import InputError, StoreError
from cemi_dask.store.arrays import (
    Array,
    ArraySpec,
    array_stamp,
    make_array,
    open_array,
    read_region,
)
from cemi_dask.store.atomic import storing

_AXES = ("frame", "y", "x")
_FINISHED: Any = {"finished": True}


class FrameWriter:
    """Writes the frames of one source, one after the other, in constant memory.

    A context manager: ``with FrameWriter(path, key) as writer: writer.append(frame)``. What lay
    under that key is deleted first, so that a repeated attempt starts over. Until `close`
    (which a block left by an exception does not reach) the array counts as unfinished and
    `open_frame_store` refuses it.
    """

    def __init__(self, path: Path | str, key: str) -> None:
        self._folder = Path(path) / key
        self._array: Array | None = None
        self._count = 0

    def append(self, frame: npt.NDArray[Any]) -> None:
        """Write the next frame (y, x); InputError if its size or type differs from the first."""
        picture = np.asarray(frame)
        if self._array is None:
            if picture.ndim != 2:
                raise InputError(f"A frame for {self._folder} has {picture.ndim} axes, not 2.")
            make_array(self._folder, _frame_spec(0, picture.shape, picture.dtype))
            self._array = open_array(self._folder, "write")
        array = self._array
        if picture.shape != array.shape[1:] or picture.dtype != array.dtype:
            raise InputError(
                f"Frame {self._count} for {self._folder} is {picture.shape} {picture.dtype}, the "
                f"first one {array.shape[1:]} {array.dtype}. Crop or convert them alike."
            )
        with storing(self._folder):
            if self._count == array.shape[0]:
                # Doubling keeps the number of metadata writes logarithmic.
                array.resize((max(16, 2 * self._count), *array.shape[1:]))
            array[self._count] = picture
        self._count += 1

    def close(self) -> None:
        """Trim to the frames written and mark the array as finished; InputError if none was."""
        if self._array is None:
            raise InputError(f"No frame was given for {self._folder}, so there is nothing to keep.")
        with storing(self._folder):
            self._array.resize((self._count, *self._array.shape[1:]))
            self._array.attrs["cemi"] = _FINISHED

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._array is not None:
            self.close()


def _frame_spec(count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ArraySpec:
    return ArraySpec((count, *shape), dtype.name, (1, *shape), None, "none", _AXES)


def frame_count(path: Path | str, key: str) -> int:
    """Number of frames of the source `key`; StoreError if it is missing or unfinished."""
    return int(_finished(Path(path) / key).shape[0])


def create_frames(path: Path | str, key: str, *, like: str) -> None:
    """A new array `key` for as many frames of the same size and type as the source `like` has.

    It is to be filled by `write_frames`, several tasks at once if wanted. What lay under that
    key is deleted. A frame that was never written raises StoreError when it is read.
    """
    folder = Path(path)
    model = _finished(folder / like)
    make_array(folder / key, _frame_spec(model.shape[0], model.shape[1:], model.dtype))
    with storing(folder / key):
        open_array(folder / key, "write").attrs["cemi"] = _FINISHED


def write_frames(
    path: Path | str, key: str, start: int, frames: Iterable[npt.NDArray[Any]]
) -> dict[str, int]:
    """Write `frames` (y, x) or blocks (1, y, x) at start, start + 1, ... of the array `key`.

    Returns ``{"frames": n, "bytes": n}``. The array is made by `create_frames`.
    """
    folder = Path(path) / key
    array = open_array(folder, "write")
    count = size = 0
    for count, frame in enumerate(frames, start=1):
        picture = frame[0] if frame.ndim == 3 else frame
        index = start + count - 1
        if index >= array.shape[0] or picture.shape != array.shape[1:]:
            raise InputError(
                f"Frame {index} of shape {picture.shape} does not fit {folder}, which holds "
                f"{array.shape[0]} frames of {array.shape[1:]}."
            )
        with storing(folder):
            array[index] = picture
        size += int(picture.nbytes)
    return {"frames": count, "bytes": size}


def open_frame_store(path: Path | str, keys: Sequence[str]) -> da.Array:
    """Lazy frames (n, y, x) of the sources `keys`, in that order, one frame per chunk.

    Tasks carry path and index and open the array where they run. Raises StoreError for a
    source that is missing or unfinished, InputError for sources of mixed size or type.
    """
    folder = Path(path)
    if not keys:
        raise InputError(f"No source was named, so nothing can be opened in {folder}.")
    arrays = {key: _finished(folder / key) for key in keys}
    kinds = {key: (array.shape[1:], array.dtype) for key, array in arrays.items()}
    first = kinds[keys[0]]
    for key, kind in kinds.items():
        if kind != first:
            raise InputError(
                f"Source {key} holds frames of {kind[0]} {kind[1]}, but {keys[0]} of {first[0]} "
                f"{first[1]}. Stitch them in separate runs, or crop them alike."
            )
    name = "read-frames-" + tokenize([array_stamp(folder / key) for key in keys])
    tasks: dict[Any, Task] = {}
    for key in keys:
        for index in range(arrays[key].shape[0]):
            task = (name, len(tasks), 0, 0)
            tasks[task] = Task(task, _read_frame, str(folder / key), index)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[])
    (height, width), dtype = first
    chunks = ((1,) * len(tasks), (height,), (width,))
    return da.Array(graph, name, chunks=chunks, dtype=dtype)


def _finished(folder: Path) -> Array:
    array = open_array(folder, "read")
    if array.attrs.get("cemi") != _FINISHED:
        raise StoreError(f"{folder} was not written to its end. Read that source again.")
    return array


def _read_frame(folder: str, index: int) -> npt.NDArray[Any]:
    """Frame `index` as a block (1, y, x); StoreError if its file is lost."""
    # Zarr takes a missing chunk for an empty one: a lost frame would read as black.
    if not (Path(folder) / "c" / str(index) / "0" / "0").is_file():
        raise StoreError(f"Frame {index} of {folder} is missing. Read that source again.")
    height, width = open_array(folder, "read").shape[1:]
    region = (slice(index, index + 1), slice(0, height), slice(0, width))
    return read_region(folder, region)
