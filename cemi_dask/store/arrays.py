"""Zarr arrays on disk: created once, opened lazily in each process, read block by block."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from dask.array.core import slices_from_chunks
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import MemoryStore

from cemi_dask.errors import StoreError
from cemi_dask.store.atomic import delete_zarr, remove_partial_files, storing

Codec = Literal["lz4", "zstd", "none"]

Array: TypeAlias = "zarr.Array[Any]"
_SETTINGS_LOCK = threading.Lock()
_ZARRS = "zarrs.ZarrsCodecPipeline"
_ZARR = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@dataclass(frozen=True)
class ArraySpec:
    """What an array looks like on disk, apart from its values.

    `shards` None means one file per chunk. The fill value is 0, NaN for floats.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codec: Codec
    axes: tuple[str, ...]

    def create(self, store: Any) -> Array:
        """A new zarr array of this kind in `store` (a path or a zarr store)."""
        return zarr.create_array(
            store,
            shape=self.shape,
            dtype=self.dtype,
            chunks=self.chunks,
            shards=self.shards,
            compressors=_compressor(self.codec),
            fill_value=float("nan") if np.dtype(self.dtype).kind == "f" else 0,
            dimension_names=self.axes,
        )

    def metadata(self) -> dict[str, Any]:
        """The array's zarr metadata without attributes, to compare arrays by."""
        return _comparable(self.create(MemoryStore()))


def _compressor(codec: Codec) -> Any:
    if codec == "lz4":
        return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
    return ZstdCodec(level=3) if codec == "zstd" else None


def _comparable(array: Array) -> dict[str, Any]:
    described = dict(array.metadata.to_dict())
    described.pop("attributes", None)
    # NaN differs from itself; the type settles the fill value.
    described.pop("fill_value", None)
    return described


@contextmanager
def _pipeline(kind: Literal["read", "write"]) -> Iterator[None]:
    """Codec pipeline for arrays opened inside.

    zarrs reads several times faster; it writes in place, though, and a process killed half
    way would leave a torn shard, so writing goes through zarr's own, which renames.
    """
    found = kind == "read" and importlib.util.find_spec("zarrs") is not None
    settings = {
        "codec_pipeline.path": _ZARRS if found else _ZARR,
        # Without this zarr compares every chunk with the fill value, two thirds of the writing
        # time, and an all-zero chunk leaves no file. (zarr 3.1's open_array drops its `config`.)
        "array.write_empty_chunks": True,
    }
    # The settings are global: two threads must not restore each other's.
    with _SETTINGS_LOCK, zarr.config.set(settings):
        yield


def ensure_array(path: Path, spec: ArraySpec, *, overwrite: bool = False) -> bool:
    """Make the array at `path` unless it is there with the same metadata; True if it was.

    An existing array keeps its shards, so that a resumed run need not write them again. One
    of another kind is deleted with `overwrite`, otherwise StoreError says how they differ.
    """
    if (path / "zarr.json").is_file():
        existing, wanted = _comparable(open_array(path, "write")), spec.metadata()
        if existing == wanted:
            remove_partial_files(path)
            return True
        if not overwrite:
            differing = [key for key in wanted if existing.get(key) != wanted[key]]
            shown = "; ".join(f"{k} {existing.get(k)} there, {wanted[k]} now" for k in differing)
            raise StoreError(
                f"{path} holds an array of another kind ({shown}). Remove it, choose another "
                "output folder, or ask for overwriting."
            )
    make_array(path, spec)
    return False


def make_array(path: Path, spec: ArraySpec) -> None:
    """A new array at `path`; whatever was there is deleted first."""
    with storing(path):
        delete_zarr(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        spec.create(str(path))


def open_array(path: Path | str, kind: Literal["read", "write"]) -> Array:
    """The zarr array at `path`, opened once per process and state of its metadata.

    Raises StoreError when there is none.
    """
    try:
        described = (Path(path) / "zarr.json").read_bytes()
    except OSError as error:
        raise StoreError(f"{path} is no zarr array: {error.strerror}.") from error
    return _open_array(str(path), kind, described)


@functools.lru_cache(maxsize=64)
def _open_array(path: str, kind: Literal["read", "write"], described: bytes) -> Array:
    with _pipeline(kind):
        try:
            return zarr.open_array(path, mode="r" if kind == "read" else "r+")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StoreError(f"{path} is no readable zarr array: {error}") from error


def check_shards(path: Path) -> None:
    """Raise StoreError if a file of the array at `path` is missing: it would read as no data."""
    array = open_array(path, "read")
    blocks = array.shards or array.chunks
    counts = (-(-size // block) for size, block in zip(array.shape, blocks, strict=True))
    for number in np.ndindex(*counts):
        file = path.joinpath("c", *(str(n) for n in number))
        if not file.is_file():
            raise StoreError(
                f"{file} is missing although its task was done. Start afresh, or delete "
                f"{path.parent} and run again."
            )


def read_region(path: str, region: tuple[slice, ...]) -> npt.NDArray[Any]:
    """The values of one region of the array at `path`; StoreError for torn or lost files."""
    array = open_array(path, "read")
    try:
        return np.asarray(array[region])
    except (RuntimeError, ValueError, OSError) as error:
        place = ", ".join(f"{s.start}:{s.stop}" for s in region)
        raise StoreError(
            f"Cannot read [{place}] of {path}: {error}. The file is damaged; write it anew."
        ) from error


def write_region(path: str, region: tuple[slice, ...], values: npt.NDArray[Any]) -> int:
    """Write whole shards of the array at `path`; the number of bytes (uncompressed)."""
    with storing(path):
        open_array(path, "write")[region] = values
    return int(values.nbytes)


def array_stamp(path: Path) -> tuple[str, int, int]:
    """What tells one array from another, or from a later one at the same path."""
    status = (path / "zarr.json").stat()
    return str(path), status.st_mtime_ns, status.st_ino


def lazy_array(path: Path, chunks: tuple[tuple[int, ...], ...], *, layer: str) -> da.Array:
    """The array at `path` as dask array whose tasks open it where they run.

    Only the path travels in the graph. Layer and keys are called ``layer-token``.
    """
    name = f"{layer}-{tokenize(chunks, array_stamp(path))}"
    tasks: dict[Any, Task] = {}
    numbers = np.ndindex(*(len(sizes) for sizes in chunks))
    for number, region in zip(numbers, slices_from_chunks(chunks), strict=True):
        key = (name, *number)
        tasks[key] = Task(key, read_region, str(path), tuple(region))
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[])
    return da.Array(graph, name, chunks=chunks, dtype=open_array(path, "read").dtype)
