"""`Batches`, the protocol of all sources of training data, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator
T = TypeVar("T")


class OnDevice(Protocol):
    """A batch: anything that can be brought to a device."""

    def to(self, device: str) -> Self:
        """The same batch on another device."""
        ...


B_co = TypeVar("B_co", bound=OnDevice, covariant=True)
B = TypeVar("B", bound=OnDevice)


class Batches(Protocol[B_co]):
    """A source of training data: the batch of a step, from the step's number alone.

    Called again with the same step it gives the same batch, whatever was asked for before,
    so that a resumed training sees what an uninterrupted one would have seen. It is called
    from threads.
    """

    def __call__(self, step: int) -> B_co:
        """The batch of step 0, 1, 2, ..."""
        ...


@dataclass(frozen=True)
class LaterSteps(Generic[B]):
    """The batches of `batches` from step `first` on: no stage sees the noise of another."""

    batches: Batches[B]
    first: int

    def __call__(self, step: int) -> B:
        """The batch of a step."""
        return self.batches(self.first + step)


def step_rng(seed: int, step: int) -> Rng:
    """The random numbers of one step of one source."""
    return np.random.default_rng((seed, step))


def as_tensor(pictures: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
    """Pictures (y, x) of one shape as a tensor (n, 1, y, x) float32."""
    stack = np.ascontiguousarray(np.stack(pictures)[:, None], np.float32)
    tensor: torch.Tensor = import_torch().from_numpy(stack)
    return tensor


def ahead(batches: Batches[B], steps: range, *, threads: int) -> Iterator[B]:
    """The batches of `steps` in order, the next ones being made in `threads` threads."""
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting = [pool.submit(batches, step) for step in steps[: threads + 1]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + (threads + 1) * steps.step in steps:
                waiting.append(pool.submit(batches, step + (threads + 1) * steps.step))
            yield batch


# ---------------------------------------------------------------- patches


def turned(picture: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    """`picture` (y, x) in one of the eight ways that a square has, 0..7; 0 is as it was."""
    flipped = picture[:, ::-1] if turn >= 4 else picture
    return np.rot90(flipped, turn % 4)


def crop(shape: tuple[int, ...], size_px: int, rng: Rng) -> tuple[slice, slice]:
    """A random window of `size_px` squared in a picture of `shape`."""
    y, x = (int(rng.integers(side - size_px + 1)) for side in shape)
    return slice(y, y + size_px), slice(x, x + size_px)


def split(pictures: Sequence[T], *, seed: int, share: float = 0.1) -> tuple[list[T], list[T]]:
    """(pictures to train on, a `share` of them held out), drawn at random; one or more each.

    Raises InputError for fewer than two.
    """
    if len(pictures) < 2:
        raise InputError(
            f"{len(pictures)} picture(s) cannot be split: at least one is held out for validation."
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = min(max(1, round(share * len(pictures))), len(pictures) - 1)
    return [pictures[k] for k in order[held:]], [pictures[k] for k in order[:held]]
