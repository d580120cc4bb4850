"""Linear and ridge models of hardness, judged by what they say of indents they have not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.analyse.dependence import effective_sample_size

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

MODEL_COLUMNS = (
    "model",
    "measures",
    "n",
    "n_effective",
    "r",
    "r2",
    "r2_adjusted",
    "q2",
    "q2_blocks",
    "penalty",
    "over_fitted",
    "coefficients",
)
PENALTIES = np.logspace(-4, 3, 29)  # of standardised measures, per indent
BLOCKS = 5
LARGEST_LOSS = 0.3  # R2 - Q2 above which a model is called over-fitted


def fit_models(points: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Models of hardness by each measure alone and by all of them, one row per model.

    `points` holds one row per indent in order along x, with ``hardness`` and the measures;
    indents where one of them is unknown are left out of all models. Columns: `MODEL_COLUMNS`.
    ``r`` and ``r2`` are those of the fit itself. ``q2`` is the share of the variance that the
    model predicts of indents left out one by one (in closed form, e / (1 - h)), against the mean of
    the others; ``q2_blocks`` the same with five blocks of neighbours left out in turn, which a
    smooth profile gives away less. ``r2_adjusted`` takes from r2 what as many measures would
    explain of ``n_effective`` (Dutilleul) independent indents by chance; NaN where those are no
    more than the coefficients. A ridge model's ``penalty`` is chosen by leaving one out,
    anew among those it is fitted to each time. ``over_fitted``: q2, q2_blocks or r2_adjusted is not
    above 0, or q2 is less than r2 by more than 0.3. ``coefficients``: change of hardness per
    standard deviation of each measure. Hoerl and Kennard 1970; Allen 1974 (PRESS).
    """
    names = [m for m in dict.fromkeys(measures) if m in points.columns]
    known = points[["hardness", *names]].dropna()
    y = known["hardness"].to_numpy(float)
    names = [m for m in names if len(known) and np.ptp(known[m].to_numpy(float)) > 0]
    sets = [("linear", [name]) for name in names]
    if len(names) > 1:
        sets += [("linear", names), ("ridge", names)]
    rows = [_row(kind, known[chosen].to_numpy(float), y, chosen) for kind, chosen in sets]
    return pd.DataFrame(rows, columns=list(MODEL_COLUMNS))


def _row(kind: str, x: FloatArray, y: FloatArray, names: Sequence[str]) -> dict[str, object]:
    n, k = x.shape
    row: dict[str, object] = {"model": kind, "measures": "+".join(names), "n": n}
    if n < k + 3 or np.ptp(y) == 0:
        return row
    penalties = PENALTIES if kind == "ridge" else np.zeros(1)
    fit = _Fit(x, y, penalties)
    found = fit.predict(x)
    r2 = 1 - float(np.sum((y - found) ** 2) / np.sum((y - y.mean()) ** 2))
    one_by_one = [np.array([i]) for i in range(n)]
    q2 = _q2(x, y, penalties, one_by_one) if kind == "ridge" else fit.q2()
    blocks = _q2(x, y, penalties, np.array_split(np.arange(n), BLOCKS))
    effective = effective_sample_size(y, found) if np.ptp(found) > 0 else float(n)
    spare = effective - k - 1
    adjusted = 1 - (1 - r2) * (effective - 1) / spare if spare > 0 else NAN
    proved = min(q2, blocks) > 0 and adjusted > 0 and r2 - q2 <= LARGEST_LOSS
    return row | {
        "n_effective": effective,
        "r": float(np.corrcoef(found, y)[0, 1]) if np.ptp(found) > 0 else 0.0,
        "r2": r2,
        "r2_adjusted": adjusted,
        "q2": q2,
        "q2_blocks": blocks,
        "penalty": fit.penalty,
        "over_fitted": not proved,
        "coefficients": "; ".join(f"{c:.6g}" for c in fit.coefficients),
    }


class _Fit:
    """A ridge fit of standardised measures with the penalty that leaving one out likes best."""

    def __init__(self, x: FloatArray, y: FloatArray, penalties: FloatArray) -> None:
        self.middle, self.scale = x.mean(axis=0), x.std(axis=0)
        self.scale = np.where(self.scale > 0, self.scale, 1.0)
        self.mean, self.y = float(y.mean()), y
        u, s, vt = np.linalg.svd((x - self.middle) / self.scale, full_matrices=False)
        kept = s > 1e-9 * max(float(s.max()), 1e-300)
        n = len(y)
        along = u.T @ (y - self.mean)
        best = np.inf
        for penalty in penalties:
            shrink = np.where(kept, s * s / np.where(kept, s * s + n * penalty, 1.0), 0.0)
            leverage = (u * u) @ shrink + 1 / n
            missed = (y - self.mean - u @ (shrink * along)) / np.maximum(1 - leverage, 1e-9)
            press = float(np.sum(missed**2))
            if press < best:
                best, self.penalty = press, float(penalty)
                gain = np.where(kept, shrink / np.where(kept, s, 1.0), 0.0)
                self.coefficients = vt.T @ (gain * along)
        self.press = best

    def predict(self, x: FloatArray) -> FloatArray:
        """Hardness at measures (n, k)."""
        return np.asarray(self.mean + (x - self.middle) / self.scale @ self.coefficients)

    def q2(self) -> float:
        """1 - PRESS over that of the others' mean, without refitting."""
        n = len(self.y)
        alone = np.sum(((self.y - self.mean) * n / (n - 1)) ** 2)
        return float(1 - self.press / alone)


def _q2(
    x: FloatArray, y: FloatArray, penalties: FloatArray, folds: Sequence[npt.NDArray[np.intp]]
) -> float:
    """Share of the variance predicted of the folds, each by a fit to the rest."""
    missed = alone = 0.0
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(y)), fold)
        if len(rest) < x.shape[1] + 2:
            return NAN
        missed += float(np.sum((y[fold] - _Fit(x[rest], y[rest], penalties).predict(x[fold])) ** 2))
        alone += float(np.sum((y[fold] - y[rest].mean()) ** 2))
    return 1 - missed / alone
