"""Which of two numbers in tile names is the row: asked of the pictures themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.grid import Grid
from cemi_dask.frames.images import read_image
from cemi_dask.frames.motion import look_at, measure_motion, reduction
from cemi_dask.frames.options import Crop

PAIRS = 6  # neighbours looked at for each of the two numbers
STRIP = 0.25  # of the frame: neighbours are matched by strips of this width
LEAST_SCORE = 0.15
FOLDERS_HOLD = (
    0.6  # of the neighbours of a direction must overlap before folders are taken for rows
)


def overlap_order(files: Sequence[str], grid: Grid, crop: Crop) -> Grid:
    """The grid with rows and columns the way the tiles' overlaps say.

    Neighbours in a row share their right and left edges, neighbours in a column their
    bottom and top edges. A few pairs are matched by both, in strips, and the scores added;
    without a clear answer the grid stays, and `how` says so. Folders are taken for rows or
    columns only where the tiles hang together that way (else kind none).
    """
    votes = 0.0
    holds = np.ones(2)  # least part of the pairs that overlap as named, and the other way round
    for step in ((0, 1), (1, 0)):
        seen = np.zeros((0, 2))
        for i, j in _neighbours(grid, *step):
            first, second = (read_image(files[n]) for n in (i, j))
            kept = crop.kept((first.shape[0], first.shape[1]))
            beside = _either_way(first[kept], second[kept])
            below = _either_way(first[kept].T, second[kept].T)
            scores = (beside, below) if step == (0, 1) else (below, beside)
            seen = np.vstack((seen, scores))
        votes += float((seen[:, 0] - seen[:, 1]).sum())
        if len(seen):
            holds = np.minimum(holds, (seen > 0).mean(axis=0))
    if grid.folders and holds.max() < FOLDERS_HOLD:
        return replace(
            grid,
            kind="none",
            rows=(0,) * len(files),
            cols=(-1,) * len(files),
            how=f"no layout known: the {len(files)} tiles lie in several folders whose numbers "
            "are no rows or columns, as the tiles overlap",
        )
    if votes < -LEAST_SCORE:
        return grid.swapped("the file names hold column then row (as the tiles overlap)")
    if votes > LEAST_SCORE:
        return replace(grid, how=f"{grid.how} (as the tiles overlap)")
    return replace(
        grid,
        how=f"{grid.how}, which is assumed, as the overlaps do not tell "
        "(set tiles.order or tiles.pattern)",
    )


def _either_way(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """The better score of the second picture right of the first, or left of it."""
    return max(edge_score(first, second), edge_score(second, first))


def edge_score(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Correlation of the first picture's right edge with the second's left edge; 0: none."""
    width = int(first.shape[1] * STRIP)
    factor = reduction((first.shape[0], max(first.shape)))
    edges = first[:, -width:], second[:, :width]
    looks = [look_at(np.ascontiguousarray(edge), factor=factor) for edge in edges]
    motion = measure_motion(looks[0], looks[1], min_score=LEAST_SCORE)
    # Opposite edges of neighbours in a row lie beside each other, not above.
    if motion is None or abs(motion.dy_px) > STRIP * first.shape[0]:
        return 0.0
    return motion.score


def _neighbours(grid: Grid, step_row: int, step_col: int) -> list[tuple[int, int]]:
    """Pairs of files one step apart, spread over the grid."""
    at = {place: n for n, place in enumerate(zip(grid.rows, grid.cols, strict=True))}
    pairs = [
        (n, at[r + step_row, c + step_col])
        for (r, c), n in sorted(at.items())
        if (r + step_row, c + step_col) in at
    ]
    # Folders may be no rows at all: more pairs, lest a stride meets only those that fit.
    count = 3 * PAIRS if grid.folders else PAIRS
    chosen = np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int))
    return [pairs[k] for k in chosen] if pairs else []
