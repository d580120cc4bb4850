"""torch modules of our own around spandrel's; imports torch, so import it late."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Unshuffled(nn.Module):
    """A U-Net that works on a picture whose `factor` x `factor` px cells became channels.

    `core` takes and gives (n, factor^2, y, x) with sides that are multiples of `multiple`;
    this module takes and gives (n, 1, y, x) of any size. `core` predicts what to take off.
    """

    def __init__(self, core: nn.Module, factor: int, multiple: int) -> None:
        super().__init__()
        self.core = core
        self.factor = factor
        self.multiple = factor * multiple

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """The denoised pictures, same shape."""
        height, width = picture.shape[-2:]
        more = (0, -width % self.multiple, 0, -height % self.multiple)
        padded = functional.pad(picture, more, mode="replicate") if any(more) else picture
        cells = functional.pixel_unshuffle(padded, self.factor)
        noise = functional.pixel_shuffle(self.core(cells), self.factor)
        return picture - noise[..., :height, :width]


class GreyAsColour(nn.Module):
    """A colour network for grey pictures: three equal channels in, the mean of three out."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """The denoised pictures (n, 1, y, x)."""
        colour: torch.Tensor = self.core(picture.expand(-1, 3, -1, -1))
        return colour.mean(1, keepdim=True)
