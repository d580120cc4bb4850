"""Items of work stay as small as what they need, however many frames there are."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from dask.delayed import Delayed
from dask.utils import ensure_dict

from cemi_dask.compute import named_task
from cemi_dask.frameset import Frames


def total(blocks: list[np.ndarray], offset: int = 0) -> int:
    return int(sum(block.sum() for block in blocks)) + offset


def tasks_of(item: Delayed) -> int:
    return len(ensure_dict(item.__dask_graph__()))


def frames(count: int) -> Frames:
    pictures = np.arange(count * 6, dtype=np.int64).reshape(count, 2, 3)
    return Frames.from_array(da.from_array(pictures, chunks=(1, 2, 3)) + 1)


def test_an_item_holds_what_it_needs_and_no_more() -> None:
    sizes = {}
    for count in (8, 64):
        blocks = frames(count).delayed()
        item = named_task("sum", total, blocks[2:4], 5)
        assert item.compute(scheduler="sync") == sum(range(13, 25)) + 5
        sizes[count] = tasks_of(item)
    assert sizes[8] == sizes[64]


def test_the_same_arguments_give_the_same_key() -> None:
    blocks = frames(8).delayed()
    first, second = (named_task("sum", total, blocks[:2], offset) for offset in (1, 2))
    assert first.key == named_task("sum", total, blocks[:2], 1).key
    assert first.key != second.key
    assert first.key.startswith("sum-")


def test_items_share_the_blocks_that_both_need() -> None:
    calls = []

    def read(number: int) -> np.ndarray:
        calls.append(number)
        return np.full((2, 3), number)

    blocks = [named_task("read", read, number) for number in range(3)]
    items = [named_task("sum", total, blocks[a : a + 2]) for a in (0, 1)]
    assert dask.compute(*items, scheduler="sync") == (6, 18)
    assert sorted(calls) == [0, 1, 2]


@pytest.mark.parametrize("where", ["argument", "keyword", "dict"])
def test_collections_are_computed_wherever_they_stand(where: str) -> None:
    array = da.ones((4, 4), chunks=2)

    def add(value: object, other: object = 0) -> float:
        held = value["a"] if isinstance(value, dict) else value
        return float(np.sum(held)) + float(np.sum(other))

    item = {
        "argument": lambda: named_task("add", add, array),
        "keyword": lambda: named_task("add", add, 0, other=array),
        "dict": lambda: named_task("add", add, {"a": array}),
    }[where]()
    assert item.compute(scheduler="sync") == 16
    with dask.annotate(resources={"GPU": 1}):
        annotated = frames(8).data * 2
    parts = list(annotated.to_delayed().ravel())
    assert named_task("sum", total, parts[:1]).compute(scheduler="sync") == 42
