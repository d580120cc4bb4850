"""What is decided before pixels are read in earnest: sizes, crop, where tiles lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from cemi_dask.frames.metadata import FolderNames, FrameMetadata, agree, read_metadata
from cemi_dask.frames.options import FROM_TAGS, Crop, InputOptions, TileOptions
from cemi_dask.frames.positions import read_positions
from cemi_dask.frames.scan import mixed_error
from cemi_dask.frames.sequence import sequence_order
from cemi_dask.frames.sources import Place, Source
from cemi_dask.frames.stage import stage_layout
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


@dataclass(frozen=True)
class Framing:
    """What the layout of tiles is worked out with: sizes, pixel size, stage positions, notes."""

    size: tuple[int, int]
    crop: Crop
    pixel_um: float | None
    stage_um: tuple[tuple[float, float] | None, ...]
    base: Path

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px of a cropped frame."""
        return self.crop.shape(self.size)


def prepare(
    sources: Sequence[Source], options: InputOptions, base: Path | str = "."
) -> list[Source]:
    """The sources with size, grey type, crop, metadata, tile places and what they mean filled in.

    Only headers, sidecars and a few sample pictures are read. Raises InputError where files
    differ in size, grey type or stated pixel size (naming both), ConfigError for a crop that
    leaves nothing or for positions that need a pixel size where none is known.
    """
    size, dtype, stated = _headers(sources, options)
    agreed = agree(stated, pixel_um=options.pixel_um, size=size)
    crop, notes = _crop(sources, options, size, [found for _, found in stated])
    if min(crop.shape(size)) < MIN_KEPT_PX:
        raise ConfigError(
            f"input.crop ({crop}) leaves {crop.shape(size)} px (height, width) of frames of "
            f"{size}. Cut less."
        )
    stage = tuple(_stage_position(found) for _, found in stated)
    framing = Framing(size, crop, agreed.pixel_um, stage, Path(base))
    nominal: Nominal = "row"
    places: list[Place] = []
    notes += agreed.notes
    if sources[0].kind == "tiles":
        places, nominal, how = _places([file for file, _ in stated], options, framing)
        notes += how
    prepared, start = [], 0
    for source in sources:
        part = slice(start, start + len(source.files))
        start = part.stop
        prepared.append(
            replace(
                source,
                shape=size,
                dtype=dtype,
                crop=crop,
                places=tuple(places[part]),
                nominal=nominal,
                notes=tuple(notes),
                warnings=agreed.warnings,
                metadata=agreed.metadata,
                stage_um=stage[part],
                pixel_um=agreed.pixel_um,
            )
        )
    return prepared


def _headers(
    sources: Sequence[Source], options: InputOptions
) -> tuple[tuple[int, int], str, list[tuple[str, FrameMetadata]]]:
    """((height, width), grey type, [(file, metadata)]) from the headers of all files."""
    first: tuple[str, tuple[int, int], str] | None = None
    stated, names, nothing = [], FolderNames(), FrameMetadata()
    for source in sources:
        header = video_header if source.kind == "video" else image_header
        for file in source.files:
            size, dtype = header(file)
            if first is None:
                first = file, size, dtype
            elif (size, dtype) != first[1:]:
                raise mixed_error(first, (file, size, dtype))
            asked = options.metadata == "auto"
            stated.append((file, read_metadata(file, names=names) if asked else nothing))
    assert first is not None  # noqa: S101
    return first[1], first[2], stated


def _stage_position(found: FrameMetadata) -> tuple[float, float] | None:
    if found.stage_x_um is None or found.stage_y_um is None:
        return None
    return found.stage_x_um, found.stage_y_um


