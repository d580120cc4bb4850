"""Area fractions in a cell: lamellar regions, and the BCC phase by label or by level balance."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cemi_dask.analyse.cell import (
    Analyser,
    CellView,
    Measured,
    block_standard_error,
    weighted_median,
)
from cemi_dask.analyse.plateaus import KINDS, Plateau, find_plateaus
from cemi_dask.analyse.tone import find_tone, tone_around

NAN = float("nan")
BLOCK_PX = 64
MIN_PLATEAU_PX = 50  # pooled from as far away as it takes, up to the whole mosaic
# Plateau pixels at which a cell has half its full weight: few without noise, where cells differ
# by the brightness of their grains only; many where chance makes plateaus of noise.
HALF_WEIGHT_PX = 50.0
NOISE_SHARE = 0.03
VOTE_SHARE = 0.5
AGREE_SHARE = 0.01  # of the contrast: levels in whole grey levels would agree on one of them
AGREE_REACH = 4.0  # what cells agree on is asked farther away than levels are pooled
COARSE_SHARE = 0.1  # dark flat patches above this share of the mosaic are a phase, not holes
# Errors besides chance, in shares of the contrast and found by simulation (benchmarks/coverage.py):
# grains of other brightness, and levels read from false plateaus that noise makes.
GRAIN_DOUBT = 0.0045
NOISE_DOUBT = 0.4
BORDER_PX = 4.0  # how well a border of the lamellar label is known
MISSED_SHARE = 0.7
EMPTY_MARGIN = 0.06  # share of the contrast below the dark phase at which a flat patch is empty


class LamellarFraction(Analyser):
    """Share of a cell's valid area that carries the label ``lamellar``.

    The standard error is that of the fraction of this cell, not of the material around it: the
    label's border is known to some 4 px, and 0.7 of the spread of blocks of 64 px stands for
    regions that are missed or made up as a whole (benchmarks/coverage.py).
    """

    measures: ClassVar[tuple[str, ...]] = ("lamellar_fraction",)

    method: Literal["lamellar_fraction"] = "lamellar_fraction"

    def __call__(self, view: CellView) -> Measured:
        """Fraction 0..1 and its standard error."""
        found = _labelled_share(view, "lamellar", "lamellar_fraction")
        label, area = view.label("lamellar"), np.count_nonzero(view.valid)
        if area:
            edges = sum(np.count_nonzero(np.diff(label, axis=axis)) for axis in (0, 1))
            sampled = np.nan_to_num(found["lamellar_fraction_se"])
            found["lamellar_fraction_se"] = float(
                np.hypot(BORDER_PX * edges / area, MISSED_SHARE * sampled)
            )
        return found


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
    cells; brightness, contrast and blur cancel. Grains that are brighter or darker than others
    are told by the tops of their bright lamellae (see `tone`), as far as noise lets them be
    seen. Flat patches darker than both phases (holes, unpolished spots) are left out. NaN
    where no flat place shows one of the phases, as in lamellae of 2 px all over. On simulated
    ingots a bin of 508 x 1558 px is off by 0.13 points rms without noise (at most 0.33), one
    of 508 x 7847 px by 0.1 (0.18); with blur (0.7 px) and noise 4.5 by 0.2 (0.5), and on
    average by -0.6 at noise 25 denoised.
    ``label``: the share of valid pixels with the label ``bcc`` (with Bradley's threshold, the
    paper's way; it moves with contrast and blur, and its threshold follows the local mean,
    so that a gradient of the fraction comes out changed).

    The label's value always stands in ``bcc_fraction_label``, where there is a label;
    ``dark_level`` and ``bright_level`` are the levels used.
    """

    measures: ClassVar[tuple[str, ...]] = ("bcc_fraction", "bcc_fraction_label")
    extras: ClassVar[tuple[str, ...]] = ("dark_level", "bright_level")

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
            result["bcc_fraction_label_se"] = by_label["bcc_fraction_se"]
            if self.estimator == "label":
                return result | by_label
        tone = find_tone(view.grey, view.valid)
        found = find_plateaus(view.grey, view.valid, tone.local)
        if found is None:
            return result
        for side, plateaus in (("dark", found.dark), ("bright", found.bright)):
            for kind, plateau in zip(KINDS, plateaus, strict=True):
                result |= _named(f"_{side}{kind.name}", plateau)
        return result | {
            "_tone_top": tone.top,
            "_tone_share": tone.share,
            "_tone_variance": tone.variance,
            "_tone_covariance": tone.covariance,
            **_named("_flat", found.flat),
            "_patch_mean": found.flat_mean,
            "_patch_count": float(found.flat_count),
            "_noise": found.noise,
            "_mean": found.mean,
            "_count": float(found.count),
        }

    def settle(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Fractions from the cells' means and the levels pooled over their neighbours."""
        if self.estimator == "label" or "_mean" not in cells:
            return cells
        sources = _sources(cells)
        if not all(sources):
            return cells
        brighter, slope = tone_around(cells, pool_px=self.pool_px)
        # What is brighter all over has a higher bright level, too.
        place = cells[f"{sources[1]}_local"].fillna(0).to_numpy(float)
        apart = _rough_contrast(cells, sources)
        dark, dark_se = self._pooled(cells, sources[0], apart, np.zeros(len(cells)))
        bright, bright_se = self._pooled(cells, sources[1], apart, slope * (brighter + place))
        contrast = np.where(bright > dark, bright - dark, NAN)
        mean = _mean_without_empty(cells, dark - EMPTY_MARGIN * contrast)
        share = (bright - (mean - slope * brighter)) / contrast
        error = np.hypot(share * dark_se, (1 - share) * bright_se) / contrast
        noise = cells["_noise"].to_numpy(float) / contrast
        error = np.sqrt(error**2 + GRAIN_DOUBT**2 + noise_doubt(noise) ** 2)
        return cells.assign(
            bcc_fraction=share if self.dark else 1 - share,
            bcc_fraction_se=error,
            dark_level=dark,
            bright_level=bright,
        )

    def _pooled(
        self, cells: pd.DataFrame, source: str, apart: float, too_bright: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(level, its standard error) of one phase around every cell; NaN where none shows it.

        `apart` is about the contrast, `too_bright` is taken off the cells' own levels.
        """
        own = cells[f"{source}_level"].to_numpy(float) - too_bright
        half = _half_weight(cells, apart)
        count = cells[f"{source}_count"].fillna(0).to_numpy(float)
        # To find what most cells agree on, none may count much more than another: the rim of
        # one hole holds more flat dark pixels than the eutectic of many cells.
        votes, weights = np.minimum(count, VOTE_SHARE * half), count / (count + half)
        level, error = np.full(len(cells), NAN), np.full(len(cells), NAN)
        has = count > 0
        if not (has.any() and half > 0):
            return level, error
        x, y = cells["x_px"].to_numpy(float), cells["y_px"].to_numpy(float)
        for k in range(len(cells)):
            away = np.hypot(x[has] - x[k], y[has] - y[k])
            reach = _reach(away, count[has], self.pool_px)
            near = np.exp(-0.5 * (away / reach) ** 2)
            wide = np.exp(-0.5 * (away / (AGREE_REACH * reach)) ** 2)
            keep = _agreeing(own[has], votes[has] * wide, least=AGREE_SHARE * apart)
            share = (weights[has] * near)[keep]
            share /= share.sum()
            level[k] = np.sum(share * own[has][keep])
            error[k] = np.sqrt(np.sum((share * (own[has][keep] - level[k])) ** 2))
        return level, error


class PhaseFractions(Analyser):
    """Area fraction of each of N phases, by the values of a label.

    Phase k has the label k, the last one 0 (as `levels`, `otsu` and `mixture` write them); the
    columns are ``phase_1_fraction`` and so on. Errors from the spread of blocks of 64 px.
    """

    method: Literal["phase_fractions"] = "phase_fractions"
    label: str = Field(default="bcc", description="Label counted.")
    phases: int = Field(default=3, ge=2, le=8, description="Number of phases.")

    @property
    def names(self) -> tuple[str, ...]:
        """A fraction and its error for every phase."""
        numbers = range(1, self.phases + 1)
        return tuple(f"phase_{k}_fraction{end}" for k in numbers for end in ("", "_se"))

    def __call__(self, view: CellView) -> Measured:
        """Fractions 0..1 and their standard errors."""
        valid, found = view.valid, {}
        area = np.count_nonzero(valid)
        for k in range(1, self.phases + 1):
            here = view.label(self.label, k % self.phases)
            name = f"phase_{k}_fraction"
            found[name] = float(np.count_nonzero(here) / area) if area else NAN
            found[f"{name}_se"] = block_standard_error(here, valid, BLOCK_PX)
        return found


def noise_doubt(
    noise: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """How far noise (over the contrast) may move what a balance of grey levels gives."""
    return np.asarray(NOISE_DOUBT * np.square(noise))


def _named(prefix: str, plateau: Plateau) -> Measured:
    return {
        f"{prefix}_count": float(plateau.count),
        f"{prefix}_level": plateau.level,
        f"{prefix}_local": plateau.local,
    }


def _sources(cells: pd.DataFrame) -> tuple[str, str]:
    """Which plateaus give the (dark, bright) level: the best kind that both show enough of.

    Where the dark phase is so coarse that it holds flat patches only, they are its plateaus.
    A phase that shows none has the source "".
    """
    area = float(cells["_count"].sum())
    for even in (True, False):
        dark, bright = (_seen(cells, side, area, even=even) for side in ("dark", "bright"))
        if dark and bright:
            return dark, bright
    patches = float(cells["_patch_count"].sum())
    if not dark and patches > COARSE_SHARE * (area + patches):
        dark = "_flat"
    return dark, bright


def _seen(cells: pd.DataFrame, side: str, area: float, *, even: bool) -> str:
    """The first kind of plateaus of which there are enough, "" if there is none."""
    for kind in KINDS:
        needed = max(MIN_PLATEAU_PX, kind.least_share * area)
        name = f"_{side}{kind.name}"
        if kind.even == even and float(cells[f"{name}_count"].sum()) >= needed:
            return name
    return ""


def _rough_contrast(cells: pd.DataFrame, sources: tuple[str, str]) -> float:
    """How far the phases are apart in most cells, in grey levels; NaN where they are not."""
    dark, bright = (float(cells[f"{source}_level"].median()) for source in sources)
    return bright - dark if bright > dark else NAN


def _half_weight(cells: pd.DataFrame, apart: float) -> float:
    """Number of plateau pixels at which a cell counts half; NaN without contrast."""
    noise = float(cells["_noise"].median()) / (NOISE_SHARE * apart)
    return HALF_WEIGHT_PX * (1.0 + noise * noise)


def _reach(away: npt.NDArray[np.float64], count: npt.NDArray[np.float64], pool_px: float) -> float:
    """Distance over which to pool: `pool_px`, or more until enough plateau pixels are in it."""
    order = np.argsort(away, kind="stable")
    enough = int(np.searchsorted(np.cumsum(count[order]), MIN_PLATEAU_PX))
    return max(pool_px, float(away[order[min(enough, len(order) - 1)]]))


def _agreeing(
    values: npt.NDArray[np.float64], votes: npt.NDArray[np.float64], *, least: float
) -> npt.NDArray[np.bool_]:
    """True for values within 3 scaled median deviations, or `least`, of the weighted median."""
    centre = weighted_median(values, votes)
    spread = 1.4826 * weighted_median(np.abs(values - centre), votes)
    return np.asarray(np.abs(values - centre) <= max(3 * spread, least))


def _mean_without_empty(
    cells: pd.DataFrame, limit: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean of each cell's grey, without flat patches darker than `limit`."""
    mean, count = cells["_mean"].to_numpy(float), cells["_count"].to_numpy(float)
    patch_mean, patch_count = cells["_patch_mean"].to_numpy(float), cells["_patch_count"]
    # A flat patch that is no hole is BCC (or a cell of one phase): it counts.
    counts = (cells["_flat_level"].to_numpy(float) >= limit) & (patch_count.to_numpy() > 0)
    extra = np.where(counts, patch_count.to_numpy(float), 0.0)
    total = np.where(count > 0, mean, 0.0) * count + np.where(counts, patch_mean, 0.0) * extra
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / (count + extra))
