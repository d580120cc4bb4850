"""Area fractions in a cell: lamellar regions, and the BCC phase by label or by level balance."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cemi_dask.analyse.cell import Analyser, CellView, Measured, block_standard_error
from cemi_dask.analyse.plateaus import PLATEAU_PX, Plateau, find_plateaus

NAN = float("nan")
BLOCK_PX = 64
MIN_PLATEAU_PX = 300  # pooled from as far away as it takes, up to the whole mosaic
# Plateau pixels at which a cell has half its full weight: few without noise, where cells differ
# by the brightness of their grains only; many where chance makes plateaus of noise.
HALF_WEIGHT_PX = 50.0
NOISE_SHARE = 0.03
EMPTY_MARGIN = 0.06  # share of the contrast below the dark phase at which a flat patch is empty


class LamellarFraction(Analyser):
    """Share of a cell's valid area that carries the label ``lamellar``.

    The standard error comes from the spread of blocks of 64 px inside the cell.
    """

    measures: ClassVar[tuple[str, ...]] = ("lamellar_fraction",)

    method: Literal["lamellar_fraction"] = "lamellar_fraction"

    def __call__(self, view: CellView) -> Measured:
        """Fraction 0..1 and its standard error."""
        return _labelled_share(view, "lamellar", "lamellar_fraction")


def _labelled_share(view: CellView, label: str, name: str) -> Measured:
    labelled, valid = view.label(label), view.valid
    area = np.count_nonzero(valid)
    return {
        name: float(np.count_nonzero(labelled) / area) if area else NAN,
        f"{name}_se": block_standard_error(labelled, valid, BLOCK_PX),
    }


class BccFraction(Analyser):
    """Area fraction of the BCC phase in a cell, by one of two estimators.

    ``level_balance``: ``(bright - mean) / (bright - dark)`` (for a dark BCC), the share that
    mixes the two phases' grey levels to the cell's mean. The levels are read where the
    picture is flat over some pixels, away from phase borders, and pooled over neighbouring
    cells; brightness, contrast and blur cancel. Flat patches darker than both phases (holes,
    unpolished spots) are left out. NaN where no flat place shows one of the phases.
    ``label``: the share of valid pixels with the label ``bcc`` (with Bradley's threshold, the
    paper's way; it moves with contrast and blur, and its threshold follows the local mean,
    so that a gradient of the fraction comes out changed).

    The label's value always stands in ``bcc_fraction_label``, where there is a label;
    ``dark_level`` and ``bright_level`` are the levels used.
    """

    measures: ClassVar[tuple[str, ...]] = ("bcc_fraction",)
    extras: ClassVar[tuple[str, ...]] = ("bcc_fraction_label", "dark_level", "bright_level")

    method: Literal["bcc_fraction"] = "bcc_fraction"
    estimator: Literal["level_balance", "label"] = "level_balance"
    dark: bool = Field(default=True, description="Whether BCC is the dark phase.")
    pool_px: float = Field(
        default=4096.0, gt=0, description="Distance over which cells share their levels, px."
    )

    def __call__(self, view: CellView) -> Measured:
        """The label's share, and what `settle` needs to know of the grey levels."""
        result = self.nothing()
        if self.estimator == "label" or "bcc" in view.labels:
            by_label = _labelled_share(view, "bcc", "bcc_fraction")
            result["bcc_fraction_label"] = by_label["bcc_fraction"]
            if self.estimator == "label":
                return result | by_label
        found = find_plateaus(view.grey, view.valid)
        if found is None:
            return result
        for side, plateaus in (("dark", found.dark), ("bright", found.bright)):
            for size, plateau in zip(PLATEAU_PX, plateaus, strict=True):
                result |= _named(f"_{side}{size}", plateau)
        grey = np.where(view.valid, view.grey, 0)
        return result | {
            **_named("_flat", found.flat),
            "_noise": found.noise,
            "_mean": found.mean,
            "_count": float(found.count),
            "_mean_se": block_standard_error(grey, view.valid, BLOCK_PX),
        }

    def settle(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Fractions from the cells' means and the levels pooled over their neighbours."""
        if self.estimator == "label" or "_mean" not in cells:
            return super().settle(cells)
        levels = {side: self._pooled(cells, side) for side in ("dark", "bright")}
        (dark, dark_se), (bright, bright_se) = levels["dark"], levels["bright"]
        contrast = np.where(bright > dark, bright - dark, NAN)
        mean = _mean_without_empty(cells, dark - EMPTY_MARGIN * contrast)
        share = (bright - mean) / contrast
        error = np.hypot(cells["_mean_se"], np.hypot(share * dark_se, (1 - share) * bright_se))
        cells = cells.assign(
            bcc_fraction=share if self.dark else 1 - share,
            bcc_fraction_se=error / contrast,
            dark_level=dark,
            bright_level=bright,
        )
        return super().settle(cells)

    def _pooled(
        self, cells: pd.DataFrame, side: str
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(level, its standard error) of one phase around every cell."""
        size = _plateau_size(cells)
        own = cells[f"_{side}{size}_level"].to_numpy(float)
        count = cells[f"_{side}{size}_count"].fillna(0).to_numpy(float)
        weights = count / (count + _half_weight(cells, size))
        level, error = np.full(len(cells), NAN), np.full(len(cells), NAN)
        has = count > 0
        if not has.any():
            return level, error
        x, y = cells["x_px"].to_numpy(float), cells["y_px"].to_numpy(float)
        for k in range(len(cells)):
            away = np.hypot(x[has] - x[k], y[has] - y[k])
            weight = weights[has] * np.exp(
                -0.5 * (away / _reach(away, count[has], self.pool_px)) ** 2
            )
            level[k], error[k] = _robust_mean(own[has], weight)
        return level, error


def _named(prefix: str, plateau: Plateau) -> Measured:
    return {f"{prefix}_count": float(plateau.count), f"{prefix}_level": plateau.level}


def _plateau_size(cells: pd.DataFrame) -> int:
    """Side of the plateaus to use, px: the larger ones if the mosaic shows enough of them."""
    for size in PLATEAU_PX:
        total = min(cells[f"_{side}{size}_count"].sum() for side in ("dark", "bright"))
        if total >= MIN_PLATEAU_PX:
            return size
    return PLATEAU_PX[-1]


def _half_weight(cells: pd.DataFrame, size: int) -> float:
    """Number of plateau pixels at which a cell counts half."""
    contrast = float((cells[f"_bright{size}_level"] - cells[f"_dark{size}_level"]).median())
    noise = float(cells["_noise"].median()) / (NOISE_SHARE * contrast)
    return HALF_WEIGHT_PX * (1.0 + noise * noise)


def _reach(away: npt.NDArray[np.float64], count: npt.NDArray[np.float64], pool_px: float) -> float:
    """Distance over which to pool: `pool_px`, or more until enough plateau pixels are in it."""
    order = np.argsort(away, kind="stable")
    enough = int(np.searchsorted(np.cumsum(count[order]), MIN_PLATEAU_PX))
    return max(pool_px, float(away[order[min(enough, len(order) - 1)]]))


def _robust_mean(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Weighted mean without outliers (beyond 3 scaled median deviations), and its error."""
    centre = _weighted_median(values, weights)
    spread = 1.4826 * _weighted_median(np.abs(values - centre), weights)
    keep = np.abs(values - centre) <= max(3 * spread, 1e-9)
    share = weights[keep] / weights[keep].sum()
    mean = float(np.sum(share * values[keep]))
    return mean, float(np.sqrt(np.sum((share * (values[keep] - mean)) ** 2)))


def _weighted_median(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    rank = np.argsort(values, kind="stable")
    total = np.cumsum(weights[rank])
    return float(values[rank[np.count_nonzero(total < total[-1] / 2)]])


def _mean_without_empty(
    cells: pd.DataFrame, limit: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean grey level of each cell, without flat patches darker than `limit`."""
    mean, count = cells["_mean"].to_numpy(float), cells["_count"].to_numpy(float)
    flat_level = cells["_flat_level"].to_numpy(float)
    flat_count = np.where(flat_level >= limit, cells["_flat_count"].to_numpy(float), 0.0)
    # A dark patch that is no hole is BCC: it counts.
    total = mean * count + np.where(flat_count > 0, flat_level, 0.0) * flat_count
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / (count + flat_count))
