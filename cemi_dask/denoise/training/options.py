"""How a network is fitted: `FitOptions`, one stage of a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.errors import ConfigError


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LossOptions(_Options):
    """What is minimised: weights of the terms, as in Real-ESRGAN where a term is used."""

    pixel: Literal["l1", "l2"] = Field(
        default="l1", description="Mean absolute or squared difference; l2 for noisy targets."
    )
    pixel_weight: float = Field(default=1.0, ge=0, description="Weight of the difference.")
    shift_px: int = Field(
        default=0,
        ge=0,
        le=2,
        description="Targets may lie this far off: the best shift of each picture counts.",
    )
    perceptual_weight: float = Field(
        default=0.0, ge=0, description="Weight of the VGG19 features' difference; needs `vgg19`."
    )
    vgg19: str | None = Field(
        default=None, description="File of ImageNet weights of torchvision's vgg19 (.pth)."
    )
    adversarial_weight: float = Field(
        default=0.0, ge=0, description="Weight of the discriminator's judgement."
    )

    def vgg19_file(self) -> Path:
        """The file of the perceptual loss's weights; ConfigError where there is none."""
        if self.vgg19 is None or not Path(self.vgg19).is_file():
            given = "is not set" if self.vgg19 is None else f"{self.vgg19} is no file"
            raise ConfigError(
                f"loss.perceptual_weight is {self.perceptual_weight:g}, but loss.vgg19 {given}. "
                "Give the file of torchvision's ImageNet weights of vgg19 (vgg19-dcbb9e9d.pth), "
                "or set perceptual_weight to 0."
            )
        return Path(self.vgg19)


class RateOptions(_Options):
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


class FitOptions(_Options):
    """One stage of a training: how long, what is minimised, what is recorded."""

    name: str = Field(
        default="semnet", pattern=r"^\w[\w.-]*$", description="Name of the stage and its folder."
    )
    iterations: int = Field(default=40_000, ge=1, description="Steps of the optimiser (at most).")
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop after this time even so; the learning rate follows whichever of the "
        "two is farther on. Results then depend on the machine.",
    )
    loss: LossOptions = LossOptions()
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
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="Of the network's arithmetic; auto: bfloat16 on CUDA and on processors with "
        "AMX, where it is about three times as fast, else float32.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the network runs; auto: CUDA where there is some."
    )
    threads: int = Field(default=1, ge=1, description="Threads that make batches ahead.")
    seed: int = Field(default=0, ge=0, description="Seed of the discriminator's first weights.")
    log_every: int = Field(default=100, ge=1, description="Iterations between lines of the log.")
    validate_every: int = Field(
        default=1000, ge=1, description="Iterations between validations and sample pictures."
    )
    checkpoint_every: int = Field(
        default=500, ge=1, description="Iterations between checkpoints, from which it resumes."
    )
