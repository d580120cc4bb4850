"""Reproducible random numbers on an endless lattice, and smooth fields made from them.

Everything random in a specimen comes from a hash of (seed, stream, cell indices), so that any
window can be evaluated alone and always shows the same specimen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # The finaliser of SplitMix64 (Steele, Lea & Flood 2014): every input bit reaches every
    # output bit. Unsigned arithmetic wraps around, which is what it needs.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(seed: int, stream: int, i: Any, j: Any) -> Float64:
    """Random numbers in [0, 1) from the cell indices (i, j), which broadcast and may be negative.

    The same (seed, stream, i, j) always gives the same number; `stream` keeps the uses of one
    cell independent of each other.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    start = np.array([seed & 0xFFFFFFFFFFFFFFFF, stream & 0xFFFFFFFFFFFFFFFF], np.uint64)
    state = _mix(start[:1] + golden)
    state = _mix((state ^ start[1:]) + golden)
    state = _mix((state ^ np.asarray(i, np.int64).astype(np.uint64)) + golden)
    state = _mix((state ^ np.asarray(j, np.int64).astype(np.uint64)) + golden)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _spline_weights(coordinates: Float64, spacing_px: float) -> tuple[Float32, Integers]:
    """Weights (4, n) of the four lattice values around n coordinates, and the first's index."""
    position = coordinates / spacing_px
    base = np.floor(position)
    t = position - base
    weights = np.stack(
        [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        ]
    )
    return weights.astype(np.float32), base.astype(np.int64) - 1


def smooth_field(
    seed: int, stream: int, y_px: Float64, x_px: Float64, *, spacing_px: float
) -> Float32:
    """A smooth random field in (-1, 1), shape (len(y_px), len(x_px)), at the given coordinates.

    It is the cubic B-spline whose coefficients, one per `spacing_px`, are uniform random
    numbers: twice continuously differentiable, zero on average, standard deviation 0.28.
    """
    weight_y, first_y = _spline_weights(y_px, spacing_px)
    weight_x, first_x = _spline_weights(x_px, spacing_px)
    i = np.arange(first_y.min(), first_y.max() + 4)[:, None]
    j = np.arange(first_x.min(), first_x.max() + 4)[None, :]
    values = (2.0 * uniform(seed, stream, i, j) - 1.0).astype(np.float32)
    # Four explicit terms instead of a matrix product: the same bits whatever the window's
    # size and however many threads the linear algebra library uses. Buffers are reused,
    # because fresh memory of a frame's size costs more than the arithmetic.
    lines = np.zeros((i.size, len(x_px)), np.float32)
    for k in range(4):
        lines += weight_x[k] * values.take(first_x - j[0, 0] + k, axis=1)
    field = np.zeros((len(y_px), len(x_px)), np.float32)
    term = np.empty_like(field)
    for k in range(4):
        np.take(lines, first_y - i[0, 0] + k, axis=0, out=term, mode="clip")
        term *= weight_y[k][:, None]
        field += term
    return field
