"""The losses: pixel differences, VGG19 features, and the adversarial terms.

Imports torch, so import it late. Every loss is a mean in float32, so that weights mean the
same at all patch sizes.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.options import LossOptions
from cemi_dask.errors import UnreadableError
from cemi_dask.learn.weights import Card, read_weights


def pixel_loss(
    output: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    kind: Literal["l1", "l2"] = "l1",
    shift_px: int = 0,
) -> torch.Tensor:
    """Mean |output - target| (l1) or its square (l2) where `mask` is 1; (n, c, y, x) each.

    With `shift_px` every picture is compared at all whole shifts of the target up to that
    many px, and the smallest mean counts: what is left of misalignment costs nothing.
    """
    height, width = output.shape[-2:]
    rows, cols = height - 2 * shift_px, width - 2 * shift_px
    inner = output[..., shift_px : shift_px + rows, shift_px : shift_px + cols]
    found = []
    for y, x in product(range(2 * shift_px + 1), repeat=2):
        part = (..., slice(y, y + rows), slice(x, x + cols))
        difference = inner - target[part]
        each = difference.abs() if kind == "l1" else difference.square()
        if mask is None:
            found.append(each.mean((1, 2, 3)))
        else:
            weight = mask[part]
            found.append((each * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1))
    return torch.stack(found).amin(0).mean()


def comparable(output: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(the network's output on the target's grid, the target), float32, equal where masked out.

    So no loss sees what lies outside of the mask, not even one that looks at neighbourhoods.
    """
    output = output.float()
    if batch.place is not None:
        output = batch.place(output)
    if batch.mask is not None:
        output = torch.where(batch.mask > 0, output, batch.target)
    return output, batch.target


class GeneratorLoss:
    """The terms that judge an output without a discriminator, already weighted."""

    def __init__(self, options: LossOptions, device: str) -> None:
        self.options = options
        self.vgg = Vgg19(options.vgg19_file()).to(device) if options.perceptual_weight else None

    def __call__(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Terms by name for an output (n, 1, y, x) on the target's grid."""
        options, terms = self.options, {}
        if options.pixel_weight:
            terms["pixel"] = options.pixel_weight * pixel_loss(
                output, batch.target, batch.mask, kind=options.pixel, shift_px=options.shift_px
            )
        if self.vgg is not None:
            terms["perceptual"] = options.perceptual_weight * self.vgg(output, batch.target)
        return terms


class Vgg19(nn.Module):
    """The perceptual difference of two pictures (Johnson et al. 2016), as in Real-ESRGAN.

    Mean absolute difference of the features of VGG19 (Simonyan and Zisserman 2015) before
    ReLU, at conv1_2, 2_2, 3_4, 4_4 and 5_4. The weights are read from a file of ImageNet
    weights with torchvision's key names; UnreadableError where they do not fit.
    """

    LAYERS: ClassVar[dict[int, float]] = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}
    CHANNELS = (64, 64, 0, 128, 128, 0, *4 * (256,), 0, *4 * (512,), 0, *4 * (512,))  # 0: pooling

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.features = _vgg19_layers(self.CHANNELS, last=max(self.LAYERS))
        tensors, _ = read_weights(path, Card)
        try:
            self.load_state_dict({key: tensors[key] for key in self.state_dict()})
        except (KeyError, RuntimeError) as error:
            told = " ".join(str(error).split())[:200]
            raise UnreadableError(
                f"{path} holds no weights of vgg19 ({told}). Give torchvision's vgg19-dcbb9e9d.pth."
            ) from error
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), False)
        self.eval().requires_grad_(False)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The weighted difference of grey pictures (n, 1, y, x) of levels 0..1."""
        x, y = ((grey.expand(-1, 3, -1, -1) - self.mean) / self.std for grey in (output, target))
        total = output.new_zeros(())
        for number, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if number in self.LAYERS:
                difference = functional.l1_loss(x.float(), y.float())
                total = total + self.LAYERS[number] * difference
        return total


def _vgg19_layers(channels: tuple[int, ...], *, last: int) -> nn.Sequential:
    """Convolutions, ReLUs and poolings up to layer `last`, numbered as in torchvision."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in channels:
        if outputs:
            # Not in place: the features before ReLU are compared.
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[: last + 1])


def adversarial(logits: torch.Tensor, *, real: bool) -> torch.Tensor:
    """Binary cross-entropy of a discriminator's `logits` (Goodfellow et al. 2014)."""
    wanted = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return functional.binary_cross_entropy_with_logits(logits.float(), wanted.float())


def psnr_db(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Peak signal-to-noise ratio (dB, peak 1) of each picture, (n,)."""
    weight = torch.ones_like(target) if mask is None else mask
    squares = ((output - target).square() * weight).sum((1, 2, 3))
    return -10 * torch.log10((squares / weight.sum((1, 2, 3)).clamp(min=1)).clamp(min=1e-12))
