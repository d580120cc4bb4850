"""`SimulateOptions`: what to simulate, and presets of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.simulate.film import GradientFilm
from cemi_dask.simulate.microscope import Microscope
from cemi_dask.simulate.recording import Recording
from cemi_dask.simulate.specimen import Specimen
from cemi_dask.simulate.stage import ScanPlan
from cemi_dask.simulate.video import Codec

AnySpecimen = Annotated[Specimen | GradientFilm, Field(discriminator="kind")]


class SimulateOptions(BaseModel):
    """A simulated measurement: specimen, microscope and scan, all from one seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(default=3, ge=1, description="Rows of the scan: one video each.")
    frames_per_row: int = Field(
        default=24, ge=1, description="Frames at one pitch from each other in a row."
    )
    looks: int = Field(default=4, ge=1, description="Recorded video frames per pitch.")
    frame_shape: tuple[int, int] = Field(
        default=(690, 1024), description="Height and width of a frame in px, without the data bar."
    )
    pitch_x_px: float | None = Field(
        default=None, gt=0, description="Distance of frames in x; 570 px for a width of 1024 px."
    )
    pitch_y_px: float | None = Field(
        default=None, gt=0, description="Distance of rows in y; 436 px for a height of 690 px."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the scan, the noise and the specimen.")
    noise_sigma: float | None = Field(
        default=None,
        ge=0,
        description="Noise at mid grey, of 255; overrides microscope.noise_sigma.",
    )
    data_bar_px: int | None = Field(
        default=None, ge=0, description="Height of the data bar; overrides microscope.data_bar_px."
    )
    codec: Codec = Field(default="ffv1", description="Compression of the videos; ffv1 is lossless.")
    fps: float = Field(
        default=10.0, gt=0, description="Recorded frames per second, as the file says."
    )
    serpentine: bool = Field(default=False, description="Every other row runs from right to left.")
    blank_fraction: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the recorded frames that show no specimen."
    )
    recording: Recording = Field(
        default=Recording(),
        description="How videos are recorded from a running scan; stops and turns of the stage.",
    )
    position_unit: Literal["um", "px"] = Field(
        default="um", description="Unit of the stage positions of tiles."
    )
    specimen: AnySpecimen = Field(default=Specimen(), description="What lies under the microscope.")
    fit_specimen: bool = Field(
        default=True, description="Stretch the specimen's gradients over exactly the scanned area."
    )
    microscope: Microscope = Field(default=Microscope(), description="How it is seen.")
    cell_px: tuple[int, int] = Field(
        default=(413, 508),
        description="Height and width of the grid cells of the truth tables in px.",
    )
    hardness_base: float = Field(
        default=300.0, description="Hardness at a dark-phase fraction of 0.34."
    )
    hardness_per_bcc: float = Field(
        default=1500.0, description="Change of hardness per unit fraction."
    )
    hardness_noise: float = Field(
        default=4.0, ge=0, description="Standard deviation of one indentation."
    )

    @property
    def pitch_px(self) -> tuple[float, float]:
        """Pitches (y, x) in px."""
        height, width = self.frame_shape
        return (
            round(height * 436 / 690) if self.pitch_y_px is None else self.pitch_y_px,
            round(width * 570 / 1024) if self.pitch_x_px is None else self.pitch_x_px,
        )

    @property
    def plan(self) -> ScanPlan:
        """The scan these options describe."""
        return ScanPlan(
            self.rows,
            self.frames_per_row,
            self.looks,
            self.pitch_px,
            self.serpentine,
            self.blank_fraction,
            self.seed,
            self.frame_shape,
            self.recording,
        )

    def resolved(self) -> SimulateOptions:
        """The same options with overrides and sizes filled in, so that they say it all.

        The specimen's seed becomes the sum of both seeds; the pitches, the noise and the data
        bar are filled in; the specimen is fitted to the scan where `fit_specimen` asks for it.
        """
        pitch_y, pitch_x = self.pitch_px
        height, width = self.frame_shape
        place: dict[str, int] = {"seed": self.specimen.seed + self.seed}
        if self.fit_specimen:
            place["width_px"] = round((self.frames_per_row - 1) * pitch_x + width)
            place["height_px"] = round((self.rows - 1) * pitch_y + height)
        overrides = {"noise_sigma": self.noise_sigma, "data_bar_px": self.data_bar_px}
        microscope = self.microscope.model_copy(
            update={name: value for name, value in overrides.items() if value is not None}
        )
        return self.model_copy(
            update={
                "seed": self.seed,
                "pitch_y_px": float(pitch_y),
                "pitch_x_px": float(pitch_x),
                "noise_sigma": microscope.noise_sigma,
                "data_bar_px": microscope.data_bar_px,
                "fit_specimen": False,
                "microscope": microscope,
                "specimen": self.specimen.model_copy(update=place),
            }
        )


def gradient_film_options(*, seed: int = 0, looks: int = 2) -> SimulateOptions:
    """The second reference case: one long sharp video of a gradient film, 9096 x 608 px.

    63 frames of 810 x 608 px, 133.6 px (83.5 % overlap) from each other, cover the film.
    """
    shape = (608, 810)
    return SimulateOptions(
        rows=1,
        frames_per_row=63,
        looks=looks,
        frame_shape=shape,
        pitch_x_px=(9096 - shape[1]) / 62,
        pitch_y_px=400.0,
        seed=seed,
        specimen=GradientFilm(),
        microscope=Microscope(
            psf_sigma_px=0.7,
            noise_sigma=4.5,
            row_start_px=0.0,
            row_pitch_px=0.0,
            row_drift_px=0.0,
            jitter_px=0.2,
        ),
        hardness_base=250.0,
        hardness_per_bcc=200.0,
    )
