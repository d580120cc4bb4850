"""`Batch`: what a training step of a denoiser sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cemi_dask.learn.batches import Batches as AnyBatches

if TYPE_CHECKING:
    import torch


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


Batches = AnyBatches[Batch]
