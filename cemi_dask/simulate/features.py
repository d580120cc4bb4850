"""What interrupts a eutectic: primary dendrites, empty patches, scratched patches.

Features live in the cells of a coarse lattice, at most one of a kind in each cell, and reach
less than one cell far, so that any window knows its features from the cells around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cemi_dask.simulate.edges import BlurredEdge, Edge, soft_max, soft_min
from cemi_dask.simulate.lattice import Float32, Float64, smooth_field, uniform

DENDRITE, EMPTY, SCRATCH = 300, 320, 340
# A straight scratch is 3 px wide at half its depth.
LINE_SIGMA_PX, LINE_DEPTH = 1.275, 0.9


@dataclass(frozen=True)
class Feature:
    """One feature: centre in px, direction of its long axis, and its own random numbers."""

    y_px: float
    x_px: float
    angle: float
    reach_px: float
    random: tuple[float, ...]

    def window(self, y_px: Float64, x_px: Float64) -> tuple[slice, slice] | None:
        """The part of a grid of coordinates within reach, None where there is none."""
        rows = np.searchsorted(y_px, [self.y_px - self.reach_px, self.y_px + self.reach_px])
        cols = np.searchsorted(x_px, [self.x_px - self.reach_px, self.x_px + self.reach_px])
        if rows[0] == rows[1] or cols[0] == cols[1]:
            return None
        return slice(int(rows[0]), int(rows[1])), slice(int(cols[0]), int(cols[1]))

    def local(self, y_px: Float64, x_px: Float64) -> tuple[Float32, Float32]:
        """Coordinates (along, across) the long axis in px, float32."""
        y = (y_px - self.y_px).astype(np.float32)[:, None]
        x = (x_px - self.x_px).astype(np.float32)[None, :]
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return c * x + s * y, c * y - s * x


@dataclass(frozen=True)
class FeatureKind:
    """Features of one kind: where they are. `size_px` is the largest half-length."""

    seed: int
    stream: int
    size_px: float
    per_cell: float

    @property
    def cell_px(self) -> float:
        """Pitch of the lattice: features reach at most half of it."""
        return 2.5 * self.size_px

    def near(self, y_px: Float64, x_px: Float64) -> Iterator[Feature]:
        """The features that can reach the grid of coordinates, in a fixed order."""
        if self.per_cell <= 0:
            return
        cell, reach = self.cell_px, 1.15 * self.size_px
        rows = range(int((y_px[0] - reach) // cell), int((y_px[-1] + reach) // cell) + 1)
        cols = range(int((x_px[0] - reach) // cell), int((x_px[-1] + reach) // cell) + 1)
        i, j = (v.ravel() for v in np.meshgrid(rows, cols, indexing="ij"))
        u = np.stack([uniform(self.seed, self.stream + k, i, j) for k in range(10)])
        for k in np.flatnonzero(u[0] < self.per_cell):
            y, x = (i[k] + u[1, k]) * cell, (j[k] + u[2, k]) * cell
            random = tuple(float(v) for v in u[4:, k])
            yield Feature(float(y), float(x), float(np.pi * u[3, k]), reach, random)


def dendrite(feature: Feature, y_px: Float64, x_px: Float64, size_px: float, seed: int) -> Float32:
    """Distance in px inside a bent fir tree of a trunk and side arms (negative: outside)."""
    along, across = feature.local(y_px, x_px)
    u = feature.random
    half = np.float32(size_px * (0.6 + 0.4 * u[0]))
    pitch = np.float32(size_px * (0.12 + 0.05 * u[1]))
    across = across + np.float32(0.3 * (u[3] - 0.5)) * along * along / half
    away = np.abs(across)
    taper = 1 - (along / half) ** 2
    wander = smooth_field(seed, DENDRITE + 12, y_px, x_px, spacing_px=float(pitch))
    # The two sides' arms are out of step; the step lies hidden inside the trunk.
    step = np.where(across > 0, np.float32(u[2]), np.float32(u[2] + 0.35))
    arms = np.cos(2 * np.pi * ((along + np.float32(0.45) * away) / pitch + step))
    arms -= np.float32(0.05) - np.float32(0.5) * wander
    arms *= pitch / np.float32(2 * np.pi)
    envelope = np.float32(0.42) * half * taper * (1 + np.float32(1.2) * wander) - away
    arms = soft_min(arms, envelope, width_px=0.15 * float(pitch))
    trunk = np.float32(0.2) * pitch * (taper + np.float32(0.5)) - away
    trunk = soft_min(trunk, half - np.abs(along), width_px=3.0)
    return soft_max(trunk, arms, width_px=0.1 * float(pitch))


def blob(feature: Feature, y_px: Float64, x_px: Float64, size_px: float, seed: int) -> Float32:
    """Distance in px inside an ellipse with a wandering outline (negative: outside)."""
    along, across = feature.local(y_px, x_px)
    u = feature.random
    a = np.float32(size_px * (0.55 + 0.25 * u[0]))
    b = a * np.float32(0.4 + 0.4 * u[1])
    radius = np.hypot(along / a, across / b)
    wobble = smooth_field(seed, EMPTY + 12, y_px, x_px, spacing_px=0.25 * size_px)
    return np.asarray((1 - radius) * b + np.float32(0.3) * b * wobble, np.float32)


def scratches(feature: Feature, y_px: Float64, x_px: Float64, size_px: float) -> Float32:
    """Grey-level factor in about -1..1 of parallel scratches that fade out at both ends."""
    along, across = feature.local(y_px, x_px)
    a, b = np.float32(0.9 * size_px), np.float32(size_px * (0.15 + 0.25 * feature.random[0]))
    inside = (1 - np.hypot(along / a, across / b)) * b
    rng = np.random.default_rng([int(v * 2**32) for v in feature.random])
    # The profile across is smooth on 0.25 px, so that a table with linear steps is exact enough.
    grid = np.arange(-float(b), float(b), 0.02)
    profile = np.zeros_like(grid)
    for centre in rng.uniform(-b, b, 4 + int(b / 9)):
        width = rng.uniform(0.8, 1.8)
        profile += rng.choice([-1.0, 0.7]) * np.exp(-0.5 * ((grid - centre) / width) ** 2)
    shape = np.interp(across, grid, profile, left=0, right=0).astype(np.float32)
    return shape * BlurredEdge(6.0)(inside)


def straight_scratches(places_px: tuple[float, ...], x_px: Float64) -> Float32:
    """Brightness factor (len(x_px),) of thin straight scratches along y at the places in x.

    Each is a Gaussian groove, LINE_SIGMA_PX wide, that leaves 1 - LINE_DEPTH of the light.
    """
    factor = np.ones_like(x_px)
    for place in places_px:
        factor *= 1 - LINE_DEPTH * np.exp(-0.5 * ((x_px - place) / LINE_SIGMA_PX) ** 2)
    return factor.astype(np.float32)


def cover(kind: FeatureKind, y_px: Float64, x_px: Float64, edge: Edge) -> Float32 | None:
    """Share 0..1 of each pixel that features of `kind` cover; None where there are none."""
    total: Float32 | None = None
    for feature in kind.near(y_px, x_px):
        part = feature.window(y_px, x_px)
        if part is None:
            continue
        y, x = y_px[part[0]], x_px[part[1]]
        if kind.stream == DENDRITE:
            inside = dendrite(feature, y, x, kind.size_px, kind.seed)
        else:
            inside = blob(feature, y, x, kind.size_px, kind.seed)
        if total is None:
            total = np.zeros((len(y_px), len(x_px)), np.float32)
        np.maximum(total[part], edge(inside), out=total[part])
    return total


def scratch_tone(kind: FeatureKind, y_px: Float64, x_px: Float64) -> Float32 | None:
    """Sum of all scratches' factors on the grid of coordinates; None where there are none."""
    total: Float32 | None = None
    for feature in kind.near(y_px, x_px):
        part = feature.window(y_px, x_px)
        if part is None:
            continue
        if total is None:
            total = np.zeros((len(y_px), len(x_px)), np.float32)
        total[part] += scratches(feature, y_px[part[0]], x_px[part[1]], kind.size_px)
    return total
