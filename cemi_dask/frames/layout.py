"""Which of two numbers in tile names is the row: asked of the pictures themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cemi_dask.frames.grid import Grid
from cemi_dask.frames.images import read_image
from cemi_dask.frames.motion import Look, look_at, measure_motion, reduction

PAIRS = 6  # neighbours looked at for each of the two numbers


def overlap_order(files: Sequence[str], grid: Grid) -> Grid:
    """The grid with rows and columns the way the tiles' overlaps say.

    Tiles next to each other in a row overlap along x, in a column along y. A few pairs of
    each kind are matched and counted; without a majority the grid stays, and `how` says so.
    """
    votes = 0.0
    looks: dict[int, Look] = {}
    for step_row, step_col in ((0, 1), (1, 0)):
        for i, j in _neighbours(grid, step_row, step_col)[:PAIRS]:
            for n in (i, j):
                if n not in looks:
                    image = read_image(files[n])
                    looks[n] = look_at(image, factor=reduction(image.shape))
            motion = measure_motion(looks[i], looks[j], min_score=0.1)
            if motion is None:
                continue
            height, width = (n * looks[i].factor for n in looks[i].small.shape)
            along_x = abs(motion.dx_px) / width > abs(motion.dy_px) / height
            votes += motion.score if along_x == bool(step_col) else -motion.score
    if votes < 0:
        return grid.swapped("the file names hold column then row (as the tiles overlap)")
    if votes > 0:
        return replace(grid, how=f"{grid.how} (as the tiles overlap)")
    return replace(
        grid,
        how=f"{grid.how} is assumed (the overlaps do not tell; set tiles.order or tiles.pattern)",
    )


def _neighbours(grid: Grid, step_row: int, step_col: int) -> list[tuple[int, int]]:
    """Pairs of files one step apart, spread over the grid."""
    at = {place: n for n, place in enumerate(zip(grid.rows, grid.cols, strict=True))}
    pairs = [
        (n, at[r + step_row, c + step_col])
        for (r, c), n in sorted(at.items())
        if (r + step_row, c + step_col) in at
    ]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, PAIRS).round().astype(int))
    return [pairs[k] for k in chosen] if pairs else []
