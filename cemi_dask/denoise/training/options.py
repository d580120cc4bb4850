"""How a denoiser is fitted: `FitOptions`, one stage of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cemi_dask.errors import ConfigError
from cemi_dask.learn.options import Options, TrainingOptions


class LossOptions(Options):
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


class FitOptions(TrainingOptions):
    """One stage of a training: how long, what is minimised, what is recorded."""

    name: str = Field(
        default="semnet", pattern=r"^\w[\w.-]*$", description="Name of the stage and its folder."
    )
    iterations: int = Field(default=40_000, ge=1, description="Steps of the optimiser (at most).")
    loss: LossOptions = LossOptions()
    seed: int = Field(default=0, ge=0, description="Seed of the discriminator's first weights.")
    log_every: int = Field(default=100, ge=1, description="Iterations between lines of the log.")
    validate_every: int = Field(
        default=1000, ge=1, description="Iterations between validations and sample pictures."
    )
    checkpoint_every: int = Field(
        default=500, ge=1, description="Iterations between checkpoints, from which it resumes."
    )
