"""`Microscope`: from a specimen to recorded 8-bit frames, with everything that goes wrong."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.simulate.bending import ScanField, render_bent
from cemi_dask.simulate.lattice import Float32
from cemi_dask.simulate.specimen import Scene

# Rows that get their noise at once: their arrays fit into the cache.
STRIP = 48
# Grey level of frames that show no specimen.
BLANK_LEVEL = 118.0

Uint8 = npt.NDArray[np.uint8]


class Microscope(BaseModel):
    """How the microscope sees and how well its stage moves.

    Noise is Poisson (electron counts) plus Gaussian (read-out), together `noise_sigma` grey
    levels at mid grey: about 25 for low-definition video, 4.5 for sharp pictures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    psf_sigma_px: float = Field(default=0.6, gt=0, description="Gaussian point-spread function.")
    noise_sigma: float = Field(default=25.0, ge=0, description="Noise at mid grey, of 255.")
    poisson_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the variance from counts."
    )
    vignetting: float = Field(default=0.06, ge=0, le=0.5, description="Darkening in the corners.")
    gain_drift: float = Field(
        default=0.04, ge=0, le=0.5, description="Slow brightness change (at most)."
    )
    velocity_variation: float = Field(
        default=0.06,
        ge=0,
        le=0.5,
        description="Slow relative change of the stage's speed (at most).",
    )
    jitter_px: float = Field(default=0.5, ge=0, description="Stage jitter (rms) of each frame.")
    row_start_px: float = Field(
        default=40.0, ge=0, description="Unknown start of a row in x (at most)."
    )
    row_pitch_px: float = Field(
        default=8.0, ge=0, description="Error of a row's place in y (at most)."
    )
    row_drift_px: float = Field(
        default=6.0, ge=0, description="Slow drift in y along a row (at most)."
    )
    stage_x_px: float = Field(
        default=12.0, ge=0, description="Error of a tile's place in x (at most)."
    )
    stage_y_px: float = Field(
        default=6.0, ge=0, description="Error of a tile's place in y (at most)."
    )
    distortion: ScanField = Field(
        default=ScanField(),
        description="How unevenly the beam scans: the displacement in the corners of a frame.",
    )
    data_bar_px: int = Field(
        default=0, ge=0, description="Height of the data bar below the picture."
    )

    def record(
        self,
        scene: Scene,
        corner: tuple[float, float],
        shape: tuple[int, int],
        *,
        gain: float,
        rng: np.random.Generator,
        blank: bool = False,
    ) -> Uint8:
        """One recorded 8-bit frame of `shape` plus the data bar, its corner at (y, x) px.

        A `blank` frame shows a flat grey (the beam was off the specimen), with the same noise.
        """
        if blank:
            clean = np.full(shape, BLANK_LEVEL, np.float32)
        else:
            clean = self.scan(scene, corner, shape)
        return self.with_data_bar(self.expose(clean, gain=gain, rng=rng), scene.pixel_um)

    def scan(self, scene: Scene, corner: tuple[float, float], shape: tuple[int, int]) -> Float32:
        """The noise-free picture of `shape`, its corner at (y, x) px, bent as the scan bends it."""
        if self.distortion.even:
            return scene.image(*corner, shape, psf_sigma_px=self.psf_sigma_px)
        field = self.distortion.on(shape)
        return render_bent(scene, corner, field, psf_sigma_px=self.psf_sigma_px)

    def expose(self, clean: Float32, *, gain: float, rng: np.random.Generator) -> Uint8:
        """Noise-free grey levels (h, w) as the detector gives them: shaded, noisy, 8-bit."""
        shaded = clean * (np.float32(gain) * self.shading((clean.shape[0], clean.shape[1])))
        grey = np.empty(clean.shape, np.uint8)
        for start in range(0, len(clean), STRIP):
            rows = slice(start, min(start + STRIP, len(clean)))
            grey[rows] = np.clip(np.rint(self._noisy(shaded[rows], rng)), 0, 255)
        return grey

    def with_data_bar(self, picture: Uint8, pixel_um: float) -> Uint8:
        """A picture with the data bar below it, where there is one."""
        if not self.data_bar_px:
            return picture
        bar = draw_data_bar(self.data_bar_px, picture.shape[1], pixel_um)
        return np.concatenate([picture, bar])

    def shading(self, shape: tuple[int, int]) -> Float32:
        """Vignetting factor over the frame: 1 in the middle, 1 - `vignetting` in the corners."""
        y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
        return 1 - np.float32(self.vignetting / 2) * (y * y + x * x)

    def _noisy(self, clean: Float32, rng: np.random.Generator) -> Float32:
        if self.noise_sigma == 0:
            return clean
        mid_level = np.float32(128.0)
        counted = self.poisson_share * self.noise_sigma**2
        grey = clean
        if counted > 0:
            # Grey levels per electron, from variance = level * grey_per_electron.
            grey_per_electron = np.float32(counted / mid_level)
            grey = rng.poisson(clean / grey_per_electron).astype(np.float32) * grey_per_electron
        read = np.float32(self.noise_sigma * np.sqrt(1 - self.poisson_share))
        return np.asarray(
            grey + read * rng.standard_normal(clean.shape, dtype=np.float32), np.float32
        )


def draw_data_bar(height_px: int, width_px: int, pixel_um: float) -> Uint8:
    """A black band with a scale bar and white text, as microscopes put under their pictures."""
    bar: npt.NDArray[Any] = np.zeros((height_px, width_px), np.uint8)
    scale = height_px / 44.0
    base = int(0.7 * height_px)
    room_um = 0.25 * width_px * pixel_um
    decade = 10 ** np.floor(np.log10(room_um))
    length_um = float(decade * max(step for step in (1, 2, 5) if step * decade <= room_um))
    length_px = round(length_um / pixel_um)
    left = width_px - length_px - max(2, width_px // 40)
    bar[0] = 255
    bar[base - max(1, height_px // 12) : base, left : left + length_px] = 255
    for place, text in (
        (width_px // 60, "500x  20.0 kV  BSE"),
        (left - int(110 * scale), f"{length_um:g} um"),
    ):
        cv2.putText(bar, text, (place, base), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    return np.asarray(bar, np.uint8)
