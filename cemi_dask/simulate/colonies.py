"""Which colony every pixel belongs to: a Voronoi tessellation with warped borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.simulate.lattice import Float32, Float64, Integers, smooth_field, uniform

BLOCK_PX = 8
JITTER = 0.7
# Borders wander by a coarse and a fine warp: (spacing / pitch, amplitude / pitch).
WARPS = ((0.28, 0.16), (0.075, 0.045))
# The warps stretch a length by less than this: six standard deviations of their gradient.
WARP_SLOPE = 1.2


@dataclass(frozen=True)
class Tessellation:
    """Colonies with centres on a jittered square lattice of `pitch_px`, for one seed."""

    seed: int
    pitch_px: float
    stream: int = 100

    def seeds(self, i: Integers, j: Integers) -> tuple[Float64, Float64]:
        """(y, x) in px of the centres of lattice cells (i, j)."""
        y = i + 0.5 + JITTER * (uniform(self.seed, self.stream, i, j) - 0.5)
        x = j + 0.5 + JITTER * (uniform(self.seed, self.stream + 1, i, j) - 0.5)
        return y * self.pitch_px, x * self.pitch_px

    def warp(self, y_px: Float64, x_px: Float64) -> tuple[Float32, Float32]:
        """Displacements (dy, dx) in px that bend the borders, on the grid of coordinates."""
        dy = np.zeros((len(y_px), len(x_px)), np.float32)
        dx = np.zeros_like(dy)
        for k, (spacing, amplitude) in enumerate(WARPS):
            for n, field in enumerate((dy, dx)):
                field += np.float32(amplitude * self.pitch_px) * smooth_field(
                    self.seed,
                    self.stream + 2 + 2 * k + n,
                    y_px,
                    x_px,
                    spacing_px=spacing * self.pitch_px,
                )
        return dy, dx


@dataclass(frozen=True)
class Colonies:
    """The colonies in one window.

    `i`, `j` (m,) are the lattice cells of the colonies that occur, `y_px`, `x_px` their
    centres. `label` (h, w) is the index of each pixel's colony into them. Along the borders,
    `border` holds flat pixel indices, `other` the neighbour's index and `distance_px` how far
    the pixel lies inside its own colony (>= 0).
    """

    i: Integers
    j: Integers
    y_px: Float64
    x_px: Float64
    label: npt.NDArray[np.intp]
    border: npt.NDArray[np.intp]
    other: npt.NDArray[np.intp]
    distance_px: Float32


def find_colonies(
    cells: Tessellation, y_px: Float64, x_px: Float64, *, border_px: float
) -> Colonies:
    """The colonies on a grid of unit-spaced coordinates, with the borders `border_px` deep.

    Blocks of 8 x 8 px of an absolute grid that lie inside one colony are labelled at once;
    only the pixels of the other blocks are compared with their four nearest centres. A
    pixel's colony therefore depends on its coordinates alone, not on the window.
    """
    by = np.arange(int(y_px[0] // BLOCK_PX), int(y_px[-1] // BLOCK_PX) + 1)
    bx = np.arange(int(x_px[0] // BLOCK_PX), int(x_px[-1] // BLOCK_PX) + 1)
    table_i, table_j, seed_y, seed_x, nearest, inside = _label_blocks(cells, by, bx, border_px)
    row = (y_px // BLOCK_PX).astype(np.intp) - by[0]
    col = (x_px // BLOCK_PX).astype(np.intp) - bx[0]
    label = np.take(nearest[:, :, 0], row, axis=0).take(col, axis=1)
    open_px = np.flatnonzero(~inside.take(row, axis=0).take(col, axis=1))
    r, c = np.divmod(open_px, len(x_px))
    dy, dx = cells.warp(y_px, x_px)
    py, px = y_px[r] + dy.ravel()[open_px], x_px[c] + dx.ravel()[open_px]
    candidates = nearest[row[r], col[c]]
    square = (seed_y[candidates] - py[:, None]) ** 2 + (seed_x[candidates] - px[:, None]) ** 2
    order = np.argsort(square, axis=1)[:, :2]
    picked = np.take_along_axis(candidates, order, axis=1)
    near = np.take_along_axis(square, order, axis=1)
    own, other = picked[:, 0], picked[:, 1]
    apart = np.hypot(seed_y[own] - seed_y[other], seed_x[own] - seed_x[other])
    distance = (near[:, 1] - near[:, 0]) / (2 * apart)
    label.ravel()[open_px] = own
    at_border = distance < border_px
    return Colonies(
        table_i,
        table_j,
        seed_y,
        seed_x,
        label,
        open_px[at_border],
        other[at_border],
        distance[at_border].astype(np.float32),
    )


def _label_blocks(
    cells: Tessellation, by: Integers, bx: Integers, border_px: float
) -> tuple[Integers, Integers, Float64, Float64, npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Colonies near the blocks (i, j, y, x), each block's four nearest, and whether it is inside.

    A block is inside its nearest colony where its centre is farther from every border than
    the block's half diagonal, as warped, plus the border's depth.
    """
    y, x = ((v.astype(np.float64) + 0.5) * BLOCK_PX for v in (by, bx))
    dy, dx = cells.warp(y, x)
    yw, xw = y[:, None] + dy, x[None, :] + dx
    i, j = (np.floor(v / cells.pitch_px).astype(np.int64) for v in (yw, xw))
    i0, j0 = int(i.min()) - 2, int(j.min()) - 2
    grid_i, grid_j = np.meshgrid(
        np.arange(i0, int(i.max()) + 3), np.arange(j0, int(j.max()) + 3), indexing="ij"
    )
    seed_y, seed_x = cells.seeds(grid_i, grid_j)
    reach = np.arange(-2, 3)
    offset = (reach[:, None] * grid_i.shape[1] + reach[None, :]).ravel()
    candidates = ((i - i0) * grid_i.shape[1] + (j - j0))[:, :, None] + offset
    square = (seed_y.ravel()[candidates] - yw[..., None]) ** 2
    square += (seed_x.ravel()[candidates] - xw[..., None]) ** 2
    order = np.argpartition(square, 4, axis=2)[..., :5]
    near = np.take_along_axis(square, order, axis=2)
    inner = np.argsort(near, axis=2)
    near = np.take_along_axis(near, inner, axis=2)
    nearest = np.take_along_axis(candidates, np.take_along_axis(order, inner, axis=2), axis=2)
    sy, sx = seed_y.ravel()[nearest], seed_x.ravel()[nearest]
    apart = np.hypot(sy[..., 1:] - sy[..., :1], sx[..., 1:] - sx[..., :1])
    margin = ((near[..., 1:] - near[..., :1]) / (2 * apart)).min(axis=2)
    inside = margin > BLOCK_PX * np.sqrt(0.5) * (1 + WARP_SLOPE) + border_px
    used, flat = np.unique(nearest[..., :4], return_inverse=True)
    return (
        grid_i.ravel()[used],
        grid_j.ravel()[used],
        seed_y.ravel()[used],
        seed_x.ravel()[used],
        flat.reshape(nearest[..., :4].shape).astype(np.intp),
        inside,
    )
