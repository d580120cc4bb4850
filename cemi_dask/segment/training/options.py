"""How a segmenter is fitted: losses, augmentation, and `SegmentFit`, the length of a training."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cemi_dask.learn.options import Options, RateOptions, TrainingOptions


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("should be the least and the most, in this order")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class SegmentLoss(Options):
    """What is minimised: Dice (Milletari et al. 2016) and cross-entropy."""

    dice_weight: float = Field(default=1.0, ge=0, description="Weight of 1 - Dice.")
    cross_entropy_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the cross-entropy, which teaches also where a batch shows none of "
        "a label: Dice has no gradient there.",
    )

    @model_validator(mode="after")
    def _something(self) -> SegmentLoss:
        if not self.dice_weight + self.cross_entropy_weight > 0:
            raise ValueError("one of the weights should be above 0")
        return self


LOSSES = {"dice": SegmentLoss(cross_entropy_weight=0.0), "dice_bce": SegmentLoss()}


def _named_loss(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in LOSSES:
        raise ValueError(f"should be {' or '.join(LOSSES)}, or keys of a loss")
    return LOSSES[value]


LossChoice = Annotated[SegmentLoss, BeforeValidator(_named_loss)]


class Augmentation(Options):
    """How patches are changed before they are used: what does not change their labels.

    Microstructure knows no up and down: patches are turned and mirrored, and rotated by any
    angle (cubic interpolation of grey levels, nearest of labels).
    """

    turns: bool = Field(default=True, description="Rotations by 90 degrees and mirror images.")
    rotation: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the patches that are rotated by an angle of any size.",
    )
    scale: Range = Field(default=(1.0, 1.0), description="Enlargement of rotated patches.")
    contrast: Range = Field(default=(0.7, 1.3), description="Factor of the grey levels.")
    brightness: Range = Field(
        default=(-0.1, 0.1), description="What is then added to grey levels of 0..1."
    )
    noise: Range = Field(
        default=(0.0, 0.05), description="Sigma of white noise in grey levels of 0..1."
    )
    blur_px: Range = Field(default=(0.0, 0.0), description="Sigma of a Gaussian blur in px.")


NO_AUGMENTATION = Augmentation(
    turns=False, rotation=0.0, contrast=(1.0, 1.0), brightness=(0.0, 0.0), noise=(0.0, 0.0)
)


class SegmentFit(TrainingOptions):
    """How long a segmenter is trained, and what is minimised."""

    epochs: int = Field(default=80, ge=1, description="Times that every picture is used (at most).")
    loss: LossChoice = Field(
        default=SegmentLoss(),
        description="Or the name of a preset: dice (the paper's), dice_bce (the default).",
    )
    learning_rate: RateOptions = RateOptions(start=1e-4)
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the averaged weights, which are the result; 0: the last weights.",
    )
