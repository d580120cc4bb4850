"""Labels of a lazy mosaic: one task per chunk, each reading its chunk and a halo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from cemi_dask.compute import named_task, read_box
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box, ChunkGrid
from cemi_dask.segment.histogram import Histogram, count_numbers
from cemi_dask.segment.labels import Labeller, Labels
from cemi_dask.segment.methods import SEGMENTERS
from cemi_dask.segment.phases import PHASES, FromHistogram

BLOCK_PX = 2048  # counted at once


def segment(
    mosaic: da.Array | npt.NDArray[Any],
    *,
    method: Labeller | dict[str, Any] | str,
    pixel_um: float | None = None,
) -> da.Array:
    """A lazy label picture (y, x), uint8, out of a mosaic (y, x); same shape and chunks.

    `method` is a phase method or a lamellar segmenter: itself, its name, or its options as
    in YAML. `pixel_um` is needed only by methods whose lengths are given in micrometres.
    Every chunk sees the method's halo, so that the labels do not depend on the chunks. Methods
    that take their levels from the histogram of the mosaic read all of it here, once.
    Raises ConfigError for an unknown method, InputError for an array that is no picture.
    """
    lazy = mosaic if isinstance(mosaic, da.Array) else da.from_array(mosaic, chunks=4096)
    if lazy.ndim != 2:
        raise InputError(f"A mosaic has two dimensions (y, x); this array's shape is {lazy.shape}.")
    labeller = resolve(method).located(Path.cwd()).at_scale(pixel_um)
    if isinstance(labeller, FromHistogram):
        labeller = labeller.settled(_histograms(lazy, labeller), lazy.dtype)
    marks = labeller.model_dump(mode="json"), labeller.fingerprint()
    name = f"segment-shard-{tokenize(lazy.name, *marks)}"
    (rows, cols), image = lazy.chunks, Box(0, 0, *lazy.shape)
    tops, lefts = np.cumsum((0, *rows)), np.cumsum((0, *cols))
    tasks: list[Any] = []
    layer: dict[Any, Any] = {}
    for r in range(len(rows)):
        for c in range(len(cols)):
            box = Box(int(tops[r]), int(lefts[c]), int(tops[r + 1]), int(lefts[c + 1]))
            seen = seen_by(labeller, box).intersect(image)
            task = named_task(
                f"segment-block-{r}-{c}",
                label_block,
                read_box(lazy, seen),
                labeller,
                box,
                seen,
            )
            tasks.append(task)
            layer[(name, r, c)] = task.key
    graph = HighLevelGraph.from_collections(name, layer, dependencies=tasks)
    return da.Array(graph, name, chunks=lazy.chunks, dtype=np.uint8)


def _histograms(lazy: da.Array, labeller: FromHistogram) -> list[Histogram]:
    """Histograms of the mosaic's blocks, each counted by one task that sees a halo."""
    image = Box(0, 0, *lazy.shape)
    tasks = []
    for row, col, box in ChunkGrid(image.shape, (BLOCK_PX, BLOCK_PX)):
        seen = seen_by(labeller, box).intersect(image)
        block = read_box(lazy, seen)
        tasks.append(
            named_task(f"count-block-{row}-{col}", count_block, block, labeller, box, seen)
        )
    return list(da.compute(*tasks))


def count_block(grey: npt.NDArray[Any], labeller: FromHistogram, box: Box, seen: Box) -> Histogram:
    """The histogram of `box` out of the block `grey` (y, x), which shows `seen`."""
    numbers, valid, _ = labeller.prepared(grey)
    place = box.relative_to(seen).slices
    return count_numbers(numbers[place][valid[place]])


def label_block(grey: npt.NDArray[Any], labeller: Labeller, box: Box, seen: Box) -> Labels:
    """Labels of `box` out of the block `grey` (y, x), which shows `seen`: the box and its halo.

    The work is done in parts of the method's `part_px`.
    """
    labels = np.empty(box.shape, np.uint8)
    for _, _, part in ChunkGrid(box.shape, (labeller.part_px, labeller.part_px)):
        place = part.shift(box.y0, box.x0)
        wide = seen_by(labeller, place).intersect(seen)
        labels[part.slices] = labeller.label_part(
            grey[wide.relative_to(seen).slices], place.relative_to(wide)
        )
    return labels


def resolve(method: Labeller | dict[str, Any] | str) -> Labeller:
    """A labelling method of either kind from its name, from a mapping as in YAML, or itself.

    Raises ConfigError that lists every valid name or names the wrong key.
    """
    if isinstance(method, Labeller):
        return method
    name = method if isinstance(method, str) else method.get("method")
    for registry in (SEGMENTERS, PHASES):
        if name in registry.classes():
            return registry.parse(method)
    names = sorted((*SEGMENTERS.classes(), *PHASES.classes()))
    raise ConfigError(f"No labelling method is called {name!r}. Choose one of {', '.join(names)}.")


def seen_by(labeller: Labeller, box: Box) -> Box:
    """The box with the method's halo, its start moved down to a multiple of the stride."""
    wide, stride = box.expand(labeller.halo_px), labeller.stride_px
    y0, x0 = max(0, wide.y0), max(0, wide.x0)
    return Box(y0 - y0 % stride, x0 - x0 % stride, wide.y1, wide.x1)
