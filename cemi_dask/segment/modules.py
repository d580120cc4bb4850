"""The torch module of our own around those of segmentation-models-pytorch; import it late."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Unshuffled(nn.Module):
    """A network on a picture whose `factor` x `factor` px cells became channels.

    `core` gives logits of the cells, which are interpolated to pixels.
    """

    def __init__(self, core: nn.Module, factor: int) -> None:
        super().__init__()
        self.core = core
        self.factor = factor

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits (n, c, y, x) of pictures (n, 1, y, x)."""
        if self.factor == 1:
            logits: torch.Tensor = self.core(picture)
            return logits
        cells = self.core(functional.pixel_unshuffle(picture, self.factor))
        return functional.interpolate(
            cells.float(), scale_factor=self.factor, mode="bilinear", align_corners=False
        )
