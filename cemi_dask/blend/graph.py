"""The mosaic as a lazy dask array: one task per output shard."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import Task, TaskRef

from cemi_dask.blend.means import Feather
from cemi_dask.blend.method import Blender
from cemi_dask.blend.methods import BLENDERS
from cemi_dask.blend.render import render
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames, plane
from cemi_dask.geometry import Box, ChunkGrid, Layout

_PLACED = ("x_px", "y_px", "gain", "offset", "used", "shear", "bends")
_DTYPES = ("uint8", "uint16", "float32")


def blend(
    frames: Frames,
    layout: Layout,
    *,
    method: Blender | dict[str, Any] | str = Feather(),  # noqa: B008 (frozen)
    shard_px: int = 4096,
    dtype: npt.DTypeLike | None = None,
) -> da.Array:
    """Lazy mosaic (H, W) of the frames at their places, cut into shards of `shard_px`.

    Each shard is one task that depends on exactly the frames touching it; its pixels do not
    depend on how the mosaic is cut. `dtype` defaults to that of the frames (float64 becomes
    float32). 0 (NaN in a float mosaic) marks pixels that no used frame covers; frames with
    ``layout.used`` False are ignored. Raises InputError for a layout that does not fit the
    frames, ConfigError for an unknown method or type.
    """
    blender = BLENDERS.parse(method)
    kind = _mosaic_dtype(frames.dtype if dtype is None else np.dtype(dtype))
    if shard_px < 1:
        raise ConfigError(f"shard_px must be at least 1, not {shard_px}.")
    _check_layout(frames, layout)
    data = frames.data.rechunk({0: 1, 1: -1, 2: -1})
    grid = ChunkGrid(layout.shape, (shard_px, shard_px))
    name = "blend-shard-" + tokenize(data.name, _layout_values(layout), repr(blender), grid, kind)
    tasks: dict[Any, Task] = {}
    for row, col, box in grid:
        touching = layout.frames_in(box.expand(blender.halo_px))
        key = (name, row, col)
        blocks = [TaskRef((data.name, int(i), 0, 0)) for i in touching]
        tasks[key] = Task(key, _render_shard, box, layout.part(touching), blender, kind, *blocks)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[data])
    return da.Array(graph, name, chunks=grid.dask_chunks, dtype=kind)


def _render_shard(
    box: Box, layout: Layout, method: Blender, dtype: np.dtype[Any], *blocks: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """One shard of the mosaic from the frame blocks that touch it."""
    return render(box, [plane(block) for block in blocks], layout, method=method, dtype=dtype)


def _mosaic_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    wanted = np.dtype(np.float32) if dtype == np.float64 else dtype
    if wanted.name not in _DTYPES:
        raise ConfigError(f"A mosaic cannot be of type {dtype}; choose one of {list(_DTYPES)}.")
    return wanted


def _layout_values(layout: Layout) -> list[Any]:
    return [
        layout.frame_shape,
        layout.distortion and layout.distortion.to_json(),
        *(getattr(layout, name) for name in _PLACED),
    ]


def _check_layout(frames: Frames, layout: Layout) -> None:
    layout.check_fits(len(frames), frames.frame_shape)
    wrong = np.flatnonzero(layout.used & (layout.gain <= 0))
    if wrong.size:
        raise InputError(
            f"Layout.gain is {layout.gain[wrong[0]]:g} for frame {int(wrong[0])}; gains are "
            "positive. Solve the layout anew, or mark the frame as not used."
        )
    for name, values in (("x_px", layout.left_px), ("y_px", layout.y_px)):
        outside = np.flatnonzero(layout.used & (values < -0.5))
        if outside.size:
            raise InputError(
                f"Layout.{name} puts the first pixel of frame {int(outside[0])} at "
                f"{values[outside[0]]:.2f}, outside of the mosaic. Call layout.to_origin() first."
            )
