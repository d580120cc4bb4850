"""The pattern inside colonies: lamellae along arcs, or globules, from each colony's numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.simulate.edges import Edge
from cemi_dask.simulate.lattice import Float32, Float64

WAVES = 6
# Pixels evaluated at once: their arrays fit into the cache (a third faster than whole frames).
STRIP_PX = 48_000


@dataclass(frozen=True)
class ColonyTable:
    """One entry per colony: everything its pattern needs, lengths in px.

    `centre_y`, `centre_x` is the centre of the lamellae's arcs relative to the window's
    reference, `radius_px` the arc's radius at the colony's centre, `phase` 0..1.
    """

    lamellar: npt.NDArray[np.bool_]
    centre_y: Float64
    centre_x: Float64
    radius_px: Float64
    phase: Float64
    period_px: Float64
    bcc_fraction: Float64
    tone: Float64
    wave_angle: Float64
    wave_scale: Float64
    wave_phase: Float64


@dataclass(frozen=True)
class Places:
    """Where to evaluate: the colony of each place, its coordinates, and the fine fields.

    `y_px`, `x_px` broadcast to the shape of `label`; `wave_px` displaces the lamellae,
    `thickness` (-1..1) varies the width of the dark ones, `bend` (2, ...; -1..1) makes the
    globules irregular.
    """

    label: npt.NDArray[np.intp]
    y_px: Float32
    x_px: Float32
    wave_px: Float32
    thickness: Float32
    bend: Float32

    def strip(self, rows: slice) -> Places:
        """The places in some rows (or, of a list of places, a part of it)."""
        return Places(
            self.label[rows],
            self.y_px[rows],
            self.x_px if self.x_px.shape[0] == 1 else self.x_px[rows],
            self.wave_px[rows],
            self.thickness[rows],
            self.bend[:, rows],
        )

    def at(self, where: npt.NDArray[np.intp], label: npt.NDArray[np.intp] | None = None) -> Places:
        """The places with flat indices `where`, as seen by their own or other colonies."""
        shape = self.label.shape
        y, x = (np.broadcast_to(v, shape) for v in (self.y_px, self.x_px))
        index = np.unravel_index(where, shape)
        return Places(
            self.label.ravel()[where] if label is None else label,
            np.ascontiguousarray(y[index]),
            np.ascontiguousarray(x[index]),
            self.wave_px.ravel()[where],
            self.thickness.ravel()[where],
            self.bend.reshape(2, -1)[:, where],
        )


def dark_share(table: ColonyTable, places: Places, edge: Edge) -> Float32:
    """Share 0..1 of the BCC (dark) phase at every place, as `edge` sees it."""
    share = np.empty(places.label.shape, np.float32)
    height = max(1, STRIP_PX // max(1, share[:1].size))
    for strip in range(0, len(share), height):
        rows = slice(strip, strip + height)
        share[rows] = _lamellae(table, places.strip(rows), edge)
    for colony in np.flatnonzero(~table.lamellar):
        where = np.flatnonzero(places.label.ravel() == colony)
        if len(where):
            share.ravel()[where] = _globules(table, int(colony), places.at(where), edge)
    return share


def _lamellae(table: ColonyTable, places: Places, edge: Edge) -> Float32:
    # Arcs around one centre keep exactly one period everywhere, unlike warped straight lines.
    def per_place(values: Float64) -> Float32:
        return np.take(values.astype(np.float32), places.label)

    dx = places.x_px - per_place(table.centre_x)
    dy = places.y_px - per_place(table.centre_y)
    distance = np.sqrt(dx * dx + dy * dy)
    period = per_place(table.period_px)
    # Offset below one period: keeps float32 good to 2e-4 px.
    offset = np.mod(-table.radius_px + table.phase * table.period_px, table.period_px)
    across = distance + per_place(offset) + places.wave_px
    across /= period
    across -= np.rint(across)
    np.abs(across, out=across)
    across *= period
    fraction = per_place(table.bcc_fraction)
    half = np.float32(0.5) * period * fraction * (1 + places.thickness)
    normal = (np.abs(dy) / distance, np.abs(dx) / distance)
    # The lamella's near edge, its far edge, and the near edge of the next lamella.
    share = edge(half - across, normal)
    share -= edge(-half - across, normal)
    share += edge(half + across - period, normal)
    return share


@functools.cache
def _wave_quantiles() -> tuple[Float64, Float64]:
    """Levels and the share of an endless wave pattern above them (by seeded sampling)."""
    rng = np.random.default_rng(6)
    sample = np.cos(2 * np.pi * rng.random((200_000, WAVES))).sum(axis=1) * np.sqrt(2 / WAVES)
    share = np.linspace(0.01, 0.99, 197)
    return share, np.quantile(sample, 1 - share)


def _globules(table: ColonyTable, colony: int, places: Places, edge: Edge) -> Float32:
    """Thresholded sum of plane waves in evenly spread directions: rods cut across."""
    share, level = _wave_quantiles()
    limit = np.float32(np.interp(table.bcc_fraction[colony], share, level))
    # Degenerate eutectic is coarser than lamellae: 1.5 to 2 times their period.
    number = 2 * np.pi / (table.period_px[colony] * (1.5 + 0.5 * table.wave_scale[colony]))
    total = np.zeros(places.label.shape, np.float32)
    # Bent by about a third of a wavelength, else few waves make an almost periodic pattern.
    reach = np.float32(1.2 * 2 * np.pi / number)
    here_y = places.y_px - np.float32(table.centre_y[colony]) + reach * places.bend[0]
    here_x = places.x_px - np.float32(table.centre_x[colony]) + reach * places.bend[1]
    for k in range(WAVES):
        angle = np.pi * (k + 0.2 * np.sin(5.0 * k + 6.0 * table.wave_scale[colony])) / WAVES
        angle += table.wave_angle[colony]
        stretch = number * (1 + 0.15 * np.cos(2.4 * k + 6.0 * table.wave_phase[colony]))
        ky, kx = np.float32(stretch * np.sin(angle)), np.float32(stretch * np.cos(angle))
        start = 2 * np.pi * np.mod(table.wave_phase[colony] * (7.3 + 3.1 * k * k), 1.0)
        total += np.cos(ky * here_y + kx * here_x + np.float32(start))
    total *= np.float32(np.sqrt(2 / WAVES))
    # The pattern's typical slope turns its level into a distance in px.
    return edge((total - limit) / np.float32(0.9 * number))
