"""`open_frames`: files to lazy `Frames`, decoded block by block when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task, TaskRef

from cemi_dask.compute import Compute, compute_items, named_task
from cemi_dask.errors import InputError
from cemi_dask.frames.average import LookPlace, average_looks
from cemi_dask.frames.averaging import Address, averaged_places
from cemi_dask.frames.flat import FlatField, fit_flat_field, flattened
from cemi_dask.frames.options import InputOptions, SelectionOptions
from cemi_dask.frames.prepare import prepare
from cemi_dask.frames.scan import read_tile, scan_source
from cemi_dask.frames.sources import Source, find_sources
from cemi_dask.frames.table import build_table
from cemi_dask.frames.video import read_video_frame
from cemi_dask.frameset import Frames

Paths = str | Path | Sequence[str | Path]


def open_frames(
    paths_or_options: Paths | InputOptions,
    *,
    selection: SelectionOptions | None = None,
    pixel_um: float | None = None,
    compute: Compute = compute_items,
) -> Frames:
    """Lazy frames and their table from videos or tiles: files, folders, globs, or options.

    Every source is scanned once (items ``read-frames/KEY``): motion tracked, frames chosen,
    nothing copied. The pixels (n, y, x) are decoded again, one frame per block, when they are
    computed; a video block decodes from the key frame before it, and the looks averaged into
    its frame likewise. The shading that all frames
    share is divided out then (`flatten`), unless `selection.flat_field` is "none". Raises what
    `find_sources`, `prepare` and `scan_source` raise. `pixel_um` counts before what the options
    or the files' metadata say.
    """
    options = (
        paths_or_options
        if isinstance(paths_or_options, InputOptions)
        else InputOptions(paths=_paths(paths_or_options))
    )
    if pixel_um is not None:
        options = options.model_copy(update={"pixel_um": pixel_um})
    selection = selection or SelectionOptions()
    sources = prepare(find_sources(options), options)
    items = {
        f"read-frames/{source.key}": named_task("read-frames", scan_source, source, selection)
        for source in sources
    }
    results = compute(items)
    scans = [results[name] for name in items]
    table, nominal = build_table(sources, scans)
    data = lazy_frames(sources, scans)
    raw = Frames(data, table, nominal, sources[0].pixel_um)
    if selection.flat_field == "none":
        return raw
    return flatten(raw, fit_flat_field(scans, raw.frame_shape))


def flatten(frames: Frames, field: FlatField) -> Frames:
    """The frames with the shading divided out, lazily, block by block, in their own type.

    Raises InputError for a field of another size than the frames.
    """
    if field.shape != frames.frame_shape:
        raise InputError(
            f"The flat field is for frames of {field.shape} px (height, width), these are "
            f"{frames.frame_shape}. Estimate it from these frames."
        )
    if not field.applied:
        return frames
    data = frames.data
    name = f"flatten-frames-{tokenize(data.name, field)}"
    layer: dict[Any, Any] = {
        key: Task(key, _flat_block, TaskRef((data.name, *key[1:])), field)
        for key in ((name, n, 0, 0) for n in range(len(frames)))
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[data])  # type: ignore[list-item]
    return frames.with_data(da.Array(graph, name, data.chunks, dtype=data.dtype))


def _flat_block(block: npt.NDArray[Any], field: FlatField) -> npt.NDArray[Any]:
    return flattened(block, field.gain())


def _paths(paths: Paths) -> tuple[str, ...]:
    if isinstance(paths, str | Path):
        return (str(paths),)
    return tuple(str(path) for path in paths)


def lazy_frames(sources: Sequence[Source], scans: Sequence[dict[str, Any]]) -> da.Array:
    """The taken frames of scanned sources as a dask array (n, y, x), one frame per block."""
    calls = [
        (source, record["file"], _address(record), averaged_places(record))
        for source, scan in zip(sources, scans, strict=True)
        for record in scan["records"]
        if record["taken"]
    ]
    shape, dtype = tuple(scans[0]["shape"]), np.dtype(scans[0]["dtype"])
    stamps = [Path(f).stat().st_mtime_ns for s in sources for f in s.files]
    name = f"read-frames-{tokenize(calls, stamps)}"
    layer: dict[Any, Any] = {
        (name, n, 0, 0): Task((name, n, 0, 0), read_frame, *call) for n, call in enumerate(calls)
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=())
    chunks = ((1,) * len(calls), (shape[0],), (shape[1],))
    return da.Array(graph, name, chunks, dtype=dtype)


def _address(record: dict[str, Any]) -> Address:
    """Where the lines of a taken frame are found again, from its record."""
    own = (record["source_index"], record["pts"], record["key_pts"])
    upper = record.get("upper")
    if upper is None:
        return ((*own, 0),)
    above = (upper["source_index"], upper["pts"], upper["key_pts"])
    return (*above, 0), (*own, upper["seam"])


def read_frame(
    source: Source,
    file: str,
    address: Address,
    looks: Sequence[tuple[Address, LookPlace]] = (),
) -> npt.NDArray[Any]:
    """One taken frame as a block (1, y, x), cropped and grey, read from its file.

    `looks` are read as well and averaged into it.
    """
    if source.kind == "tiles":
        assert source.shape is not None  # noqa: S101
        return read_tile(file, source, size=source.shape, dtype=source.dtype)[None]
    taken = _read_picture(source, file, address)
    if not looks:
        return taken[None]
    others = (_read_picture(source, file, other) for other, _ in looks)
    return average_looks(taken, others, places=[place for _, place in looks]).image[None]


def _read_picture(source: Source, file: str, address: Address) -> npt.NDArray[Any]:
    """A complete picture (y, x), put together from the recorded frames of its address."""
    parts = []
    for n, (number, pts, key_pts, first) in enumerate(address):
        image = read_video_frame(file, source_index=number, pts=pts, key_pts=key_pts)
        kept = image[source.crop.kept((image.shape[0], image.shape[1]))]
        end = address[n + 1][3] if n + 1 < len(address) else len(kept)
        parts.append(kept[first:end])
    return np.concatenate(parts)
