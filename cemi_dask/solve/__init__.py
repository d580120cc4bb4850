"""Solving: from measured overlaps to a position, gain and uncertainty for every frame."""

from cemi_dask.solve.calibrate import Calibration, calibrate
from cemi_dask.solve.elastic import Bending
from cemi_dask.solve.loops import loop_closures
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.solve import Solution, solution, solve
from cemi_dask.solve.tables import PAIR_COLUMNS, POSITION_COLUMNS, pairs_table, positions_table

__all__ = [
    "PAIR_COLUMNS",
    "POSITION_COLUMNS",
    "Bending",
    "Calibration",
    "Solution",
    "SolveOptions",
    "calibrate",
    "loop_closures",
    "pairs_table",
    "positions_table",
    "solution",
    "solve",
]