def _crop(
    sources: Sequence[Source],
    options: InputOptions,
    size: tuple[int, int],
    stated: Sequence[FrameMetadata],
) -> tuple[Crop, list[str]]:
    if isinstance(options.crop, Crop):
        return options.crop, []
    if options.crop == "none":
        return Crop(), []
    heights = {found.picture_height_in(size) for found in stated}
    height = heights.pop() if len(heights) == 1 else None
    if height is not None and size[0] / 2 <= height < size[0]:
        return Crop(bottom=size[0] - height), [
            f"data bar cropped: {size[0] - height} px at the bottom, as the metadata state "
            f"{height} of {size[0]} lines (set input.crop to change this)"
        ]
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
            near = [
                frame_near(opened, index.key_pts[n], not_before=index.key_pts[max(0, n - 1)])
                for n in steps.astype(int)
            ]
        found = [picture for picture in near if picture is not None]
        if 2 * len(found) >= len(steps):
            yield from found
            return
    stride = max(1, min(index.recorded, 96) // (count + 1))
    pictures = (p.image for p in decode_video(path, index) if p.image is not None)
    yield from islice(pictures, stride // 2, count * stride, stride)


def _places(
    files: Sequence[str], options: InputOptions, framing: Framing
) -> tuple[list[Place], Nominal, list[str]]:
    """(place of every file, what the places mean, in words where from)."""
    tiles = options.tiles
    grid = grid_of(files, tiles)
    if tiles.positions_file is not None:
        path = framing.base / Path(tiles.positions_file).expanduser()
        x, y, grid, how = read_positions(
            path, files, grid=grid, options=tiles, pixel_um=framing.pixel_um
        )
        told = [f"stage positions from {path.name}, {how}"]
        return _stage_places(grid, x, y, framing.shape), "stage", told
    notes = []
    if _by_metadata(tiles, grid, framing):
        found = stage_layout(
            files,
            framing.stage_um,
            pixel_um=framing.pixel_um,
            framing=(framing.size, framing.crop),
            options=tiles,
        )
        if not found.doubt or tiles.positions == FROM_TAGS:
            doubt = f", though {found.doubt}" if found.doubt else ""
            places = _stage_places(grid, found.x_px, found.y_px, framing.shape)
            return places, "stage", [f"{found.how}{doubt}"]
        notes.append(f"stage positions in the metadata are not used: {found.doubt}")
    if grid.kind == "grid" and grid.bare:
        grid = overlap_order(files, grid, framing.crop)
    if grid.kind == "sequence":
        grid = sequence_order(files, grid, framing.crop)
    numbered = list(zip(grid.rows, grid.cols, strict=True))
    if grid.kind == "none":
        return [Place(r, c) for r, c in numbered], "none", [*notes, grid.how]
    pitch_y, pitch_x = (size * (1 - tiles.overlap) for size in framing.shape)
    notes.append(f"{grid.how}; pitch by an overlap of {tiles.overlap:.0%}")
    return [Place(r, c, c * pitch_x, r * pitch_y) for r, c in numbered], "grid", notes


def _by_metadata(tiles: TileOptions, grid: Grid, framing: Framing) -> bool:
    """True where stage positions in metadata are to be used, or to be tried unasked."""
    if tiles.positions == FROM_TAGS:
        return True
    # A mere numbering tells less than positions do.
    unknown = grid.kind in ("none", "sequence") and tiles.pattern is None
    complete = framing.pixel_um is not None and None not in framing.stage_um
    return unknown and complete and len(framing.stage_um) > 1


def _stage_places(
    grid: Grid, x_px: npt.NDArray[Any], y_px: npt.NDArray[Any], shape: tuple[int, int]
) -> list[Place]:
    grid = _grid_by_position(grid, y_px, shape)
    return [
        Place(r, c, float(u), float(v))
        for r, c, u, v in zip(grid.rows, grid.cols, x_px, y_px, strict=True)
    ]


def _grid_by_position(grid: Grid, y_px: npt.NDArray[Any], shape: tuple[int, int]) -> Grid:
    """The grid, with rows by position where the names state none."""
    if grid.kind == "grid":
        return grid
    order = np.argsort(y_px, kind="stable")
    steps = np.diff(y_px[order]) > shape[0] / 2
    rows = np.empty(len(y_px), np.int64)
    rows[order] = np.concatenate(([0], np.cumsum(steps)))
    return Grid("none", tuple(int(r) for r in rows), (-1,) * len(rows), grid.how)
