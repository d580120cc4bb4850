"""`Recording`: how a running scan gets from the screen into a video, and what the stage does."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# What a jump of the stage measures, and how far it goes back in a reversal (frame widths).
JUMP_PX = 12.0
REVERSAL_WIDTHS = 0.4
# The stage runs back to a row's start so many times faster than it scans.
RETURN_SPEED = 6.0


class Recording(BaseModel):
    """The screen a video is recorded from, and the stage's stops and turns within a row.

    With `scan_frames` the microscope scans its lines top to bottom, over and over, while the
    stage moves; the screen shows for every line its latest acquisition. Without, every frame
    is one picture taken at once. Times count recorded frames before `repeats`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scan_frames: float | None = Field(
        default=None,
        ge=0.5,
        allow_inf_nan=False,
        description="Recorded frames per scan, any real number; null: a frame is taken at once.",
    )
    refresh_start: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Where the refresh line stands at the first frame, as a share of the height.",
    )
    flyback: float = Field(
        default=0.0, ge=0, le=0.9, description="Share of the scan period in which no line is taken."
    )
    still_start: int = Field(
        default=0, ge=0, description="Recorded frames before the stage starts."
    )
    pauses: int = Field(default=0, ge=0, description="Stops of the stage, at random places.")
    pause_frames: int = Field(default=12, ge=1, description="Recorded frames of each stop.")
    reversals: int = Field(
        default=0,
        ge=0,
        description="Times the stage goes back by 0.4 frame widths, then on again.",
    )
    return_to_start: bool = Field(
        default=False,
        description="At a row's end the stage runs back, 6 times as fast, while recorded.",
    )
    repeats: int = Field(
        default=1, ge=1, description="How many times each picture of the screen is recorded."
    )
    blurred: int = Field(
        default=0,
        ge=0,
        description="Frames smeared by 12 px along x; with scan_frames: scans with such a jump.",
    )
    stage_ramp: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Scans (frames without scan_frames) in which the stage starts, stops or turns.",
    )
