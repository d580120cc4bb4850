"""Local brightness of the picture, told apart from the share of its phases.

Grains of other orientation, and shading that the flat field left, make a place brighter or
darker as a whole; a balance of grey levels takes that for a change of the phase fraction. The
brightest lamellae tell it: their tops hardly depend on how much there is of each phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

NAN = float("nan")
Values = npt.NDArray[np.float64]

BLOCK_PX = 100  # smaller than a grain, many lamellae
TILE_PX = 32  # tiles of a block, so large that two hardly share lamellae
TOP = (0.90, 0.98)  # quantiles between which the tops' level is averaged; above are outliers
BOTTOM = (0.02, 0.10)
LEAST_BLOCKS = 4
LEAST_VALID = 0.8
OUTLIER = 4.0 * 1.4826  # median deviations
# Tops that differ by more than this share of the contrast are another structure (a dendrite, a
# coarse dark place), not another tone.
LARGEST_SHARE = 0.06


@dataclass(frozen=True)
class Tone:
    """What a cell knows about its brightness, in grey levels.

    `top`: mean level of its blocks' brightest pixels; `share`: share of its blocks that it
    speaks for (0: none); `variance`: sum over these blocks of the squared deviation of
    their tops from `top`; `covariance`: that of the deviations of their tops and means;
    `local` (y, x): how far the top of a pixel's block is from `top`, 0 where it is not known.
    """

    top: float
    share: float
    variance: float
    covariance: float
    local: npt.NDArray[np.float32]


def find_tone(grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Tone:
    """The tone of a cell (y, x).

    The covariance is taken crosswise, the tops of one half of a block's tiles with the mean of
    the other half (cross-fitting, Chernozhukov et al. 2018): more of one phase in a tile by
    chance moves its own top and mean, only the tone moves those of other tiles with them.
    """
    height, width = grey.shape
    ny, nx = max(1, round(height / BLOCK_PX)), max(1, round(width / BLOCK_PX))
    ys, xs = np.arange(ny + 1) * height // ny, np.arange(nx + 1) * width // nx
    blocks = np.full((ny * nx, 7), NAN)
    for k in range(ny * nx):
        i, j = divmod(k, nx)
        place = slice(ys[i], ys[i + 1]), slice(xs[j], xs[j + 1])
        blocks[k] = _block(grey[place], valid[place])
    keep = _alike(blocks)
    if np.count_nonzero(keep) < LEAST_BLOCKS:
        return Tone(NAN, 0.0, 0.0, 0.0, np.zeros(grey.shape, np.float32))
    away = np.where(keep[:, None], blocks - blocks[keep].mean(axis=0), 0.0)
    crosswise = (away[:, 3] * away[:, 6] + away[:, 4] * away[:, 5]) / 2
    of_y, of_x = (np.repeat(np.arange(n), np.diff(ends)) for n, ends in ((ny, ys), (nx, xs)))
    return Tone(
        top=float(blocks[keep, 0].mean()),
        share=float(np.count_nonzero(keep) / len(keep)),
        variance=float(np.sum(away[:, 0] ** 2)),
        covariance=float(np.sum(crosswise)),
        local=away[:, 0].reshape(ny, nx).astype(np.float32)[np.ix_(of_y, of_x)],
    )


def _block(grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> list[float]:
    """(top, mean, bottom, tops of either half of its tiles, their means); NaN without data."""
    y, x = np.ogrid[: grey.shape[0], : grey.shape[1]]
    odd = (y // TILE_PX + x // TILE_PX) % 2 == 1
    whole, *halves = (grey[valid], grey[valid & odd], grey[valid & ~odd])
    if len(whole) < LEAST_VALID * grey.size or min(len(half) for half in halves) == 0:
        return [NAN] * 7
    tops = [_between(half, TOP) for half in halves]
    means = [float(half.mean()) for half in halves]
    return [_between(whole, TOP), float(whole.mean()), _between(whole, BOTTOM), *tops, *means]


def _between(pixels: npt.NDArray[Any], quantiles: tuple[float, float]) -> float:
    """Mean of the pixels between two quantiles."""
    low, high = (int(share * len(pixels)) for share in quantiles)
    return float(np.partition(pixels, (low, high))[low : high + 1].mean())


def _alike(blocks: Values) -> npt.NDArray[np.bool_]:
    """True for blocks of like structure: alike in their tops, and no outliers in their means."""
    known = np.isfinite(blocks[:, 0])
    if not known.any():
        return known
    top, mean, bottom = blocks[:, 0], blocks[:, 1], blocks[:, 2]
    contrast = np.median(top[known] - bottom[known])
    keep = known & (np.abs(top - np.median(top[known])) <= LARGEST_SHARE * contrast)
    away = np.abs(mean - np.median(mean[known]))
    keep &= away <= OUTLIER * np.median(away[known])
    return np.asarray(keep)


def tone_around(cells: pd.DataFrame, *, pool_px: float) -> tuple[Values, Values]:
    """(how much brighter each cell is than its surroundings, slope), as a control variate.

    `cells` has a row per cell with its centre (x_px, y_px), its number of pixels (_count) and
    its `Tone` (_tone_top and so on). The first is in grey levels of the tops, 0 where it is
    not known. The slope says by how much the means follow the tops (0 to 1, by least
    squares within the cells); both are pooled with a Gaussian of `pool_px`. Blur and noise move
    the tops as well and make the slope small: what tells nothing of the mean, corrects nothing.
    """
    top, share, count, variance, covariance = (
        cells[name].fillna(0).to_numpy(float)
        for name in ("_tone_top", "_tone_share", "_count", "_tone_variance", "_tone_covariance")
    )
    weight = share * count
    away, slope = np.zeros(len(cells)), np.zeros(len(cells))
    x, y = cells["x_px"].to_numpy(float), cells["y_px"].to_numpy(float)
    for k in np.flatnonzero(weight):
        near = np.exp(-0.5 * ((x - x[k]) ** 2 + (y - y[k]) ** 2) / pool_px**2)
        away[k] = share[k] * (top[k] - np.sum(near * weight * top) / np.sum(near * weight))
        slope[k] = np.sum(near * covariance) / max(float(np.sum(near * variance)), 1e-9)
    limit = OUTLIER * np.median(np.abs(away[weight > 0])) if weight.any() else 0.0
    return np.clip(away, -limit, limit), np.clip(slope, 0.0, 1.0)
