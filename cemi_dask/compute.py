"""How named pieces of work are carried out: `Compute`, and one-task execution.

A stage describes its work as named dask `Delayed` items and hands them to a `Compute`.
The default runs them on whatever scheduler is active; a run passes one that consults its
ledger, bounds what is in flight and reports progress. Stages know nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import dask.array as da
from dask.base import compute, tokenize
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import GraphNode

from cemi_dask.geometry import Box

Items = Mapping[str, Delayed]


class Compute(Protocol):
    """Carries out named items and returns their results under the same names."""

    def __call__(self, items: Items, /) -> dict[str, Any]:
        """Results of all `items`, under the same names."""
        ...


def compute_items(items: Items, /) -> dict[str, Any]:
    """Results of all `items`, computed at once on the active dask scheduler."""
    results = compute(*items.values())
    return dict(zip(items, results, strict=True))


def named_task(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Delayed:
    """A lazy call of `function` whose key starts with `name`, as the dashboard shows it.

    `Delayed` and dask collections among the arguments become dependencies. The same
    arguments give the same key.
    """
    token = tokenize(function, args, kwargs)
    # dask looks through the whole graph of each argument, once per task: with a frame per key,
    # making all tasks of a stage would take time that grows with the square of the frames.
    few = [_on_its_own(value) for value in args]
    return delayed(function, pure=False)(*few, dask_key_name=f"{name}-{token}", **kwargs)


def _on_its_own(value: Any) -> Any:
    """`value` with each `Delayed`, also in lists, on a graph of no more than what it needs."""
    if type(value) is list:
        return [_on_its_own(part) for part in value]
    if type(value) is Delayed and isinstance(value.dask, HighLevelGraph):
        needed = _needed(value.dask, value.key)
        if needed is not None:
            return Delayed(value.key, HighLevelGraph({value.key: needed}, {value.key: set()}))
    return value


def _needed(graph: HighLevelGraph, key: Any) -> dict[Any, GraphNode] | None:
    """The tasks that `key` needs; None where that cannot be told without going through all."""
    layers = list(graph.layers.values())
    if any(layer.annotations for layer in layers):
        return None
    found: dict[Any, GraphNode] = {}
    ahead = [key]
    while ahead:
        wanted = ahead.pop()
        if wanted in found:
            continue
        task = next((layer[wanted] for layer in layers if wanted in layer), None)
        if not isinstance(task, GraphNode):
            return None
        found[wanted] = task
        ahead += task.dependencies
    return found


def read_box(array: da.Array, box: Box) -> Delayed:
    """One lazy (y, x) numpy array: the part of a 2-D dask array inside `box`.

    An array that comes straight from storage is read by the slice, so that a halo costs its
    own pixels and not its neighbours' whole chunks; chunks that are computed are shared.
    """
    part = array[box.slices].rechunk(box.shape)
    from_storage = len(array.dask.layers) <= 2
    return part.to_delayed(optimize_graph=from_storage).ravel()[0]
