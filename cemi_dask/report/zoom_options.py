"""`ZoomOptions`: the animation from the whole mosaic into its finest detail."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ZoomStop(BaseModel):
    """A place on the way: its middle, and the width that is seen, in um (px where unknown)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float = Field(description="Middle of what is seen, from the mosaic's left border.")
    y: float = Field(description="Middle of what is seen, from the mosaic's upper border.")
    width: float = Field(gt=0, description="Width of what is seen.")


class ZoomOptions(BaseModel):
    """An animation from the whole mosaic to one place after the other; `null` makes none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["gif", "mp4", "both"] = Field(
        default="gif", description="zoom.gif (shown in the report), zoom.mp4 (H.264), or both."
    )
    stops: tuple[ZoomStop, ...] = Field(
        default=(),
        description="Places to go to, in um (px where the pixel size is unknown); by default one "
        "cell of the grid, at four screen pixels per pixel.",
    )
    speed: float = Field(
        default=3.0, gt=1, le=100, description="How many times larger it becomes in a second."
    )
    hold_s: float = Field(default=1.2, ge=0, le=20, description="Rest at the start and each stop.")
    frames_per_s: int = Field(default=12, ge=2, le=60, description="Pictures per second.")
    width_px: int = Field(default=480, ge=160, le=3840, description="Width; even.", multiple_of=2)
    height_px: int = Field(default=270, ge=90, le=2160, description="Height; even.", multiple_of=2)
    most_frames: int = Field(
        default=240, ge=2, le=20_000, description="Beyond that many it goes faster."
    )
