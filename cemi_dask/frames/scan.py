"""One pass over a source: what is in it, which frames are taken, and their pixels to a sink."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.frames.images import image_header, read_image
from cemi_dask.frames.motion import reduction
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.rowscan import Sink, scan_video
from cemi_dask.frames.shading import ShadingSink
from cemi_dask.frames.sources import Place, Source
from cemi_dask.frames.texture import reduced, refusal, sharpness

TILES_STAY = "frames.average does nothing for tiles, of which each place has but one picture"


def scan_source(
    source: Source, selection: SelectionOptions | None = None, *, sink: Sink | None = None
) -> dict[str, Any]:
    """What one source holds, from sequential passes in constant memory, as plain JSON.

    Keys: ``records`` (one per frame taken and one per frame refused: file, source_index,
    pts, key_pts, time_s, row, col, x_nominal_px, y_nominal_px, sharpness, looks (pictures
    averaged into it), taken, used, reason; None where unknown), ``shape`` (cropped, px),
    ``dtype``, ``crop``, ``recorded`` (frames in the source), ``velocity_px_s`` (median motion
    x, y of a video), ``shading`` (see `shading_summary`), ``warnings`` and ``notes``; for
    videos more, see `scan_video`.
    `sink` gets the pixels (y, x) of the taken records, cropped and grey, in their order.
    Raises UnreadableError for a file that cannot be read at all, InputError for a video
    without one usable frame and for a picture that does not fit the others.
    """
    selection = selection or SelectionOptions()
    if source.kind == "video":
        return scan_video(source, selection, sink)
    return _scan_tiles(source, selection, sink)


def _scan_tiles(source: Source, selection: SelectionOptions, sink: Sink | None) -> dict[str, Any]:
    size, dtype = (source.shape, source.dtype) if source.shape else image_header(source.files[0])
    assert size is not None  # noqa: S101
    places = source.places or tuple(Place() for _ in source.files)
    shape = source.crop.shape(size)
    records = []
    shading = ShadingSink(sink)
    for path, place in zip(source.files, places, strict=True):
        image = read_tile(path, source, size=size, dtype=dtype)
        reason = refusal(image, reduced(image, reduction(shape)), selection)
        shading(image)
        records.append(_tile_record(path, place, sharpness(image), reason))
    refused = Counter(r["reason"] for r in records if r["reason"])
    return {
        "records": records,
        "shape": list(shape),
        "dtype": dtype,
        "crop": source.crop.model_dump(),
        "recorded": len(records),
        "velocity_px_s": None,
        "shading": shading.summary(records),
        "warnings": [
            f"{n} of the {len(records)} tiles from {Path(source.files[0]).name} on are {reason}: "
            + ", ".join(Path(r["file"]).name for r in records if r["reason"] == reason)
            for reason, n in sorted(refused.items())
        ],
        "notes": [*source.notes, *([TILES_STAY] if selection.average != "none" else [])],
    }


def read_tile(
    path: str, source: Source, *, size: tuple[int, int], dtype: str | None
) -> npt.NDArray[Any]:
    """A tile's grey pixels, cropped; InputError where size or type differ from the set's."""
    image = read_image(path)
    if image.shape != size or (dtype is not None and image.dtype.name != dtype):
        raise mixed_error(
            (source.files[0], size, dtype or ""), (path, image.shape, image.dtype.name)
        )
    return np.ascontiguousarray(image[source.crop.kept(size)])


def mixed_error(
    first: tuple[str, tuple[int, ...], str], other: tuple[str, tuple[int, ...], str]
) -> InputError:
    """The error for two files (name, (height, width), grey type) that do not go together."""

    def told(entry: tuple[str, tuple[int, ...], str]) -> str:
        path, (height, width), dtype = entry
        return f"{path} is {width} x {height} px {dtype}"

    return InputError(
        f"All frames of a mosaic must have one size and grey type, but {told(first)} and "
        f"{told(other)}. Convert one of them, or list only files of one kind in input.paths."
    )


def _tile_record(path: str, place: Place, sharp: float, reason: str) -> dict[str, Any]:
    return {
        "file": path,
        "source_index": 0,
        "pts": None,
        "key_pts": None,
        "time_s": None,
        "row": place.row,
        "col": place.col,
        "x_nominal_px": _finite(place.x_px),
        "y_nominal_px": _finite(place.y_px),
        "sharpness": sharp,
        "looks": 1,
        "taken": True,
        "used": not reason,
        "reason": reason,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
