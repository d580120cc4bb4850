"""Coarser levels of a mosaic or label: each half the size of the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from dask.delayed import Delayed

from cemi_dask.compute import Compute, compute_items, named_task
from cemi_dask.geometry import Box, ChunkGrid
from cemi_dask.store import metadata
from cemi_dask.store.arrays import (
    ArraySpec,
    check_shards,
    ensure_array,
    open_array,
    read_region,
    write_region,
)
from cemi_dask.store.mosaic import LABEL_CODEC, Mosaic, disk_spec, open_mosaic, options_of

Image = npt.NDArray[Any]


def _even(image: Image) -> Image:
    """The image with its last row or column repeated where a side is odd."""
    height, width = image.shape
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")


def halve_mean(image: Image) -> Image:
    """Mean of the valid pixels of each 2 x 2 block, (h, w) -> (ceil(h/2), ceil(w/2)).

    Valid means not 0 (not NaN for floats); a result is valid if any of the four is. Integers are
    rounded half up. Odd sides are first padded by repeating the last row or column.
    """
    even = _even(image)
    valid = ~np.isnan(even) if even.dtype.kind == "f" else even != 0
    if valid.all():
        height, width = even.shape
        return cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    wide = np.float32 if even.dtype.kind == "f" else np.uint32
    filled = np.where(valid, even, 0)
    total = sum(part.astype(wide) for part in _quarters(filled))
    count = sum(part.astype(wide) for part in _quarters(valid))
    if even.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            return np.asarray(total / count, dtype=even.dtype)
    mean = (2 * total + count) // np.maximum(2 * count, 1)
    return np.asarray(mean, dtype=even.dtype)


def halve_labels(image: Image) -> Image:
    """Most frequent label of each 2 x 2 block, (h, w) -> (ceil(h/2), ceil(w/2)).

    Ties take the top left pixel's label where it is among the winners, so that no label is
    favoured and area fractions stay. Odd sides are first padded by repetition.
    """
    a, b, c, d = _quarters(_even(image))
    alone = (a != b) & (a != c) & (a != d)
    out = a.copy()
    b_wins = alone & ((b == c) | (b == d))
    out[b_wins] = b[b_wins]
    c_wins = alone & ~b_wins & (c == d)
    out[c_wins] = c[c_wins]
    return out


def _quarters(image: Image) -> tuple[Image, Image, Image, Image]:
    return image[::2, ::2], image[::2, 1::2], image[1::2, ::2], image[1::2, 1::2]


def write_pyramid(
    path: Path | str, *, compute: Compute = compute_items, label: str | None = None
) -> Mosaic:
    """The coarser levels of the mosaic at `path`, or of one of its labels.

    Level by level, one item ``pyramid-shard/level-row-col`` (with the label's name before the
    level) per output shard, each made from up to four shards of the level before. Mosaics use
    `halve_mean`, labels `halve_labels`. The metadata list the levels once they are complete.
    """
    folder = Path(path)
    options = options_of(folder)
    mosaic = open_mosaic(folder)
    target, prefix = folder, "pyramid-shard/"
    if label is not None:
        mosaic.label(label)  # refuses a name that is none
        target, prefix = folder / "labels" / label, f"pyramid-shard/{label}-"
        options = options.model_copy(update={"codec": LABEL_CODEC})
    attributes = metadata.read_group(target)
    halve = halve_mean if label is None else halve_labels
    count = options.level_count(mosaic.shape)
    for level in range(1, count):
        finer = open_array(target / str(level - 1), "read")
        height, width = (-(-n // 2) for n in finer.shape)
        spec = disk_spec((height, width), finer.dtype.name, options)
        ensure_array(target / str(level), spec, overwrite=True)
        compute(_level_items(target, level, spec, name=f"{prefix}{level}-", halve=halve))
        check_shards(target / str(level))
    _list_levels(target, attributes, count)
    return open_mosaic(folder)


def _level_items(
    target: Path, level: int, spec: ArraySpec, *, name: str, halve: Callable[[Image], Image]
) -> dict[str, Delayed]:
    """One item per output shard of `level`."""
    assert spec.shards is not None  # noqa: S101 (levels are always sharded)
    height, width = spec.shape
    shard_y, shard_x = spec.shards
    finer, coarser = str(target / str(level - 1)), str(target / str(level))
    items = {}
    for row, col, box in ChunkGrid((height, width), (shard_y, shard_x)):
        item = f"{name}{row}-{col}"
        items[item] = named_task(item, _write_coarser, finer, coarser, box, halve)
    return items


def _write_coarser(
    finer: str, coarser: str, box: Box, halve: Callable[[Image], Image]
) -> dict[str, int]:
    """Make one shard of a level from the level before, a quarter at a time to bound memory."""
    height, width = open_array(finer, "read").shape
    out = np.empty(box.shape, open_array(coarser, "read").dtype)
    quarter = -(-box.shape[0] // 2), -(-box.shape[1] // 2)
    for _, _, part in ChunkGrid(box.shape, quarter):
        place = part.shift(box.y0, box.x0)
        source = Box(
            2 * place.y0, 2 * place.x0, min(height, 2 * place.y1), min(width, 2 * place.x1)
        )
        out[part.slices] = halve(read_region(finer, source.slices))
    return {"bytes": write_region(coarser, box.slices, out)}


def _list_levels(path: Path, attributes: dict[str, Any], count: int) -> None:
    """Name all levels in the metadata, and for a mosaic the grey levels to show."""
    ome, own = attributes["ome"], attributes["cemi"]
    if "image-label" in ome:
        old = ome["multiscales"][0]
        new = metadata.multiscale(count, own["pixel_um"], old["name"], old["type"])
        metadata.write_group(path, {**attributes, "ome": {**ome, "multiscales": [new]}})
        return
    shape = open_array(path / str(count - 1), "read").shape
    coarsest = read_region(str(path / str(count - 1)), tuple(slice(0, n) for n in shape))
    described = metadata.image_attributes(
        count, own["pixel_um"], options=own["options"], window=display_window(coarsest)
    )
    metadata.write_group(path, described)


def display_window(image: Image) -> tuple[float, float, float, float] | None:
    """(min, start, end, max) grey levels for display: start and end cut 0.5 % at either side.

    None where the image holds no valid pixel.
    """
    floating = image.dtype.kind == "f"
    valid = image[~np.isnan(image)] if floating else image[image != 0]
    if valid.size == 0:
        return None
    start, end = (float(v) for v in np.percentile(valid, (0.5, 99.5)))
    if floating:
        return float(valid.min()), start, end, float(valid.max())
    return 0.0, start, end, float(np.iinfo(image.dtype).max)
