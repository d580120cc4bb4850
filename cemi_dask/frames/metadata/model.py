"""`FrameMetadata`: what a file states about how its picture was taken."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# A pixel size is taken for the same when it differs by less: files state 4 digits.
SAME_PIXEL = 1e-3


class FrameMetadata(BaseModel):
    """What one file, or all files of an input alike, state about how the picture was taken.

    None: not stated, or not readable (then `notes` says so). Nothing is estimated. Lengths
    and angles are in the units of the names, positions as the microscope's stage counts them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pixel_um: float | None = Field(default=None, gt=0, description="pixel size along x, um")
    pixel_y_um: float | None = Field(
        default=None, gt=0, description="pixel size along y, um, where it differs"
    )
    detector: str | None = Field(default=None, description="name of the detector or signal")
    accelerating_kv: float | None = Field(default=None, description="accelerating voltage, kV")
    magnification: float | None = Field(default=None, description="as displayed by the microscope")
    working_distance_mm: float | None = Field(default=None, description="working distance, mm")
    stage_x_um: float | None = Field(default=None, description="stage position x, um")
    stage_y_um: float | None = Field(default=None, description="stage position y, um")
    stage_z_um: float | None = Field(default=None, description="stage position z, um")
    stage_rotation_deg: float | None = Field(default=None, description="stage rotation, degrees")
    stage_tilt_deg: float | None = Field(default=None, description="stage tilt, degrees")
    scan_rotation_deg: float | None = Field(default=None, description="scan rotation, degrees")
    dwell_us: float | None = Field(default=None, description="dwell time per pixel, us")
    line_time_s: float | None = Field(default=None, description="time per scan line, s")
    frame_time_s: float | None = Field(default=None, description="time per scan, s")
    vendor: str | None = Field(default=None, description="whose format the statements are in")
    instrument: str | None = Field(default=None, description="name of the microscope")
    acquired: str | None = Field(default=None, description="date and time, as the file writes it")
    picture_width_px: int | None = Field(default=None, gt=0, description="stated picture width")
    picture_height_px: int | None = Field(
        default=None, gt=0, description="stated picture height, without the data bar"
    )
    bar_height_px: int | None = Field(default=None, ge=0, description="stated data bar height")
    origin: str | None = Field(default=None, description="which files and tags state this")
    notes: tuple[str, ...] = Field(default=(), description="what could not be read, or disagrees")

    def picture_height_in(self, size: tuple[int, int]) -> int | None:
        """Lines of the picture without its data bar in a file of `size` (height, width) px.

        None where nothing is stated, or where the stated width is not that of the file: the
        picture was scaled or cut after it was saved.
        """
        if self.picture_width_px is not None and self.picture_width_px != size[1]:
            return None
        if self.picture_height_px is not None:
            return self.picture_height_px
        return size[0] - self.bar_height_px if self.bar_height_px else None


def same_pixel(first: float, second: float) -> bool:
    """True where two pixel sizes are the same within what files state (0.1 %)."""
    return abs(first - second) <= SAME_PIXEL * max(first, second)
