"""How any network is fitted: `TrainingOptions`, what all trainings share."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Base of options: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RateOptions(Options):
    """The learning rate over a stage."""

    start: float = Field(default=1e-4, gt=0, description="Learning rate of Adam (0.9, 0.99).")
    schedule: Literal["constant", "cosine", "step"] = Field(
        default="constant", description="Constant; cosine to `end`; halved at the `halvings`."
    )
    end: float = Field(default=1e-6, gt=0, description="Where the cosine ends.")
    halvings: tuple[float, ...] = Field(
        default=(0.5, 0.75, 0.9), description="Shares of the stage at which the rate is halved."
    )
    warmup: int = Field(default=0, ge=0, description="Iterations in which the rate rises from 0.")

    def at(self, progress: float, step: int) -> float:
        """The rate at a `progress` of 0..1 through the stage, in step 0, 1, ..."""
        progress = min(max(progress, 0.0), 1.0)
        rate = self.start
        if self.schedule == "cosine":
            rate = self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2
        elif self.schedule == "step":
            rate = self.start * 0.5 ** sum(progress >= share for share in self.halvings)
        return rate * min(1.0, (step + 1) / self.warmup) if self.warmup else rate


class TrainingOptions(Options):
    """What the stages of all trainings have in common."""

    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop after this time even so; the learning rate follows whichever of the "
        "two is farther on. Results then depend on the machine.",
    )
    learning_rate: RateOptions = RateOptions()
    ema: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are the result.",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Limit of the gradient's norm; null: none."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after so many validations without a better one; null: never.",
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="Of the network's arithmetic; auto: bfloat16 on CUDA and on processors with "
        "AMX, where it is about three times as fast, else float32.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the network runs; auto: CUDA where there is some."
    )
    threads: int = Field(default=1, ge=1, description="Threads that make batches ahead.")
