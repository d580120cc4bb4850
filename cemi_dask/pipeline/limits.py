"""`StitchOptions`: the limits beyond which a stitching counts as failed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FailIf(BaseModel):
    """Limits of the stitching, checked after the stage solve: above any of them the run fails
    with exit status 1. Tables are kept. null: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rejected_frames: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the frames in frames.csv that are not used, duplicates left out.",
    )
    islands: int | None = Field(
        default=None, ge=1, description="Islands of frames that no accepted pair links; 1 is best."
    )
    rms_residual_px: float | None = Field(
        default=None, gt=0, description="Root mean square of the accepted pairs' residuals."
    )
    max_sigma_px: float | None = Field(
        default=None,
        gt=0,
        description="Largest standard deviation, along x or y, of a frame's position.",
    )
    loop_closure_px: float | None = Field(
        default=None,
        gt=0,
        description="Largest closing error of a loop of 3 or 4 accepted pairs.",
    )
    ambiguous_pairs: float | None = Field(
        default=None, ge=0, le=1, description="Share of the measured pairs that are ambiguous."
    )


class StitchOptions(BaseModel):
    """What holds for the stitching as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fail_if: FailIf = FailIf()
