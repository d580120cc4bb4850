"""Numbers out of mosaics: cells of a grid, profiles along x, relation to hardness."""

from cemi_dask.analyse.cell import Analyser, CellView
from cemi_dask.analyse.cells import Cells
from cemi_dask.analyse.correlation import (
    CorrelateOptions,
    correlate,
    correlation_points,
)
from cemi_dask.analyse.fractions import BccFraction, LamellarFraction, PhaseFractions
from cemi_dask.analyse.grid import CellGrid, GridOptions, make_grid
from cemi_dask.analyse.hardness import Hardness, read_hardness
from cemi_dask.analyse.models import fit_models
from cemi_dask.analyse.orientation import Orientation
from cemi_dask.analyse.profiles import profile
from cemi_dask.analyse.stereology import InterfaceDensity, PointCount, RegionSize
from cemi_dask.analyse.table import ANALYSERS, CELL_COLUMNS, AnalyseOptions, analyse
from cemi_dask.analyse.width import LamellaWidth

__all__ = [
    "ANALYSERS",
    "CELL_COLUMNS",
    "AnalyseOptions",
    "Analyser",
    "BccFraction",
    "CellGrid",
    "CellView",
    "Cells",
    "CorrelateOptions",
    "GridOptions",
    "Hardness",
    "InterfaceDensity",
    "LamellaWidth",
    "LamellarFraction",
    "Orientation",
    "PhaseFractions",
    "PointCount",
    "RegionSize",
    "analyse",
    "correlate",
    "correlation_points",
    "fit_models",
    "make_grid",
    "profile",
    "read_hardness",
]
