"""What is decided before pixels are read in earnest: sizes, crop, where tiles lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError
from cemi_dask.frames.databar import detect_bar
from cemi_dask.frames.grid import Grid, grid_of
from cemi_dask.frames.images import image_header, read_image
from cemi_dask.frames.layout import overlap_order
from cemi_dask.frames.options import Crop, InputOptions
from cemi_dask.frames.positions import read_positions
from cemi_dask.frames.scan import mixed_error
from cemi_dask.frames.sources import Place, Source
from cemi_dask.frames.video import (
    decode_video,
    frame_near,
    index_video,
    open_video,
    video_header,
)
from cemi_dask.frameset import Nominal

SAMPLES = 8  # pictures that the data bar is looked for in
MIN_KEPT_PX = 16


def prepare(
    sources: Sequence[Source], options: InputOptions, base: Path | str = "."
) -> list[Source]:
    """The sources with size, grey type, crop, tile places and what they mean filled in.

    Only headers and a few sample pictures are read. Raises InputError where files differ
    in size or grey type (naming both), ConfigError for a crop that leaves nothing.
    """
    size, dtype = _common_size(sources)
    crop, notes = _crop(sources, options, size)
    if min(crop.shape(size)) < MIN_KEPT_PX:
        raise ConfigError(
            f"input.crop ({crop}) leaves {crop.shape(size)} px (height, width) of frames of "
            f"{size}. Cut less."
        )
    common = {"shape": size, "dtype": dtype, "crop": crop}
    if sources[0].kind == "video":
        return [replace(s, **common, nominal="row", notes=tuple(notes)) for s in sources]  # type: ignore[arg-type]
    files = [file for source in sources for file in source.files]
    places, nominal, how = _places(files, options, (size, crop), Path(base))
    notes = [*notes, how]
    prepared, start = [], 0
    for source in sources:
        part = tuple(places[start : start + len(source.files)])
        start += len(source.files)
        prepared.append(
            replace(source, **common, places=part, nominal=nominal, notes=tuple(notes))  # type: ignore[arg-type]
        )
    return prepared


def _common_size(sources: Sequence[Source]) -> tuple[tuple[int, int], str]:
    """((height, width), grey type) that all files share, from their headers."""
    first: tuple[str, tuple[int, int], str] | None = None
    for source in sources:
        header = video_header if source.kind == "video" else image_header
        for file in source.files:
            size, dtype = header(file)
            if first is None:
                first = file, size, dtype
            elif (size, dtype) != first[1:]:
                raise mixed_error(first, (file, size, dtype))
    assert first is not None  # noqa: S101
    return first[1], first[2]


def _crop(
    sources: Sequence[Source], options: InputOptions, size: tuple[int, int]
) -> tuple[Crop, list[str]]:
    if isinstance(options.crop, Crop):
        return options.crop, []
    if options.crop == "none":
        return Crop(), []
    samples = [picture for picture in sample_pictures(sources) if picture.shape == size]
    found = detect_bar(samples)
    if found == Crop():
        return found, []
    told = " and ".join(
        f"{value} px at the {side}" for side, value in found.model_dump().items() if value
    )
    return found, [f"data bar cropped: {told} (set input.crop to change this)"]


def sample_pictures(sources: Sequence[Source], count: int = SAMPLES) -> list[npt.NDArray[Any]]:
    """A few pictures from all over the input, for decisions that need no order."""
    if sources[0].kind == "tiles":
        files = [file for source in sources for file in source.files]
        chosen = np.unique(np.linspace(0, len(files) - 1, count).round().astype(int))
        return [read_image(files[n]) for n in chosen]
    chosen = np.unique(np.linspace(0, len(sources) - 1, count).round().astype(int))
    each = -(-count // len(chosen))
    return [p for n in chosen for p in _spread(sources[n].files[0], each)]


def _spread(path: str, count: int) -> Iterator[npt.NDArray[Any]]:
    """Up to `count` different pictures of a video, spread over it as its key frames allow."""
    index = index_video(path)
    if len(index.key_pts) >= count > 0:
        steps = np.unique(np.linspace(0, len(index.key_pts) - 1, count + 2).round()[1:-1])
        with open_video(path) as opened:
            for n in steps.astype(int):
                picture = frame_near(opened, index.key_pts[n])
                if picture is not None:
                    yield picture
        return
    stride = max(1, min(index.recorded, 96) // (count + 1))
    pictures = (p.image for p in decode_video(path, index) if p.image is not None)
    yield from islice(pictures, stride // 2, count * stride, stride)


def _places(
    files: Sequence[str],
    options: InputOptions,
    framing: tuple[tuple[int, int], Crop],
    base: Path,
) -> tuple[list[Place], Nominal, str]:
    """(place of every file, what the places mean, in words where from)."""
    (size, crop) = framing
    shape = crop.shape(size)
    grid = grid_of(files, options.tiles)
    if options.tiles.positions is not None:
        path = base / Path(options.tiles.positions).expanduser()
        x, y, grid, how = read_positions(
            path, files, grid=grid, options=options.tiles, pixel_um=options.pixel_um
        )
        grid = _grid_by_position(grid, y, shape)
        places = [
            Place(r, c, float(u), float(v))
            for r, c, u, v in zip(grid.rows, grid.cols, x, y, strict=True)
        ]
        return places, "stage", f"stage positions from {path.name}, {how}"
    if grid.kind == "grid" and grid.bare:
        grid = overlap_order(files, grid, crop)
    if grid.kind == "none":
        return [Place(r, c) for r, c in zip(grid.rows, grid.cols, strict=True)], "none", grid.how
    pitch_y, pitch_x = (size * (1 - options.tiles.overlap) for size in shape)
    places = [
        Place(r, c, c * pitch_x, r * pitch_y) for r, c in zip(grid.rows, grid.cols, strict=True)
    ]
    return places, "grid", f"{grid.how}; pitch by an overlap of {options.tiles.overlap:.0%}"


def _grid_by_position(grid: Grid, y_px: npt.NDArray[Any], shape: tuple[int, int]) -> Grid:
    """The grid, with rows by position where the names state none."""
    if grid.kind == "grid":
        return grid
    order = np.argsort(y_px, kind="stable")
    steps = np.diff(y_px[order]) > shape[0] / 2
    rows = np.empty(len(y_px), np.int64)
    rows[order] = np.concatenate(([0], np.cumsum(steps)))
    return Grid("none", tuple(int(r) for r in rows), (-1,) * len(rows), grid.how)
