"""`fit`: one stage of a training, from batches to weights on disk. Imports torch: import it late.

A plain loop: one step of Adam on the generator's loss, one on the discriminator's where there
is an adversarial term, a running average of the weights (which is the result), and from time
to time a line in the log, a validation, and a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from cemi_dask.denoise.checkpoints import ModelCard, save_model
from cemi_dask.denoise.training.batches import Batch, Batches, ahead
from cemi_dask.denoise.training.discriminator import Discriminator
from cemi_dask.denoise.training.losses import GeneratorLoss, adversarial, comparable, psnr_db
from cemi_dask.denoise.training.options import FitOptions
from cemi_dask.denoise.training.ranks import Ranks, ranks
from cemi_dask.denoise.training.records import Records
from cemi_dask.denoise.training.state import TrainState
from cemi_dask.errors import RunError

CLOCK_LEAD = 0.05  # how far time must be ahead of the iterations before it counts
CHECKPOINT, LAST, BEST = "checkpoint.pt", "last.safetensors", "best.safetensors"
SAMPLES = 4  # pictures on a sheet of samples


@dataclass(frozen=True)
class FitResult:
    """Where the weights of a stage are, after how many steps, and what validation measured.

    `best` had the highest validation PSNR, `last` is the end; without validation, `best` is
    None. `seconds` is what it took, `timed` tells that the time limit has shortened it, so that
    the weights depend on how fast the machine was. An adversarial loss gives up PSNR for
    texture: take `last` there.
    """

    last: Path
    best: Path | None
    step: int
    metrics: Mapping[str, float]
    seconds: float
    timed: bool


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
    with ranks(options.device) as processes:
        folder.mkdir(parents=True, exist_ok=True)
        trainer = _Trainer(net, options, processes, folder)
        steps = range(trainer.state.step, options.iterations)
        mine = range(  # each process has batches of its own
            steps.start * processes.world + processes.rank,
            steps.stop * processes.world,
            processes.world,
        )
        for batch in ahead(batches, mine, threads=options.threads):
            if not trainer.goes_on():
                break
            trainer.step(batch.to(processes.device))
            trainer.report(card, validate)
        result = trainer.finish(card, validate)
        net.load_state_dict(trainer.state.ema.state_dict())
        return result


def has_matrix_unit() -> bool:
    """True on processors with AMX, on which bfloat16 is about three times as fast."""
    return bool(torch.cpu._is_amx_tile_supported())


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


class _Trainer:
    """The state of a stage in one process, and what is done with it."""

    def __init__(self, net: nn.Module, options: FitOptions, processes: Ranks, folder: Path) -> None:
        self.options, self.processes, self.folder = options, processes, folder
        device = processes.device
        critic = Discriminator.seeded(options.seed) if options.loss.adversarial_weight else None
        self.state = TrainState(net, critic, device)
        if (folder / CHECKPOINT).exists():
            self.state.load(folder / CHECKPOINT)
        self.net = processes.wrap(self.state.net)
        self.discriminator = (
            None if self.state.discriminator is None else processes.wrap(self.state.discriminator)
        )
        self.loss = GeneratorLoss(options.loss, device)
        half = options.precision == "bfloat16" or (
            options.precision == "auto" and (device != "cpu" or has_matrix_unit())
        )
        self.precision = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=half)
        self.records = Records(folder, step=self.state.step) if processes.first else None
        self.started = time.monotonic() - self.state.seconds
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.rate = 0.0
        self.metrics: dict[str, float] = {}

    def goes_on(self) -> bool:
        """True while there is time left; sets the learning rate of the next step."""
        options, state = self.options, self.state
        # One clock for all processes, or some would stop and the others wait for them.
        state.seconds = self.processes.agree(time.monotonic() - self.started)
        progress = state.step / options.iterations
        if options.minutes is not None:
            spent = state.seconds / (60 * options.minutes)
            # A slow start alone must not change the weights: not before it is clear that time
            # will run out does the rate follow it.
            if spent >= min(1.0, progress + CLOCK_LEAD):
                state.timed, progress = True, spent
        self.rate = options.learning_rate.at(progress, state.step)
        return progress < 1

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
                terms["adversarial"] = self.options.loss.adversarial_weight * judged
        loss = torch.stack(list(terms.values())).sum()
        self._descend(loss, self.state.optimizer, self.state.net)
        if self.discriminator is not None and self.state.critic is not None:
            terms["discriminator"] = self._critic_loss(self.discriminator, output.detach(), target)
            self._descend(terms["discriminator"], self.state.critic, self.discriminator)
        self.state.average(self.options.ema)
        self.state.step += 1
        self._count({"loss": loss, **terms})

    def _critic_loss(
        self, discriminator: nn.Module, output: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        discriminator.requires_grad_(True)
        with self.precision:
            real, fake = discriminator(torch.cat([target, output])).chunk(2)
        return adversarial(real, real=True) + adversarial(fake, real=False)

    def _descend(
        self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, module: nn.Module
    ) -> None:
        if not torch.isfinite(loss):
            raise RunError(
                f"The loss of stage {self.options.name!r} is {loss.item()} in step "
                f"{self.state.step}. Lower learning_rate.start, set clip_norm, or use precision "
                "float32, and start anew with --fresh."
            )
        for group in optimizer.param_groups:
            group["lr"] = self.rate
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.options.clip_norm)
        optimizer.step()

    def _count(self, terms: Mapping[str, torch.Tensor]) -> None:
        self.counted += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())

    def report(self, card: ModelCard, validate: Sequence[Batch]) -> None:
        """Log, validate and save where this step is one for it."""
        options, step = self.options, self.state.step
        if self.records is None:
            return
        if step % options.log_every == 0:
            means = {name: total / self.counted for name, total in self.sums.items()}
            minutes = self.state.seconds / 60
            row = {"minutes": minutes, "learning_rate": self.rate, **means}
            self.records.add("log", step, row)
            told = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
            print(f"{options.name} {step}/{options.iterations}: {told}", flush=True)
            self.sums, self.counted = {}, 0
        if step % options.validate_every == 0:
            self._validate(self.records, card, validate)
        if step % options.checkpoint_every == 0:
            self.state.save(self.folder / CHECKPOINT)

    def finish(self, card: ModelCard, validate: Sequence[Batch]) -> FitResult:
        """The last validation, weights and checkpoint."""
        if self.records is not None:
            if self.state.step % self.options.validate_every or not self.metrics:
                self._validate(self.records, card, validate)
            self.state.save(self.folder / CHECKPOINT)
            self.records.close()
        best = self.folder / BEST
        return FitResult(
            self.folder / LAST,
            best if best.exists() else None,
            self.state.step,
            self.metrics,
            self.state.seconds,
            self.state.timed,
        )

    def _validate(self, records: Records, card: ModelCard, validate: Sequence[Batch]) -> None:
        state, options = self.state, self.options
        training = {
            "stage": options.model_dump(mode="json"),
            "steps": state.step,
            "minutes": round(state.seconds / 60, 2),
        }
        card = card.model_copy(update={"training": card.training | training})
        if validate:
            self.metrics = measure(state.ema, validate, state.device)
            card = card.model_copy(update={"metrics": card.metrics | self.metrics})
            records.add("validation", state.step, self.metrics)
            told = ", ".join(f"{name} {value:.3f}" for name, value in self.metrics.items())
            print(f"{options.name} {state.step}: held out {told}", flush=True)
            records.samples(state.step, _sample(state.ema, validate[0], state.device))
            if self.metrics["psnr_db"] > state.best:
                state.best = self.metrics["psnr_db"]
                save_model(self.folder / BEST, state.ema, card)
        save_model(self.folder / LAST, state.ema, card)


def _sample(net: nn.Module, held: Batch, device: str) -> list[npt.NDArray[Any]]:
    """Columns of a sheet of samples: noisy, output, target; (n, y, x) each."""
    batch = held.to(device)
    with torch.no_grad():
        output, _ = comparable(net(batch.noisy), batch)
    return [t[:SAMPLES, 0].cpu().numpy() for t in (batch.noisy, output, batch.target)]
