"""What a training step sees: `Batch`, and `Batches`, the protocol of all sources of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Batch:
    """Noisy pictures and what they should become, (n, 1, y, x) float32 grey levels 0..1.

    `mask` (same shape as `target`, 0 or 1): where the target counts; None is everywhere.
    `place` maps the network's output onto the target's grid before any loss, for targets that
    must not be interpolated themselves; None is the identity, and then shapes are equal.
    `noise_variance` (n, 1, 1, 1): of targets that are noisy themselves, where it is known;
    validation takes it off the squared error.
    """

    noisy: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor | None = None
    place: Callable[[torch.Tensor], torch.Tensor] | None = None
    noise_variance: torch.Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same batch on another device; `place` must cope with tensors there."""
        mask, variance = (
            None if tensor is None else tensor.to(device)
            for tensor in (self.mask, self.noise_variance)
        )
        return Batch(self.noisy.to(device), self.target.to(device), mask, self.place, variance)


class Batches(Protocol):
    """A source of training data: the batch of a step, from the step's number alone.

    Called again with the same step it gives the same batch, whatever was asked for before,
    so that a resumed training sees what an uninterrupted one would have seen. It is called
    from threads.
    """

    def __call__(self, step: int) -> Batch:
        """The batch of step 0, 1, 2, ..."""
        ...


def step_rng(seed: int, step: int) -> Rng:
    """The random numbers of one step of one source."""
    return np.random.default_rng((seed, step))


def as_tensor(pictures: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
    """Pictures (y, x) of one shape as a tensor (n, 1, y, x) float32."""
    stack = np.ascontiguousarray(np.stack(pictures)[:, None], np.float32)
    tensor: torch.Tensor = import_torch().from_numpy(stack)
    return tensor


def ahead(batches: Batches, steps: range, *, threads: int) -> Iterator[Batch]:
    """The batches of `steps` in order, the next ones being made in `threads` threads."""
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting = [pool.submit(batches, step) for step in steps[: threads + 1]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + (threads + 1) * steps.step in steps:
                waiting.append(pool.submit(batches, step + (threads + 1) * steps.step))
            yield batch
