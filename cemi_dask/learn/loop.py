"""`Trainer`: one stage of a training, from batches to weights on disk. Imports torch.

A plain loop: one step of Adam on the losses, a running average of the weights (which is the
result), and from time to time a line in the log, a validation, and a checkpoint. What is
learnt, and how it is judged, a subclass says.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy.typing as npt
import torch
from torch import nn

from cemi_dask.errors import RunError
from cemi_dask.learn.batches import B, Batches, ahead
from cemi_dask.learn.options import TrainingOptions
from cemi_dask.learn.ranks import Ranks, ranks
from cemi_dask.learn.records import Records
from cemi_dask.learn.state import TrainState
from cemi_dask.learn.weights import Card, save_weights

CLOCK_LEAD = 0.05  # how far time must be ahead of the iterations before it counts
CHECKPOINT, LAST, BEST = "checkpoint.pt", "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Schedule:
    """A stage's name, its steps (at most), and the steps between what it leaves."""

    name: str
    iterations: int
    log_every: int
    validate_every: int
    checkpoint_every: int


@dataclass(frozen=True)
class FitResult:
    """Where the weights of a stage are, after how many steps, and what validation measured.

    `best` had the highest score in a validation, `last` is the end; without validation, `best`
    is None. `seconds` is what it took, `timed` tells that the time limit has shortened it, so
    that the weights depend on how fast the machine was. An adversarial loss gives up PSNR for
    texture: take `last` there.
    """

    last: Path
    best: Path | None
    step: int
    metrics: Mapping[str, float]
    seconds: float
    timed: bool


def has_matrix_unit() -> bool:
    """True on processors with AMX, on which bfloat16 is about three times as fast."""
    return bool(torch.cpu._is_amx_tile_supported())


class Trainer(ABC, Generic[B]):
    """The state of a stage in one process, and what is done with it.

    A subclass defines `step`, `measure` and `sheet`; `score` names the metric of which more
    is better.
    """

    score: ClassVar[str]

    def __init__(
        self,
        net: nn.Module,
        options: TrainingOptions,
        schedule: Schedule,
        processes: Ranks,
        folder: Path,
        *,
        discriminator: nn.Module | None = None,
    ) -> None:
        self.options, self.schedule = options, schedule
        self.processes, self.folder = processes, folder
        device = processes.device
        self.state = TrainState(net, device, discriminator=discriminator)
        if (folder / CHECKPOINT).exists():
            self.state.load(folder / CHECKPOINT)
        self.net = processes.wrap(self.state.net)
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

    @abstractmethod
    def step(self, batch: B) -> None:
        """One iteration on a batch that is on the device: `descend`, then `end_step`."""

    @abstractmethod
    def measure(self, net: nn.Module, batches: Sequence[B]) -> dict[str, float]:
        """How well `net` does on held-out batches, `score` among the names."""

    @abstractmethod
    def sheet(self, net: nn.Module, batch: B) -> list[npt.NDArray[Any]]:
        """Columns of a sheet of samples: (n, y, x) each, 0..1."""

    def goes_on(self) -> bool:
        """True while there is time left; sets the learning rate of the next step."""
        options, state = self.options, self.state
        # One clock for all processes, or some would stop and the others wait for them.
        state.seconds = self.processes.agree(time.monotonic() - self.started)
        progress = state.step / self.schedule.iterations
        if options.minutes is not None:
            spent = state.seconds / (60 * options.minutes)
            # A slow start alone must not change the weights: not before it is clear that time
            # will run out does the rate follow it.
            if spent >= min(1.0, progress + CLOCK_LEAD):
                state.timed, progress = True, spent
        if options.patience is not None:
            # The first process alone validates.
            state.stale = round(self.processes.agree(state.stale))
            if state.stale >= options.patience:
                return False
        self.rate = options.learning_rate.at(progress, state.step)
        return progress < 1

    def end_step(self, terms: Mapping[str, torch.Tensor]) -> None:
        """Average the weights, and count the step and its losses."""
        self.state.average(self.options.ema)
        self.state.step += 1
        self.counted += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(term.detach())

    def descend(
        self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, module: nn.Module
    ) -> None:
        """One step of the optimiser down `loss`; RunError where that is not finite."""
        if not torch.isfinite(loss):
            raise RunError(
                f"The loss of stage {self.schedule.name!r} is {loss.item()} in step "
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

    def report(self, card: Card, validate: Sequence[B]) -> None:
        """Log, validate and save where this step is one for it."""
        schedule, step = self.schedule, self.state.step
        if self.records is None:
            return
        if step % schedule.log_every == 0:
            means = {name: total / self.counted for name, total in self.sums.items()}
            minutes = self.state.seconds / 60
            row = {"minutes": minutes, "learning_rate": self.rate, **means}
            self.records.add("log", step, row)
            told = ", ".join(f"{name} {value:.4g}" for name, value in row.items())
            print(f"{schedule.name} {step}/{schedule.iterations}: {told}", flush=True)
            self.sums, self.counted = {}, 0
        if step % schedule.validate_every == 0:
            self._validate(self.records, card, validate)
        if step % schedule.checkpoint_every == 0:
            self.state.save(self.folder / CHECKPOINT)

    def finish(self, card: Card, validate: Sequence[B]) -> FitResult:
        """The last validation, weights and checkpoint."""
        if self.records is not None:
            if self.state.step % self.schedule.validate_every or not self.metrics:
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

    def _validate(self, records: Records, card: Card, validate: Sequence[B]) -> None:
        state, name = self.state, self.schedule.name
        training = {
            "stage": self.options.model_dump(mode="json"),
            "steps": state.step,
            "minutes": round(state.seconds / 60, 2),
        }
        card = card.model_copy(update={"training": card.training | training})
        if validate:
            self.metrics = self.measure(state.ema, validate)
            card = card.model_copy(update={"metrics": card.metrics | self.metrics})
            records.add("validation", state.step, self.metrics)
            told = ", ".join(f"{name} {value:.3f}" for name, value in self.metrics.items())
            print(f"{name} {state.step}: held out {told}", flush=True)
            records.samples(state.step, self.sheet(state.ema, validate[0].to(state.device)))
            if state.take_score(self.metrics[self.score]):
                save_weights(self.folder / BEST, state.ema, card)
        save_weights(self.folder / LAST, state.ema, card)


def train(
    make: Callable[[Ranks], Trainer[B]],
    batches: Batches[B],
    options: TrainingOptions,
    *,
    folder: Path,
    card: Card,
    validate: Sequence[B] = (),
) -> tuple[FitResult, nn.Module]:
    """(result, averaged network) of the stage that `make` sets up; files are left in `folder`.

    `card` says what the weights are; metrics and training are filled in. Where `folder` has a
    checkpoint, training goes on from there: on a CPU bit for bit as if it had never stopped
    (unless bounded by minutes). Raises RunError when the loss is no longer finite,
    UnreadableError for a checkpoint that does not fit.
    """
    with ranks(options.device) as processes:
        folder.mkdir(parents=True, exist_ok=True)
        trainer = make(processes)
        steps = range(trainer.state.step, trainer.schedule.iterations)
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
        return trainer.finish(card, validate), trainer.state.ema
