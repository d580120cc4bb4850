"""`Specimen`: a lamellar eutectic ingot with known truth, evaluated lazily in any window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.geometry import Box
from cemi_dask.simulate import features
from cemi_dask.simulate.colonies import Colonies, Tessellation, find_colonies
from cemi_dask.simulate.edges import BlurredEdge, Edge, PixelEdge
from cemi_dask.simulate.eutectic import ColonyTable, Places, dark_share
from cemi_dask.simulate.lattice import Float32, Float64, smooth_field, uniform

Truth = dict[str, npt.NDArray[Any]]


class Gradient(BaseModel):
    """A quantity that changes smoothly along x: the parabola through three values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: float = Field(description="Value at the left end.")
    middle: float = Field(description="Value in the middle.")
    right: float = Field(description="Value at the right end.")

    def at(self, x: Float64) -> Float64:
        """The values at positions `x`, 0 at the left end and 1 at the right; constant beyond."""
        t = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
        bend = 2 * (self.left - 2 * self.middle + self.right)
        return self.left + t * (self.right - self.left - bend * (1 - t))


class Scene(Protocol):
    """What a microscope can look at: any specimen with a picture and its truth."""

    width_px: int
    height_px: int
    pixel_um: float
    seed: int

    def image(
        self, y0: float, x0: float, shape: tuple[int, int], *, psf_sigma_px: float | None = None
    ) -> Float32:
        """Grey levels of the window whose pixel (0, 0) has its centre at (y0, x0)."""
        ...

    def truth_at(self, y0: float, x0: float, shape: tuple[int, int]) -> Truth:
        """Truth of the same window."""
        ...


