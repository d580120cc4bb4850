"""What a user may set about solving: `SolveOptions`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SolveOptions(BaseModel):
    """Settings of the global adjustment of positions and grey levels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor_px: float = Field(
        default=0.005,
        gt=0,
        description="Standard deviation added to every measured displacement: what its own "
        "covariance does not know (scan distortion, stage vibration).",
    )
    outlier_px: float = Field(
        default=1.0,
        gt=0,
        description="A link is rejected when it misses the solution by more than this, or by "
        "`outlier_sigmas` of what links usually miss, whichever is larger.",
    )
    outlier_sigmas: float = Field(
        default=6.0, gt=0, description="See `outlier_px`; in robust standard deviations."
    )
    swap_peaks: bool = Field(
        default=True, description="Let a link use another of its peaks when that closes loops."
    )
    allow_islands: bool = Field(
        default=False,
        description="Place groups of frames without any link or position side by side "
        "instead of refusing them.",
    )
    distortion: Literal["off", "on", "auto"] = Field(
        default="auto",
        description="Calibrate one smooth scan distortion of all frames from displacements "
        "within the overlaps: never, always, or where held-out overlaps agree better with it.",
    )
    elastic: bool = Field(
        default=False,
        description="Bend every frame by a coarse mesh of its own until the parts of overlaps "
        "agree: for frames that charging or drift has deformed one by one.",
    )
    elastic_px: float = Field(
        default=2.0, gt=0, description="How far a mesh's nodes are expected to move, px."
    )
    elastic_nodes: int = Field(
        default=6, ge=4, le=12, description="Nodes of a mesh along each axis of a frame."
    )
    gain: bool = Field(default=True, description="Solve a gain and an offset per frame.")
    gain_sigma: float = Field(
        default=0.05, gt=0, description="How far a frame's gain is expected to be from 1."
    )
    offset_sigma: float = Field(
        default=5.0, gt=0, description="How far a frame's offset is expected from 0, grey levels."
    )
