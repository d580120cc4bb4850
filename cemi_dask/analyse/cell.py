"""What a measure sees of the mosaic (`CellView`) and what it is (`Analyser`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.methods import Method

Measured = dict[str, float]


@dataclass(frozen=True)
class CellView:
    """One cell of a mosaic: pixels and labels.

    `grey` (y, x) grey levels; `labels` name -> uint8 (y, x), 1 where the label applies,
    0 elsewhere, more where there are more than two phases;
    `valid` (y, x) True where the cell holds data (non-zero integers, finite floats).
    """

    grey: npt.NDArray[Any]
    labels: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """True where the cell holds data."""
        if self.grey.dtype.kind == "f":
            return np.isfinite(self.grey)
        return np.asarray(self.grey != 0)

    def label(self, name: str, value: int = 1) -> npt.NDArray[np.bool_]:
        """True where the label is `value` and the cell holds data.

        Raises ConfigError where the analysis was given no such label.
        """
        if name not in self.labels:
            raise ConfigError(
                f"A measure needs the label {name!r}, but the labels given are "
                f"{sorted(self.labels)}. Segment the mosaic first, or choose other measures."
            )
        if self.labels[name].shape != self.grey.shape:
            raise InputError(
                f"The label {name!r} has the shape {self.labels[name].shape} in a cell of shape "
                f"{self.grey.shape}."
            )
        return np.asarray((self.labels[name] == value) & self.valid)


class Analyser(Method):
    """Base of measures: called on a `CellView`, returns named values.

    `measures` names what it measures; for each of them it returns the value and, under the
    name with ``_se``, its standard error. `extras` names values without an error. A name
    ending in ``_px`` (before ``_se``) is a length in px, in ``_per_px`` a reciprocal length, of
    which the table adds the micrometres. What cannot be measured is NaN, never 0. Names that
    start with ``_`` are for `settle`, which sees all cells together, and do not reach the table.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name the measure returns, errors included."""
        with_errors = tuple(n for m in self.measures for n in (m, f"{m}_se"))
        return (*with_errors, *self.extras)

    def nothing(self) -> Measured:
        """NaN under every name: the answer for a cell without enough data."""
        return dict.fromkeys(self.names, float("nan"))

    def __call__(self, view: CellView) -> Measured:
        """Values and standard errors measured in one cell."""
        raise TypeError(f"{type(self).__name__} is a base class and measures nothing.")

    def settle(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The table of all cells with what needs more than one cell worked out.

        `cells` has a row per cell with the columns of the grid and everything the measure
        returned; measures settle in the order in which they are listed, so what one has worked
        out is there for those after it.
        """
        return cells


def block_standard_error(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], block_px: int
) -> float:
    """Standard error of the mean of `values` (y, x) over `valid` pixels, from block means.

    The cell is cut into blocks of about `block_px`; the spread of their means, weighted by
    valid area, gives the error of the whole (the closed form of a block bootstrap, Kuensch
    1989). NaN with fewer than two blocks that hold data.
    """
    height, width = values.shape
    ny, nx = max(1, round(height / block_px)), max(1, round(width / block_px))
    ys, xs = np.arange(ny) * height // ny, np.arange(nx) * width // nx
    filled = np.where(valid, values, 0).astype(np.float64)
    total = np.add.reduceat(np.add.reduceat(filled, ys, axis=0), xs, axis=1)
    area = np.add.reduceat(np.add.reduceat(valid.astype(np.float64), ys, axis=0), xs, axis=1)
    area, total = area[area > 0], total[area > 0]
    return weighted_standard_error(total / area, area)


def weighted_standard_error(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """Standard error of the weighted mean of independent `values`; NaN for fewer than two.

    ``sum w^2 (v - m)^2 / (sum w)^2 * n / (n - 1)`` (Gatz and Smith 1995, Cochran's ratio form).
    """
    n = len(values)
    if n < 2:
        return float("nan")
    share = np.asarray(weights, np.float64) / np.sum(weights)
    mean = np.sum(share * values)
    return float(np.sqrt(np.sum((share * (values - mean)) ** 2) * n / (n - 1)))


def weighted_median(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """The least of `values` at which half of the weight is reached; needs one or more."""
    rank = np.argsort(values, kind="stable")
    total = np.cumsum(np.asarray(weights, np.float64)[rank])
    return float(values[rank[np.count_nonzero(total < total[-1] / 2)]])
