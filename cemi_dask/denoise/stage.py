"""The denoising stage: `DENOISERS`, and `denoise`, lazy, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task, TaskRef

from cemi_dask.denoise.classical import Median, NonLocalMeans
from cemi_dask.denoise.method import Denoiser, Frame
from cemi_dask.denoise.network import Network
from cemi_dask.denoise.overlap import Overlap
from cemi_dask.denoise.transform import Dct, Fourier
from cemi_dask.denoise.video import Video
from cemi_dask.frameset import Frames, plane
from cemi_dask.geometry import Layout
from cemi_dask.methods import Registry

DENOISERS: Registry[Denoiser] = Registry(
    "denoiser", Denoiser, (Network, Video, Overlap, Fourier, Dct, NonLocalMeans, Median)
)


def denoise(
    frames: Frames,
    *,
    method: Denoiser | dict[str, Any] | str = "fourier",
    layout: Layout | None = None,
) -> Frames:
    """Lazily denoised frames: same table, shape and dtype.

    One task ``denoise-...`` per frame, or per as many as the method takes at once. `method`
    is a denoiser, its name, or a mapping as in YAML. `layout` says where the frames lie; methods
    that need neighbours need it, and each of their tasks depends on the frame and its
    neighbours alone. Raises ConfigError for an unknown method or option, and where the layout
    is wanting, InputError for one of other frames; a frame with NaN raises InputError, naming
    it, when computed.
    """
    cleaner = DENOISERS.parse(method).located(Path.cwd())
    # Which fields were given and which are defaults must not show in the name.
    marks = type(cleaner), cleaner.model_dump(), cleaner.fingerprint()
    if cleaner.needs == "neighbours" and layout is not None:
        layout.check_fits(len(frames), frames.frame_shape)
        name = f"denoise-{tokenize(frames.data.name, *marks, layout)}"
        return frames.with_data(_among_neighbours(frames, cleaner, layout, name))
    cleaner.refuse_alone()
    data = frames.data.rechunk({0: cleaner.frames_at_once, 1: -1, 2: -1})
    name = f"denoise-{tokenize(data.name, *marks)}"
    return frames.with_data(
        data.map_blocks(denoise_block, cleaner, dtype=data.dtype, meta=data._meta, name=name)
    )


def _among_neighbours(frames: Frames, method: Denoiser, layout: Layout, name: str) -> da.Array:
    """The stack whose task `name`, k cleans frame k among its neighbours."""
    data: Any = frames.data
    tasks: dict[Any, Task] = {}
    for index in range(len(frames)):
        numbers = np.array([index, *method.neighbours(index, layout)])
        blocks = [TaskRef((data.name, int(number), 0, 0)) for number in numbers]
        key = (name, index, 0, 0)
        part = layout.part(numbers)
        tasks[key] = Task(key, _denoise_placed, method, part, numbers.tolist(), *blocks)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[data])
    return da.Array(graph, name, chunks=data.chunks, dtype=data.dtype)


def _denoise_placed(
    method: Denoiser, layout: Layout, numbers: Sequence[int], *blocks: Frame
) -> Frame:
    """A denoised block (1, y, x) from the blocks of a frame and of its neighbours."""
    return method.clean_placed([plane(block) for block in blocks], layout, numbers)[None]


def denoise_block(
    block: Frame, method: Denoiser, block_info: dict[Any, Any] | None = None
) -> Frame:
    """A denoised block (n, y, x); an error names the frame by its place in the stack."""
    first = block_info[0]["array-location"][0][0] if block_info else 0
    return method.clean_block(block, first)
