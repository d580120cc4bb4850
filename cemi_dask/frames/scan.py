"""One pass over a source: what is in it, which frames are taken, and their pixels to a sink."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError, NoOverlapError
from cemi_dask.frames.images import image_header, read_image
from cemi_dask.frames.motion import reduction
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.row import RowFollower, Taken, bridge
from cemi_dask.frames.selection import overlap_of
from cemi_dask.frames.shading import ShadingSink
from cemi_dask.frames.sources import Place, Source
from cemi_dask.frames.texture import reduced, refusal, sharpness
from cemi_dask.frames.video import (
    Picture,
    VideoIndex,
    decode_video,
    index_video,
    video_header,
)

Sink = Callable[[npt.NDArray[Any]], None]


def scan_source(
    source: Source, selection: SelectionOptions | None = None, *, sink: Sink | None = None
) -> dict[str, Any]:
    """What one source holds, from one sequential pass in constant memory, as plain JSON.

    Keys: ``records`` (one per frame taken and one per frame refused: file, source_index,
    pts, key_pts, time_s, row, col, x_nominal_px, y_nominal_px, sharpness, taken, used, reason;
    None where unknown), ``shape`` (cropped, px), ``dtype``, ``crop``, ``recorded`` (frames
    in the source), ``velocity_px`` (per recorded frame, videos), ``shading`` (see
    `shading_summary`), ``warnings`` and ``notes``.
    `sink` gets the pixels (y, x) of the taken records, cropped and grey, in their order.
    Raises UnreadableError for a file that cannot be read at all, InputError for a video
    without one usable frame and for a picture that does not fit the others.
    """
    selection = selection or SelectionOptions()
    if source.kind == "video":
        return _scan_video(source, selection, sink)
    return _scan_tiles(source, selection, sink)


def _scan_video(source: Source, selection: SelectionOptions, sink: Sink | None) -> dict[str, Any]:
    path = source.files[0]
    size, dtype = (source.shape, source.dtype) if source.shape else video_header(path)
    assert size is not None  # noqa: S101
    index = index_video(path)
    shading = ShadingSink(sink)
    follower = RowFollower(source.crop.shape(size), selection, shading)
    recorded = 0
    for picture in decode_video(path, index):
        recorded += 1
        follower.see(_cropped(picture, source, size))
    follower.finish()
    refused = Counter(reason for _, reason in follower.refused)
    if not follower.taken:
        told = ", ".join(f"{n} {reason}" for reason, n in refused.items()) or "none recorded"
        raise InputError(
            f"{path} holds no usable frame ({recorded} recorded: {told}). Leave it out, or "
            "lower frames.blank_correlation and frames.blank_contrast if frames are not blank."
        )
    if len(follower.stretches) > 1 and follower.velocity_px() is None:
        raise NoOverlapError(
            f"{path}: no two of its {recorded} recorded frames share anything measurable, so none "
            "can be placed. Check that it shows structure and that frames overlap; lower "
            "frames.min_score if they do, or leave it out."
        )
    origins, gaps = bridge(follower)
    records = [_taken_record(source, index, taken, origins) for taken in follower.taken]
    by_taking = list(records)
    warnings = [*index.problems, *gaps, *_overlap_warnings(records, follower)]
    if recorded > 1 and len(follower.taken) == 1:
        warnings.append(f"the picture does not move in {recorded} recorded frames: one was taken")
    records += [_refused_record(source, index, p, reason) for p, reason in follower.refused]
    warnings += [
        f"{n} of {recorded} recorded frames are {reason}" for reason, n in sorted(refused.items())
    ]
    return {
        "records": sorted(records, key=lambda r: r["source_index"]),
        "shape": list(follower.shape),
        "dtype": dtype,
        "crop": source.crop.model_dump(),
        "recorded": recorded,
        "velocity_px": follower.velocity_px(),
        "shading": shading.summary(by_taking),
        "warnings": [f"{Path(path).name}: {warning}" for warning in warnings],
        "notes": list(source.notes),
    }


def _cropped(picture: Picture, source: Source, size: tuple[int, int]) -> Picture:
    if picture.image is None:
        return picture
    if picture.image.shape != size:
        picture.problem, picture.image = "size", None
        return picture
    picture.image = picture.image[source.crop.kept(size)]
    return picture


def _taken_record(
    source: Source, index: VideoIndex, taken: Taken, origins: list[tuple[float, float]]
) -> dict[str, Any]:
    frame, (x0, y0) = taken.candidate, origins[taken.stretch]
    return {
        "file": source.files[0],
        "source_index": frame.source_index,
        "pts": frame.pts,
        "key_pts": None if frame.pts is None else index.key_before(frame.pts),
        "time_s": _finite(frame.time_s),
        "row": source.row,
        "col": -1,
        "x_nominal_px": x0 + frame.x_px,
        "y_nominal_px": y0 + frame.y_px,
        "sharpness": taken.sharpness,
        "taken": True,
        "used": True,
        "reason": "",
    }


def _refused_record(
    source: Source, index: VideoIndex, picture: Picture, reason: str
) -> dict[str, Any]:
    return {
        "file": source.files[0],
        "source_index": picture.source_index,
        "pts": picture.pts,
        "key_pts": None if picture.pts is None else index.key_before(picture.pts),
        "time_s": _finite(picture.time_s),
        "row": source.row,
        "col": -1,
        "x_nominal_px": None,
        "y_nominal_px": None,
        "sharpness": None,
        "taken": False,
        "used": False,
        "reason": reason,
    }


def _overlap_warnings(records: list[dict[str, Any]], follower: RowFollower) -> list[str]:
    """Neighbouring overlaps outside the bounds, counted, with the worst one named."""
    options = follower.options
    x = np.array([r["x_nominal_px"] for r in records])
    y = np.array([r["y_nominal_px"] for r in records])
    overlap = overlap_of(np.diff(x), np.diff(y), follower.shape)
    told = []
    for name, bad, worst in (
        ("below overlap_min", overlap < options.overlap_min, np.argmin),
        ("above overlap_max", overlap > options.overlap_max, np.argmax),
    ):
        if bad.any():
            at = int(worst(overlap))
            told.append(
                f"{int(bad.sum())} of {len(overlap)} neighbouring overlaps are {name}, the worst "
                f"({overlap[at]:.0%}) between recorded frames {records[at]['source_index']} and "
                f"{records[at + 1]['source_index']}"
            )
    return told


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
        "velocity_px": None,
        "shading": shading.summary(records),
        "warnings": [
            f"{n} of the {len(records)} tiles from {Path(source.files[0]).name} on are {reason}: "
            + ", ".join(Path(r["file"]).name for r in records if r["reason"] == reason)
            for reason, n in sorted(refused.items())
        ],
        "notes": list(source.notes),
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
        "taken": True,
        "used": not reason,
        "reason": reason,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
