"""`fit`: one stage of a denoiser's training. Imports torch: import it late.

The loop is that of all trainings (`cemi_dask.learn.loop`); this adds the losses, a step of the
discriminator where there is an adversarial term, and how denoisers are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from cemi_dask.denoise.checkpoints import ModelCard
from cemi_dask.denoise.training.batches import Batch, Batches
from cemi_dask.denoise.training.discriminator import Discriminator
from cemi_dask.denoise.training.losses import GeneratorLoss, adversarial, comparable, psnr_db
from cemi_dask.denoise.training.options import FitOptions
from cemi_dask.learn.loop import FitResult, Schedule, Trainer, train
from cemi_dask.learn.ranks import Ranks

SAMPLES = 4  # pictures on a sheet of samples


def fit(
    net: nn.Module,
    batches: Batches,
    options: FitOptions,
    *,
    folder: Path,
    card: ModelCard,
    validate: Sequence[Batch] = (),
) -> FitResult:
    """Train `net` in place on `batches` and leave weights, logs and samples in `folder`.

    `net` maps (n, 1, y, x) float32 to the same shape. `card` says what the weights are;
    metrics and training are filled in. On `validate`, held-out batches, PSNR is measured, and
    their first pictures are shown as noisy | output | target. At the end `net` holds the
    averaged weights. Where `folder` has a checkpoint, training goes on from there: on a CPU
    bit for bit as if it had never stopped (unless bounded by minutes).

    Raises RunError when the loss is no longer finite, UnreadableError for a checkpoint that
    does not fit, ConfigError for a perceptual loss without its weights.
    """
    result, averaged = train(
        lambda processes: _DenoiserTrainer(net, options, processes, folder),
        batches,
        options,
        folder=folder,
        card=card,
        validate=validate,
    )
    net.load_state_dict(averaged.state_dict())
    return result


def measure(net: nn.Module, batches: Sequence[Batch], device: str) -> dict[str, float]:
    """How well `net` does on `batches`: psnr_db, mean PSNR (dB, 0..1, clipped) of the pictures.

    Where batches know the noise of their targets, also clean_psnr_db, an estimate of the PSNR
    against noise-free targets: from the mean squared error over all less the noise's variance.
    """
    found, excess = [], []
    with torch.no_grad():
        for held in batches:
            batch = held.to(device)
            output, target = comparable(net(batch.noisy), batch)
            output = output.clamp(0, 1)
            found.append(psnr_db(output, target, batch.mask))
            if batch.noise_variance is not None:
                squares = (output - target).square().mean((1, 2, 3), keepdim=True)
                excess.append(squares - batch.noise_variance)
    metrics = {"psnr_db": float(torch.cat(found).mean())}
    if excess:
        metrics["clean_psnr_db"] = -10 * math.log10(max(float(torch.cat(excess).mean()), 1e-12))
    return metrics


class _DenoiserTrainer(Trainer[Batch]):
    """A generator, and a discriminator where there is an adversarial term."""

    score = "psnr_db"

    def __init__(self, net: nn.Module, options: FitOptions, processes: Ranks, folder: Path) -> None:
        schedule = Schedule(
            options.name,
            options.iterations,
            options.log_every,
            options.validate_every,
            options.checkpoint_every,
        )
        critic = Discriminator.seeded(options.seed) if options.loss.adversarial_weight else None
        super().__init__(net, options, schedule, processes, folder, discriminator=critic)
        self.adversarial_weight = options.loss.adversarial_weight
        self.discriminator = (
            None if self.state.discriminator is None else processes.wrap(self.state.discriminator)
        )
        self.loss = GeneratorLoss(options.loss, processes.device)

    def step(self, batch: Batch) -> None:
        """One iteration: the generator, then the discriminator where there is one."""
        self.net.train()
        with self.precision:
            output = self.net(batch.noisy)
        output, target = comparable(output, batch)
        with self.precision:
            terms = self.loss(output, batch)
            if self.state.discriminator is not None:
                self.state.discriminator.requires_grad_(False)
                judged = adversarial(self.state.discriminator(output), real=True)
                terms["adversarial"] = self.adversarial_weight * judged
        loss = torch.stack(list(terms.values())).sum()
        self.descend(loss, self.state.optimizer, self.state.net)
        if self.discriminator is not None and self.state.critic is not None:
            terms["discriminator"] = self._critic_loss(self.discriminator, output.detach(), target)
            self.descend(terms["discriminator"], self.state.critic, self.discriminator)
        self.end_step({"loss": loss, **terms})

    def _critic_loss(
        self, discriminator: nn.Module, output: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        discriminator.requires_grad_(True)
        with self.precision:
            real, fake = discriminator(torch.cat([target, output])).chunk(2)
        return adversarial(real, real=True) + adversarial(fake, real=False)

    def measure(self, net: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """PSNR, see the function `measure`."""
        return measure(net, batches, self.state.device)

    def sheet(self, net: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """Columns of a sheet of samples: noisy, output, target; (n, y, x) each."""
        with torch.no_grad():
            output, _ = comparable(net(batch.noisy), batch)
        return [t[:SAMPLES, 0].cpu().numpy() for t in (batch.noisy, output, batch.target)]
