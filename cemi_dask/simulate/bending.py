"""`ScanField`: how unevenly the beam scans, and frames scanned so."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.distortion import EXPONENTS, Distortion, on_grid
from cemi_dask.resample import MARGIN_PX, resample
from cemi_dask.simulate.lattice import Float32, Float64
from cemi_dask.simulate.specimen import Scene

_FINE = 2  # samples per px: edges hold frequencies beyond the band of the resampling filter


class ScanField(BaseModel):
    """A field by which every frame is bent alike, each part by its displacement in the corners.

    A frame shows at (x, y) what lies at (x, y) + field: positive barrel and scale show more of
    the specimen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    barrel_px: float = Field(
        default=0.0, description="Away from the middle, with the cube of the distance."
    )
    scale_px: float = Field(default=0.0, description="Away from the middle, with the distance.")
    shear_px: float = Field(default=0.0, description="Along x, with y.")
    drift_px: float = Field(default=0.0, description="Along x, with the square of y.")

    @property
    def even(self) -> bool:
        """Whether nothing is bent."""
        return not (self.barrel_px or self.scale_px or self.shear_px or self.drift_px)

    def on(self, frame_shape: tuple[int, int]) -> Distortion:
        """The field as a `Distortion` of frames of `frame_shape`."""
        half_y, half_x = ((n - 1) / 2 for n in frame_shape)
        corner = float(np.hypot(half_x, half_y))
        cube, line = self.barrel_px / corner**3, self.scale_px / corner
        x = {(1, 0): line * half_x, (0, 1): self.shear_px, (0, 2): self.drift_px}
        x |= {(3, 0): cube * half_x**3, (1, 2): cube * half_x * half_y**2}
        y = {(0, 1): line * half_y, (0, 3): cube * half_y**3, (2, 1): cube * half_y * half_x**2}
        along_x, along_y = (tuple(float(c.get(e, 0.0)) for e in EXPONENTS) for c in (x, y))
        return Distortion(frame_shape, along_x, along_y)


def render_bent(
    scene: Scene, corner: tuple[float, float], field: Distortion, *, psf_sigma_px: float
) -> Float32:
    """Noise-free frame (h, w), its pixel (0, 0) at (y, x) px, scanned along the lines of `field`.

    The scene is rendered once, wide enough and with two samples per px, and read at the places
    of the pixels in two passes, exactly up to the filter of `resample`.
    """
    height, width = field.frame_shape
    beyond = MARGIN_PX + int(np.ceil(1.5 * field.max_px))
    rows, columns = height + 2 * beyond, width + 2 * beyond
    fine = np.empty((_FINE * rows, _FINE * columns), np.float32)
    for part_y in range(_FINE):
        for part_x in range(_FINE):
            top, left = (
                c - beyond + p / _FINE for c, p in zip(corner, (part_y, part_x), strict=True)
            )
            fine[part_y::_FINE, part_x::_FINE] = scene.image(
                top, left, (rows, columns), psf_sigma_px=psf_sigma_px
            )
    lines = np.arange(len(fine)) / _FINE - beyond
    x, y = (np.arange(n, dtype=np.float64) for n in (width, height))
    along_x = on_grid(
        x, lines, lambda p, q: p + field.at(p, _frame_line(field, p, q))[..., 0], fit=field.fit
    )
    along_y = on_grid(x, y, lambda p, q: q + field.at(p, q)[..., 1], fit=field.fit)
    bent = resample(fine, _FINE * (along_x + beyond), _FINE * (along_y + beyond))
    return np.clip(bent, 0, 255)


def _frame_line(field: Distortion, x: Float64, line: Float64) -> Float64:
    """The line of the frame that at column `x` shows the line `line` of the scene."""
    at_y = line
    for _ in range(12):  # each turn leaves a few percent of the miss
        at_y = line - field.at(x, at_y)[..., 1]
    return at_y
