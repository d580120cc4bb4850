"""`SegmentationLoss`: Dice and cross-entropy. Imports torch: import it late."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from cemi_dask.segment.training.options import SegmentLoss
from cemi_dask.segment.training.patches import UNKNOWN
from cemi_dask.torchlib import import_vision


class SegmentationLoss:
    """The terms of `options` by name, for logits (n, c, y, x) and labels (n, y, x).

    Dice is that of segmentation-models-pytorch, over the whole batch. Pixels whose label is
    not known (255) do not count.
    """

    def __init__(self, options: SegmentLoss, channels: int) -> None:
        self.options = options
        losses: Any = import_vision("segmentation_models_pytorch.losses")
        mode = losses.BINARY_MODE if channels == 1 else losses.MULTICLASS_MODE
        self.dice = losses.DiceLoss(mode, from_logits=True, ignore_index=UNKNOWN)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Weighted terms; all of them in float32."""
        logits, terms = logits.float(), {}
        binary = logits.shape[1] == 1
        if self.options.dice_weight:
            dice = self.dice(logits, labels[:, None] if binary else labels)
            terms["dice"] = self.options.dice_weight * dice
        if self.options.cross_entropy_weight:
            terms["cross_entropy"] = self.options.cross_entropy_weight * cross_entropy(
                logits, labels
            )
        return terms


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the pixels whose label is known; 0 where none is."""
    known = labels != UNKNOWN
    if logits.shape[1] == 1:
        target = labels.clamp(max=1).to(logits.dtype)
        each = functional.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")
    else:
        each = functional.cross_entropy(logits, torch.where(known, labels, 0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)
