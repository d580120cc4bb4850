"""Sparse least squares for frame positions: the normal matrix and its factor."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import splu

from cemi_dask.solve.links import Floats, Ints

# Ties islands and the one free translation to their start without being felt by links.
_ANCHOR_PER_PX2 = 1e-7


def normal_matrix(
    n: int, ends: tuple[Ints, Ints], information: Floats, anchor_per_px2: Floats | float = 0.0
) -> csc_array:
    """The (2n, 2n) normal matrix of links with information (m, 2, 2) in px^-2.

    Unknowns are ordered x0, y0, x1, y1, ...; `anchor_per_px2` (n or scalar) is added to the
    diagonal, a tiny one always.
    """
    i, j = ends
    axis = np.arange(2)
    first = (2 * i[:, None] + axis)[:, :, None] + np.zeros((1, 1, 2), np.int64)
    second = (2 * j[:, None] + axis)[:, :, None] + np.zeros((1, 1, 2), np.int64)
    first_t, second_t = first.transpose(0, 2, 1), second.transpose(0, 2, 1)
    rows = np.concatenate([v.ravel() for v in (first, second, first, second)])
    cols = np.concatenate([v.ravel() for v in (first_t, second_t, second_t, first_t)])
    flat = information.ravel()
    values = np.concatenate([flat, flat, -flat, -flat])
    diagonal = np.arange(2 * n)
    anchor = np.repeat(np.broadcast_to(anchor_per_px2, (n,)), 2) + _ANCHOR_PER_PX2
    return csc_array(
        coo_array(
            (np.r_[values, anchor], (np.r_[rows, diagonal], np.r_[cols, diagonal])),
            shape=(2 * n, 2 * n),
        )
    )


def factor(matrix: csc_array) -> Any:
    """The LU factor of a symmetric positive definite matrix, with a fill-reducing order."""
    return splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def right_side(n: int, ends: tuple[Ints, Ints], pull: Floats) -> Floats:
    """J^T W d (2n) from the weighted displacements `pull` (m, 2) of links."""
    out = np.zeros((n, 2))
    np.add.at(out, ends[1], pull)
    np.add.at(out, ends[0], -pull)
    return out.ravel()


def solve_positions(
    start: Floats,
    ends: tuple[Ints, Ints],
    shift: Floats,
    information: Floats,
    anchor_per_px2: Floats | float = 0.0,
) -> Floats:
    """Positions (n, 2) px that satisfy links `shift` (m, 2) best, anchored (weakly) at `start`."""
    n = len(start)
    step = start[ends[1]] - start[ends[0]]
    # Solved for the change from the start: the tiny anchor then keeps what no link moves.
    pull = np.einsum("mab,mb->ma", information, shift - step)
    change = factor(normal_matrix(n, ends, information, anchor_per_px2)).solve(
        right_side(n, ends, pull)
    )
    return np.asarray(start + change.reshape(n, 2))