class Specimen(BaseModel):
    """A lamellar eutectic ingot: bright FCC and dark BCC lamellae in colonies.

    The pattern goes on for ever; `width_px` only sets how far the gradients along x stretch.
    Every value depends on its coordinates and the seed alone, so a specimen of any size takes
    no memory, and windows agree wherever they overlap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["eutectic"] = "eutectic"
    width_px: int = Field(
        default=123_672, ge=1, description="Length along which the gradients stretch."
    )
    height_px: int = Field(default=7_848, ge=1, description="Height of the specimen.")
    pixel_um: float = Field(default=0.222, gt=0, description="Size of a pixel.")
    seed: int = Field(default=0, ge=0, description="Another seed is another specimen.")
    colony_px: float = Field(
        default=280.0, ge=20, description="Mean distance between colony centres."
    )
    period_px: Gradient = Field(
        default=Gradient(left=6.0, middle=4.8, right=6.0), description="Lamella period along x."
    )
    bcc_fraction: Gradient = Field(
        default=Gradient(left=0.341, middle=0.332, right=0.349),
        description="Area fraction of the dark phase within the eutectic, along x.",
    )
    lamellar_fraction: Gradient = Field(
        default=Gradient(left=0.95, middle=0.85, right=0.65),
        description="Share of the colonies that are lamellar, along x; the rest is globular.",
    )
    waviness_px: float = Field(default=1.2, ge=0, description="How far lamellae wander sideways.")
    thickness_variation: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="How much the dark lamellae swell and shrink (at most).",
    )
    dendrites_per_cell: float = Field(default=0.05, ge=0, le=1, description="Chance of a dendrite.")
    empty_per_cell: float = Field(default=0.04, ge=0, le=1, description="Chance of an empty patch.")
    scratches_per_cell: float = Field(default=0.06, ge=0, le=1, description="Chance of scratches.")
    scratch_lines_px: tuple[float, ...] = Field(
        default=(),
        description="Places in x of dark straight scratches, 3 px wide, along the whole height.",
    )
    bright_level: float = Field(default=170.0, gt=0, le=255, description="Grey level of FCC.")
    dark_level: float = Field(default=48.5, ge=0, le=255, description="Grey level of BCC.")
    empty_level: float = Field(
        default=28.0, ge=0, le=255, description="Grey level of empty patches."
    )
    tone_variation: float = Field(
        default=0.01, ge=0, le=0.2, description="Relative brightness from colony to colony."
    )
    psf_sigma_px: float = Field(
        default=0.5,
        gt=0,
        description="Edge blur of the specimen's own picture, without a microscope.",
    )

    def image(
        self, y0: float, x0: float, shape: tuple[int, int], *, psf_sigma_px: float | None = None
    ) -> Float32:
        """Noise-free grey levels 0..255 (float32) of a window at any subpixel corner.

        The value at a pixel is an analytic function of its centre's coordinates, so windows
        shifted by any fraction of a pixel show exactly the shifted scene.
        """
        y, x = coordinates(y0, x0, shape)
        edge = BlurredEdge(self.psf_sigma_px if psf_sigma_px is None else psf_sigma_px)
        layers = self._layers(y, x, edge)
        contrast = np.float32(self.dark_level - self.bright_level)
        grey = layers.tone * (np.float32(self.bright_level) + contrast * layers.dark)
        scratch = features.scratch_tone(self._kind(features.SCRATCH), y, x)
        if scratch is not None:
            grey *= 1 + np.float32(0.3) * scratch
        if layers.empty is not None:
            grey += layers.empty * (np.float32(self.empty_level) - grey)
        if self.scratch_lines_px:
            grey *= features.straight_scratches(self.scratch_lines_px, x)
        return np.clip(grey, 0, 255, out=grey)

    def truth(self, box: Box) -> Truth:
        """Truth of a box of whole pixels; see `truth_at`."""
        return self.truth_at(box.y0, box.x0, box.shape)

    def truth_at(self, y0: float, x0: float, shape: tuple[int, int]) -> Truth:
        """Truth of a window: arrays of `shape`.

        bcc: area fraction 0..1 of the dark phase in each square pixel of the sharp specimen
        (exact for the lamellae's straight edges); lamellar: bool; period_px: the colony's
        lamella period, NaN outside lamellae; valid: bool, False in empty patches.
        """
        y, x = coordinates(y0, x0, shape)
        layers = self._layers(y, x, PixelEdge())
        valid = np.ones(shape, bool) if layers.empty is None else layers.empty < 0.5
        eutectic = valid if layers.dendrite is None else valid & (layers.dendrite < 0.5)
        lamellar = eutectic & layers.table.lamellar[layers.label]
        period = layers.table.period_px.astype(np.float32)[layers.label]
        return {
            "bcc": layers.dark * valid,
            "lamellar": lamellar,
            "period_px": np.where(lamellar, period, np.float32(np.nan)),
            "valid": valid,
        }

    def _layers(self, y: Float64, x: Float64, edge: Edge) -> _Layers:
        cells = Tessellation(self.seed, self.colony_px)
        colonies = find_colonies(cells, y, x, border_px=edge.reach_px)
        origin = float(np.floor(y[0])), float(np.floor(x[0]))
        table = self._table(colonies, origin)
        wave = smooth_field(self.seed, 200, y, x, spacing_px=34.0)
        wave *= np.float32(self.waviness_px)
        thick = smooth_field(self.seed, 201, y, x, spacing_px=5.5)
        thick *= np.float32(self.thickness_variation)
        places = Places(
            colonies.label,
            (y - origin[0]).astype(np.float32)[:, None],
            (x - origin[1]).astype(np.float32)[None, :],
            wave,
            thick,
            np.stack([smooth_field(self.seed, 202 + k, y, x, spacing_px=20.0) for k in (0, 1)]),
        )
        dark = dark_share(table, places, edge)
        tone = np.take(table.tone.astype(np.float32), colonies.label)
        if len(colonies.border):
            # Across a border the two colonies' pictures are mixed as the same edge would.
            other = dark_share(table, places.at(colonies.border, colonies.other), edge)
            weight = edge(-colonies.distance_px)
            flat = dark.ravel()
            flat[colonies.border] += weight * (other - flat[colonies.border])
            here = tone.ravel()
            there = table.tone.astype(np.float32)[colonies.other]
            here[colonies.border] += weight * (there - here[colonies.border])
        dendrite = features.cover(self._kind(features.DENDRITE), y, x, edge)
        if dendrite is not None:
            dark *= 1 - dendrite
        empty = features.cover(self._kind(features.EMPTY), y, x, edge)
        return _Layers(table, colonies.label, dark, tone, dendrite, empty)

    def _kind(self, stream: int) -> features.FeatureKind:
        size, chance = {
            features.DENDRITE: (0.75 * self.colony_px, self.dendrites_per_cell),
            features.EMPTY: (0.6 * self.colony_px, self.empty_per_cell),
            features.SCRATCH: (1.0 * self.colony_px, self.scratches_per_cell),
        }[stream]
        return features.FeatureKind(self.seed, stream, size, chance)

    def _table(self, colonies: Colonies, origin: tuple[float, float]) -> ColonyTable:
        i, j = colonies.i, colonies.j
        u = [uniform(self.seed, 210 + k, i, j) for k in range(10)]
        along = colonies.x_px / self.width_px
        # A low-discrepancy sequence (Roberts 2018) spreads the globular colonies evenly, so
        # that even a small specimen shows the gradient of the lamellar fraction.
        dither = np.mod(0.7548776662466927 * i + 0.5698402909980532 * j + 0.15 * u[0], 1.0)
        radius = self.colony_px * 10.0 ** (0.35 + 0.8 * u[1])
        angle = 2 * np.pi * u[2]
        scatter = 1 + 0.02 * (2 * u[3] - 1)
        return ColonyTable(
            lamellar=dither < self.lamellar_fraction.at(along),
            centre_y=colonies.y_px - origin[0] + radius * np.sin(angle),
            centre_x=colonies.x_px - origin[1] + radius * np.cos(angle),
            radius_px=radius,
            phase=u[4],
            period_px=self.period_px.at(along) * scatter,
            bcc_fraction=self.bcc_fraction.at(along) * (1 + 0.005 * (2 * u[5] - 1)),
            tone=1 + self.tone_variation * (2 * u[6] - 1),
            wave_angle=np.pi * u[7],
            wave_scale=u[8],
            wave_phase=u[9],
        )


@dataclass(frozen=True)
class _Layers:
    table: ColonyTable
    label: npt.NDArray[np.intp]
    dark: Float32
    tone: Float32
    dendrite: Float32 | None
    empty: Float32 | None


def coordinates(y0: float, x0: float, shape: tuple[int, int]) -> tuple[Float64, Float64]:
    """Coordinates (y, x) of a window's pixel centres."""
    rows, cols = (np.arange(size, dtype=np.float64) for size in shape)
    return rows + float(y0), cols + float(x0)
