"""`GradientFilm`: a fine-grained film whose dark particles change in number and size along x."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.geometry import Box
from cemi_dask.simulate.colonies import Tessellation, find_colonies
from cemi_dask.simulate.edges import BlurredEdge, Edge, PixelEdge
from cemi_dask.simulate.lattice import Float32, Float64, Integers, smooth_field, uniform
from cemi_dask.simulate.specimen import Gradient, Truth, coordinates


class GradientFilm(BaseModel):
    """A (PbSe)1-x(SrSe)x-like gradient film: bright grains with fine dark particles.

    Same protocol as `Specimen`; its truth `bcc` is the area fraction of the dark particles,
    nothing in it is lamellar and nothing invalid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["film"] = "film"
    width_px: int = Field(
        default=9_096, ge=1, description="Length along which the gradients stretch."
    )
    height_px: int = Field(default=608, ge=1, description="Height of the specimen.")
    pixel_um: float = Field(default=0.05, gt=0, description="Size of a pixel.")
    seed: int = Field(default=0, ge=0, description="Another seed is another specimen.")
    spacing_px: float = Field(default=11.0, ge=4, description="Mean distance between particles.")
    density: Gradient = Field(
        default=Gradient(left=0.35, middle=0.75, right=0.95),
        description="Share of the places that hold a particle, along x.",
    )
    radius: Gradient = Field(
        default=Gradient(left=0.16, middle=0.23, right=0.34),
        description="Radius of the particles, in units of spacing_px, along x (at most 0.45).",
    )
    grain_px: float = Field(default=60.0, ge=20, description="Mean distance between grain centres.")
    bright_level: float = Field(
        default=160.0, gt=0, le=255, description="Grey level of the grains."
    )
    dark_level: float = Field(
        default=70.0, ge=0, le=255, description="Grey level of the particles."
    )
    tone_variation: float = Field(
        default=0.06, ge=0, le=0.3, description="Contrast between grains."
    )
    psf_sigma_px: float = Field(
        default=0.5,
        gt=0,
        description="Edge blur of the specimen's own picture, without a microscope.",
    )

    def image(
        self, y0: float, x0: float, shape: tuple[int, int], *, psf_sigma_px: float | None = None
    ) -> Float32:
        """Noise-free grey levels 0..255 (float32) of a window at any subpixel corner."""
        y, x = coordinates(y0, x0, shape)
        edge = BlurredEdge(self.psf_sigma_px if psf_sigma_px is None else psf_sigma_px)
        dark = self._dark(y, x, edge)
        contrast = np.float32(self.dark_level - self.bright_level)
        grey = self._tone(y, x, edge) * (np.float32(self.bright_level) + contrast * dark)
        return np.asarray(grey, np.float32)

    def truth(self, box: Box) -> Truth:
        """Truth of a box of whole pixels; see `truth_at`."""
        return self.truth_at(box.y0, box.x0, box.shape)

    def truth_at(self, y0: float, x0: float, shape: tuple[int, int]) -> Truth:
        """bcc (particles' area fraction per pixel), lamellar (False), period_px (NaN), valid."""
        y, x = coordinates(y0, x0, shape)
        return {
            "bcc": self._dark(y, x, PixelEdge()),
            "lamellar": np.zeros(shape, bool),
            "period_px": np.full(shape, np.nan, np.float32),
            "valid": np.ones(shape, bool),
        }

    def _dark(self, y: Float64, x: Float64, edge: Edge) -> Float32:
        # The lattice of particles is bent, or its rows would show (and correlate).
        place = [np.broadcast_to(v, (len(y), len(x))).copy() for v in (y[:, None], x[None, :])]
        for n, axis in enumerate(place):
            for k, (spacing, amplitude) in enumerate(((7.0, 3.0), (2.5, 0.6))):
                field = smooth_field(
                    self.seed, 410 + 2 * k + n, y, x, spacing_px=spacing * self.spacing_px
                )
                axis += amplitude * self.spacing_px * field
        # A particle's centre keeps to the middle half of its cell, so only the 2 x 2 cells
        # nearest to a pixel can reach it.
        row, col = (np.floor(axis / self.spacing_px - 0.5).astype(np.int64) for axis in place)
        i = np.arange(row.min(), row.max() + 2)[:, None]
        j = np.arange(col.min(), col.max() + 2)[None, :]
        table = self._particles(i, j, (float(y[0]), float(x[0])))
        here_y, here_x = (
            (axis - start).astype(np.float32)
            for axis, start in zip(place, (y[0], x[0]), strict=True)
        )
        clear = np.ones((len(y), len(x)), np.float32)
        first = (row - i[0, 0]) * j.size + (col - j[0, 0])
        for step in (0, 1, j.size, j.size + 1):
            centre_y, centre_x, radius = (values.take(first + step) for values in table)
            distance = np.sqrt((here_y - centre_y) ** 2 + (here_x - centre_x) ** 2)
            clear *= 1 - edge(radius - distance)
        return np.asarray(1 - clear, np.float32)

    def _particles(
        self, i: Integers, j: Integers, origin: tuple[float, float]
    ) -> tuple[Float32, Float32, Float32]:
        """Centres (y, x) relative to `origin` and radii in px of the particles of cells (i, j)."""
        u = [uniform(self.seed, 400 + k, i, j) for k in range(4)]
        centre_y = (i + 0.25 + 0.5 * u[0]) * self.spacing_px - origin[0]
        centre_x = (j + 0.25 + 0.5 * u[1]) * self.spacing_px - origin[1]
        along = j * self.spacing_px / self.width_px
        radius = self.radius.at(along) * self.spacing_px * (0.75 + 0.5 * u[2])
        # A cell without a particle has one of negative radius, which no pixel sees.
        radius = np.where(u[3] < self.density.at(along), radius, -10.0)
        return centre_y.astype(np.float32), centre_x.astype(np.float32), radius.astype(np.float32)

    def _tone(self, y: Float64, x: Float64, edge: BlurredEdge) -> Float32:
        grains = Tessellation(self.seed, self.grain_px, stream=420)
        found = find_colonies(grains, y, x, border_px=edge.reach_px)
        spread = 2 * uniform(self.seed, 440, found.i, found.j) - 1
        tones: Float32 = (1 + self.tone_variation * spread).astype(np.float32)
        tone = np.take(tones, found.label)
        flat = tone.ravel()
        weight = edge(-found.distance_px)
        flat[found.border] += weight * (tones[found.other] - flat[found.border])
        return tone
