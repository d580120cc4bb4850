"""Several processes that train together under torchrun, one per GPU: `Ranks`.

Imports torch, so import it late.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process's number among the `world` that train together, and its device."""

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """True for the one process that writes files."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with gradients averaged over all processes."""
        if self.world == 1:
            return module
        # Buffers (spectral norm's vectors) evolve alike everywhere: nothing to broadcast.
        return DistributedDataParallel(module, broadcast_buffers=False)

    def agree(self, value: float) -> float:
        """The first process's `value`, in all processes."""
        if self.world == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(told, 0)
        return float(told.item())


@contextmanager
def ranks(device: str) -> Iterator[Ranks]:
    """The processes that torchrun started, joined for the block; alone without torchrun.

    `device` is auto, cpu or cuda.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(0, 1, device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world, device)
    finally:
        distributed.destroy_process_group()
