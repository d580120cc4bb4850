"""The tables of a solved mosaic: pairs and positions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cemi_dask.contract import CONTRACT
from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.overlap import OverlapGraph
from cemi_dask.solve.calibrate import straightened
from cemi_dask.solve.lattices import with_waves
from cemi_dask.solve.links import Floats, Links
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.robust import judge

PAIR_COLUMNS = CONTRACT["pairs"]
POSITION_COLUMNS = CONTRACT["positions"]


def pairs_table(
    graph: OverlapGraph, layout: Layout, *, options: SolveOptions | None = None
) -> pd.DataFrame:
    """One row per measured pair: the contract columns, then `peak` (which candidate is used,
    0 the best), `sigma_x_px`, `sigma_y_px`, `overlap_px`, `reason` (why it is not ok, see
    `PairShift`), `grey_step` and `contrast_ratio`.

    A pair that misses the layout is `rejected`. One whose overlap is a bare lattice is
    `ambiguous`; its displacement is that of the layout moved to the nearest lattice line, or
    NaN where the layout does not tell which line. residual_px is the distance between measured
    and solved displacement; NaN where nothing was measured or a frame has no position.
    Where the layout holds a distortion, the measured displacement is that of straight frames.
    grey_step is how much brighter frame j is than frame i in their overlap, in grey levels
    after the layout's gain and offset, contrast_ratio the standard deviation of j over that
    of i; both NaN for pairs that do not hold. Give the `options` that solved the layout.
    """
    links = straightened(Links.of(graph), layout.shear, layout.distortion)
    place = np.stack([layout.x_px, layout.y_px], axis=1)
    sigma = np.stack([layout.sigma_x_px, layout.sigma_y_px], axis=1)
    links = with_waves(links, place, sigma, layout.component)
    choice = judge(links, place, options or SolveOptions())
    m = len(links)
    shift, covariance = links.chosen(choice.peak)
    missing = np.isnan(shift[:, 0])
    sigma = np.sqrt(np.einsum("maa->ma", covariance))
    status = np.array([p.status for p in links.pairs], object)
    reason = np.array([p.reason for p in links.pairs], object)
    contradicted = links.usable & ~choice.accepted
    status[contradicted], reason[contradicted] = "rejected", "contradicted"
    score = links.score[np.arange(m), choice.peak]
    miss = links.misses(place)[np.arange(m), choice.peak]
    step, ratio = _seams(links, layout)
    return pd.DataFrame(
        {
            "i": links.i,
            "j": links.j,
            "dx_px": shift[:, 0],
            "dy_px": shift[:, 1],
            "score": np.where(missing, np.nan, score),
            "status": status.astype(str),
            "residual_px": miss,
            "peak": choice.peak,
            "sigma_x_px": np.where(missing, np.nan, sigma[:, 0]),
            "sigma_y_px": np.where(missing, np.nan, sigma[:, 1]),
            "overlap_px": np.array([p.overlap_px for p in links.pairs], np.int64),
            "reason": reason.astype(str),
            "grey_step": np.where(choice.accepted, step, np.nan),
            "contrast_ratio": np.where(choice.accepted, ratio, np.nan),
        }
    )


def _seams(links: Links, layout: Layout) -> tuple[Floats, Floats]:
    """What is left of each pair's difference in brightness and contrast (m), NaN if unknown.

    From the means and standard deviations that were measured in the overlap, so no pixel is
    read again. Noise is part of both standard deviations.
    """
    unknown = (np.nan,) * 4
    grey = np.array([p.grey or unknown for p in links.pairs], float).reshape(-1, 4)
    (mean_i, mean_j), (std_i, std_j) = (
        (grey[:, k] * layout.gain[links.i], grey[:, k + 1] * layout.gain[links.j]) for k in (0, 2)
    )
    step = mean_j + layout.offset[links.j] - mean_i - layout.offset[links.i]
    ratio = np.divide(std_j, std_i, out=np.full(len(links), np.nan), where=std_i > 0)
    return step, ratio


def positions_table(layout: Layout, table: pd.DataFrame) -> pd.DataFrame:
    """One row per frame: the contract columns, then `used` and `shear` (px in x per px in y);
    `table` is the frames' own table.

    Raises InputError when both are of different length.
    """
    if len(table) != len(layout):
        raise InputError(f"A layout of {len(layout)} frames and a table of {len(table)} rows.")
    columns = {name: table[name].to_numpy() for name in POSITION_COLUMNS[:4]}
    columns |= {name: getattr(layout, name) for name in POSITION_COLUMNS[4:]}
    return pd.DataFrame({**columns, "used": layout.used, "shear": layout.shear})
