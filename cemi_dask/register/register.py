"""`register`: from frames to the graph of their overlaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cemi_dask.compute import Compute, compute_items
from cemi_dask.errors import InputError
from cemi_dask.frameset import Frames
from cemi_dask.overlap import OverlapGraph, PairShift
from cemi_dask.register.candidates import Positions, nominal_positions
from cemi_dask.register.grid import register_grid
from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.rows import register_rows
from cemi_dask.register.stage import register_stage
from cemi_dask.register.unplaced import register_unplaced

_MOST_SHEAR = 1.0  # px per px: a stage as fast as the scan along y leaves no picture
_GRID_SIGMA = 0.01  # of the frame's size, of a place predicted from the pitch


def register(
    frames: Frames,
    *,
    options: RegisterOptions | None = None,
    compute: Compute = compute_items,
) -> OverlapGraph:
    """The overlap graph of `frames`: one node per frame, one edge per measured pair.

    Which pairs are measured follows from ``frames.nominal`` (stage, grid, row, none).
    Unused frames keep their node and get no edge. Nodes carry the position at which they
    are expected, in px of one common frame of reference, where that is known, and the shear
    of the frames' table, which is undone before displacements are measured. Pixels are read
    inside the named items given to `compute`.

    Raises InputError for frames that cannot be paired (too many without positions, NaN).
    """
    options = options or RegisterOptions()
    n = len(frames)
    notes: list[str] = []
    sigma = np.full(n, np.inf)
    places = np.full((n, 2), np.nan)
    if not n:
        raise InputError("There are no frames to register.")
    _check_shear(frames)
    if frames.nominal == "stage":
        pairs = register_stage(frames, options=options, compute=compute)
        places = nominal_positions(frames)
        sigma[:] = options.stage_sigma_px
    elif frames.nominal == "grid":
        pairs, places = register_grid(frames, options=options, compute=compute)
        sigma[:] = max(4.0, _GRID_SIGMA * max(frames.frame_shape))
    elif frames.nominal == "row":
        rows = register_rows(frames, options=options, compute=compute)
        pairs, places, sigma, notes = rows.pairs, rows.positions, rows.sigma_px, rows.notes
    else:
        pairs = register_unplaced(frames, options=options, compute=compute)
    return _graph(frames, pairs, places, sigma, notes)


def _graph(
    frames: Frames,
    pairs: list[PairShift],
    places: Positions,
    sigma: npt.NDArray[np.float64],
    notes: list[str],
) -> OverlapGraph:
    graph = OverlapGraph.build(len(frames), frames.frame_shape, pairs)
    used = frames.table["used"].to_numpy(bool)
    shear = frames.table["shear"].to_numpy(float)
    for k, node in graph.graph.nodes.items():
        known = bool(np.isfinite(places[k]).all())
        node["x_prior_px"] = float(places[k, 0]) if known else float("nan")
        node["y_prior_px"] = float(places[k, 1]) if known else float("nan")
        node["sigma_prior_px"] = float(sigma[k]) if known else float("inf")
        node["used"] = bool(used[k])
        node["shear"] = float(shear[k])
    return replace(graph, notes=tuple(notes))


def _check_shear(frames: Frames) -> None:
    shear = frames.table["shear"].to_numpy(float)
    bad = np.flatnonzero(~(np.abs(shear) < _MOST_SHEAR))
    if bad.size:
        raise InputError(
            f"The frames {bad[:8].tolist()} have a shear of {shear[bad[0]]:.3g} px per px; it must "
            f"be a number between -{_MOST_SHEAR:g} and {_MOST_SHEAR:g}. Check frame time and stage "
            "speed, or set it to 0."
        )
