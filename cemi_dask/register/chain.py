"""Positions along one row from the links inside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve

from cemi_dask.overlap import PairShift

_LINK_SIGMA_PX = 0.05


def chain_positions(
    ids: npt.NDArray[np.int64],
    tracked: npt.NDArray[np.float64],
    links: Sequence[PairShift],
    track_sigma_px: float,
) -> npt.NDArray[np.float64]:
    """Positions px (n, 2) of the frames `ids` of a row, the first at its tracked place.

    Least squares over the accepted links (`ok`, best peak) and, weakly, the tracked step
    between neighbours, which carries the row over gaps. Two passes: links that disagree
    with the first solution by more than 5 px lose their weight.
    """
    n = len(ids)
    if n == 1:
        return tracked.copy()
    index = {int(k): m for m, k in enumerate(ids)}
    steps = [(m, m + 1, *(tracked[m + 1] - tracked[m]), 1 / track_sigma_px) for m in range(n - 1)]
    good = [p for p in links if p.status == "ok"]
    found = [
        (index[p.i], index[p.j], p.peaks[0].dx_px, p.peaks[0].dy_px, 1 / _LINK_SIGMA_PX)
        for p in good
    ]
    place = _solve(n, steps + found, tracked[0])
    kept = [f for f in found if np.abs(place[f[1]] - place[f[0]] - f[2:4]).max() < 5]
    return _solve(n, steps + kept, tracked[0])


def _solve(
    n: int, rows: Sequence[tuple[int, int, float, float, float]], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    table = np.array(rows)
    i, j, weight = table[:, 0].astype(int), table[:, 1].astype(int), table[:, 4]
    r = np.arange(len(table))
    design = csr_array((np.r_[-weight, weight], (np.r_[r, r], np.r_[i, j])), shape=(len(table), n))[
        :, 1:
    ]
    normal = (design.T @ design).tocsc()
    place = np.zeros((n, 2))
    for axis in (0, 1):
        place[1:, axis] = spsolve(normal, design.T @ (weight * table[:, 2 + axis]))
    return place + start
