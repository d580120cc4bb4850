"""Which pairs of frames to measure when their positions are known, and where to look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.overlap import PairShift
from cemi_dask.register.batch import Request
from cemi_dask.register.correlate import Search

Positions = npt.NDArray[np.float64]


def usable(frames: Frames) -> npt.NDArray[np.int64]:
    """Numbers of the frames that take part in registration."""
    return np.flatnonzero(frames.table["used"].to_numpy(bool)).astype(np.int64)


def nominal_positions(frames: Frames) -> Positions:
    """Nominal (x, y) px of every frame, (n, 2)."""
    return frames.table[["x_nominal_px", "y_nominal_px"]].to_numpy(float)


def overlapping(
    positions: Positions,
    ids: npt.NDArray[np.int64],
    shape: tuple[int, int],
    *,
    min_overlap: float,
) -> list[tuple[int, int]]:
    """Pairs i < j of the frames `ids` whose boxes share `min_overlap` of a frame's area.

    Raises InputError for frames without a position.
    """
    h, w = shape
    place = positions[ids]
    if not np.isfinite(place).all():
        lost = ids[~np.isfinite(place).all(axis=1)][:5].tolist()
        raise InputError(
            f"Frames {lost} have no nominal position. Give every frame one, or mark it unused."
        )
    tree = cKDTree(place / (w, h))
    near = tree.query_pairs(1.0, p=np.inf, output_type="ndarray")
    if not len(near):
        return []
    step = np.abs(place[near[:, 0]] - place[near[:, 1]])
    share = np.clip(1 - step[:, 0] / w, 0, 1) * np.clip(1 - step[:, 1] / h, 0, 1)
    kept = ids[near[share >= min_overlap]]
    return sorted((int(min(a, b)), int(max(a, b))) for a, b in kept)


def expected_requests(
    pairs: Iterable[tuple[int, int]], positions: Positions, sigma_px: float
) -> list[Request]:
    """Requests to search `pairs` within 3 sigma of their difference in position."""
    out = []
    for i, j in pairs:
        dx, dy = positions[j] - positions[i]
        out.append(Request(i, j, (Search.around(float(dx), float(dy), 3 * sigma_px + 2),)))
    return out


def failed(pairs: Sequence[PairShift]) -> list[PairShift]:
    """Pairs with texture on both sides in which no displacement was found."""
    return [p for p in pairs if p.status == "rejected"]


def merged(first: Sequence[PairShift], second: Iterable[PairShift]) -> list[PairShift]:
    """`first` with the pairs of `second` that found something put in the place of theirs."""
    table = {(p.i, p.j): p for p in first}
    rank = {"ok": 2, "ambiguous": 1, "rejected": 0, "empty": 0}
    for pair in second:
        old = table.get((pair.i, pair.j))
        if old is None or rank[pair.status] >= rank[old.status]:
            table[pair.i, pair.j] = pair
    return [table[key] for key in sorted(table)]
