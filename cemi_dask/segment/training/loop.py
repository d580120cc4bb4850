"""`fit`: a segmenter's training, from labelled pictures to weights. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cemi_dask.learn.loop import FitResult, Schedule, Trainer, train
from cemi_dask.learn.ranks import Ranks
from cemi_dask.segment.checkpoints import SegmenterCard
from cemi_dask.segment.networks import channels_of
from cemi_dask.segment.training.losses import SegmentationLoss
from cemi_dask.segment.training.options import SegmentFit
from cemi_dask.segment.training.patches import LabelledPatches, SegmentBatch, Uint8
from cemi_dask.segment.training.scores import scores

SAMPLES = 4  # pictures on a sheet of samples


def fit(
    net: nn.Module,
    patches: LabelledPatches,
    options: SegmentFit,
    *,
    folder: Path,
    card: SegmenterCard,
    validate: Sequence[SegmentBatch] = (),
) -> FitResult:
    """Train `net` in place and leave weights, logs and samples in `folder`.

    After each epoch IoU, Dice and boundary F1 are measured on `validate`, held-out batches, and
    their first pictures are shown as picture | found | truth. `patience` counts epochs. Where
    `folder` has a checkpoint, training goes on from there. Raises what `learn.loop.train` does.
    """
    epoch = patches.steps_per_epoch
    schedule = Schedule("segment", options.epochs * epoch, epoch, epoch, epoch)
    result, averaged = train(
        lambda processes: SegmenterTrainer(net, options, schedule, processes, folder, card.labels),
        patches,
        options,
        folder=folder,
        card=card,
        validate=validate,
    )
    net.load_state_dict(averaged.state_dict())
    return result


def decided(logits: torch.Tensor) -> Uint8:
    """Labels (n, y, x), uint8, of logits (n, c, y, x): the likeliest."""
    best = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return np.asarray(best.cpu().numpy(), np.uint8)


def measure(
    net: nn.Module, batches: Sequence[SegmentBatch], labels: Sequence[str], device: str
) -> dict[str, float]:
    """iou, dice and boundary_f1 of `net` on held-out batches; with several labels, their means.

    With several labels also each one's own, as iou_NAME and so on. A label that no picture
    shows, and that is not found in any, counts in no mean.
    """
    pairs: list[tuple[Uint8, Uint8]] = []
    with torch.no_grad():
        for batch in batches:
            found = decided(net(batch.pictures.to(device)))
            truth = batch.labels.numpy().astype(np.uint8)
            pairs += zip(found, truth, strict=True)
    return summary(pairs, labels)


def summary(pairs: Sequence[tuple[Uint8, Uint8]], labels: Sequence[str]) -> dict[str, float]:
    """The scores of (found, truth) pairs by name; see `measure`."""
    each = {name: asdict(scores(pairs, k)) for k, name in enumerate(labels, 1)}
    metrics: dict[str, float] = {}
    for measure_name in ("iou", "dice", "boundary_f1"):
        values = [found[measure_name] for found in each.values()]
        known = [value for value in values if np.isfinite(value)]
        # Nothing to find, and nothing found: that is as it should be.
        metrics[measure_name] = float(np.mean(known)) if known else 1.0
    if len(labels) > 1:
        for name, found in each.items():
            metrics |= {f"{key}_{name}": v for key, v in found.items() if np.isfinite(v)}
    return metrics


class SegmenterTrainer(Trainer[SegmentBatch]):
    """A segmenter in training."""

    score = "iou"

    def __init__(
        self,
        net: nn.Module,
        options: SegmentFit,
        schedule: Schedule,
        processes: Ranks,
        folder: Path,
        labels: Sequence[str],
    ) -> None:
        super().__init__(net, options, schedule, processes, folder)
        self.labels = tuple(labels)
        self.loss = SegmentationLoss(options.loss, channels_of(len(labels)))

    def step(self, batch: SegmentBatch) -> None:
        """One iteration."""
        self.net.train()
        with self.precision:
            logits = self.net(batch.pictures.contiguous(memory_format=torch.channels_last))
        terms = self.loss(logits, batch.labels)
        loss = torch.stack(list(terms.values())).sum()
        self.descend(loss, self.state.optimizer, self.state.net)
        self.end_step({"loss": loss, **terms})

    def measure(self, net: nn.Module, batches: Sequence[SegmentBatch]) -> dict[str, float]:
        """IoU, Dice and boundary F1."""
        return measure(net, batches, self.labels, self.state.device)

    def sheet(self, net: nn.Module, batch: SegmentBatch) -> list[npt.NDArray[Any]]:
        """Columns of a sheet of samples: picture, found, truth."""
        with torch.no_grad():
            found = decided(net(batch.pictures[:SAMPLES]))
        truth = batch.labels[:SAMPLES].cpu().numpy()
        top = len(self.labels)
        grey = 0.5 + batch.pictures[:SAMPLES, 0].cpu().numpy() / 5
        return [grey, found / top, np.clip(truth, 0, top) / top]
