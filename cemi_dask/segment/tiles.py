"""Logits of a picture from tiles: a grid anchored at the mosaic's corner, blended by Gaussians.

Networks with global pooling (squeeze and excitation) and grey levels that are taken relative to
the tile make a pixel's logits depend on its tile. Tiles therefore lie on one grid for the whole
mosaic, whatever part of it is asked for: every chunking gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box

Float32 = npt.NDArray[np.float32]
# (n, tile, tile) standardised pictures -> logits (n, c, tile, tile)
Predict = Callable[[Float32], Float32]

SIGMA_SHARE = 1 / 8  # of a tile's side, as in nnU-Net (Isensee et al. 2021)


@dataclass(frozen=True)
class TileGrid:
    """Square tiles of `tile_px` whose corners lie `step_px` apart, the first at (0, 0)."""

    tile_px: int
    step_px: int

    def starts(self, first: int, end: int, size: int) -> range:
        """Where the tiles begin that show any of the pixels first..end of a side of `size`.

        A tile that would show nothing new, beyond the last one that reaches the end, is none.
        """
        last = max(0, -(-(size - self.tile_px) // self.step_px))
        low = max(0, -(-(first - self.tile_px + 1) // self.step_px))
        high = min(last, (end - 1) // self.step_px)
        return range(low * self.step_px, high * self.step_px + 1, self.step_px)

    def weights(self) -> Float32:
        """Weight of a tile's pixels along one side: a Gaussian around its middle."""
        place = (np.arange(self.tile_px) + 0.5) / self.tile_px - 0.5
        return np.exp(-0.5 * (place / SIGMA_SHARE) ** 2).astype(np.float32)

    def totals(self, first: int, end: int, size: int) -> Float32:
        """Sum of the weights of all tiles at the pixels first..end of a side."""
        total = np.zeros(end - first, np.float32)
        weights = self.weights()
        for start in self.starts(first, end, size):
            low, high = max(start, first), min(start + self.tile_px, end)
            total[low - first : high - first] += weights[low - start : high - start]
        return total


def standardised(grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Float32:
    """Grey levels (y, x) less their mean, over their standard deviation; 0 where not valid.

    Brightness and contrast cancel, and any type of grey level will do. A picture of one level
    is 0 everywhere.
    """
    if valid.all():
        values = grey.astype(np.float64)
        mean, deviation = values.mean(), values.std()
    elif valid.any():
        values = np.where(valid, grey, 0).astype(np.float64)
        mean, deviation = values[valid].mean(), values[valid].std()
    else:
        return np.zeros(grey.shape, np.float32)
    if deviation <= 1e-12 * max(abs(mean), 1.0):
        return np.zeros(grey.shape, np.float32)
    return np.where(valid, (values - mean) / deviation, 0.0).astype(np.float32)


def tile_logits(
    grey: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    wanted: Box,
    grid: TileGrid,
    predict: Predict,
    *,
    channels: int,
    at_once: int = 1,
) -> Float32:
    """Logits (channels, y, x) of the part `wanted` of a picture (y, x), from all its tiles.

    The picture begins at a corner of the mosaic's grid and shows every tile that `wanted`
    touches, as far as the mosaic goes. A tile that the picture's end cuts is continued by its
    mirror image. `predict` always gets `at_once` tiles, the last ones perhaps empty: the
    result of a tile must not depend on how many go with it.
    """
    logits = np.zeros((channels, *wanted.shape), np.float32)
    weights = grid.weights()
    weight = weights[:, None] * weights[None, :]
    for corners in _groups(wanted, grid, valid, at_once):
        stack = np.zeros((at_once, grid.tile_px, grid.tile_px), np.float32)
        for k, (y, x) in enumerate(corners):
            stack[k] = _tile(grey, valid, y, x, grid.tile_px)
        for (y, x), found in zip(corners, predict(stack), strict=False):
            tile = Box(y, x, y + grid.tile_px, x + grid.tile_px)
            part = tile.intersect(wanted)
            inside = part.relative_to(tile).slices
            here = (slice(None), *part.relative_to(wanted).slices)
            logits[here] += weight[inside] * found[(slice(None), *inside)]
    height, width = grey.shape
    down = grid.totals(wanted.y0, wanted.y1, height)
    across = grid.totals(wanted.x0, wanted.x1, width)
    logits /= down[:, None] * across[None, :]
    return logits


def _groups(
    wanted: Box, grid: TileGrid, valid: npt.NDArray[np.bool_], at_once: int
) -> Iterator[list[tuple[int, int]]]:
    """Corners of the tiles that hold data, row by row, some at once."""
    height, width = valid.shape
    size = grid.tile_px
    corners = [
        (y, x)
        for y in grid.starts(wanted.y0, wanted.y1, height)
        for x in grid.starts(wanted.x0, wanted.x1, width)
        if valid[y : y + size, x : x + size].any()
    ]
    for first in range(0, len(corners), at_once):
        yield corners[first : first + at_once]


def _tile(
    grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_], y: int, x: int, size: int
) -> Float32:
    window = np.s_[y : y + size, x : x + size]
    part = standardised(grey[window], valid[window])
    more = [(0, size - side) for side in part.shape]
    return np.pad(part, more, mode="symmetric") if any(end for _, end in more) else part
