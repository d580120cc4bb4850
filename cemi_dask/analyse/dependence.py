"""How two series along x depend on each other, where neighbours are no independent samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri, stdtr  # scipy.stats takes half a second to import

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95


def pearson(a: FloatArray, b: FloatArray, *, given: int = 0) -> dict[str, float]:
    """r, p, the 95 % interval and the effective sample size of two series in order along x.

    p is that of the two-sided t test, the interval Fisher's; both use `effective_sample_size`
    less the number of quantities `given` (for partial correlations). NaN where fewer than
    three samples remain, or a series is constant.
    """
    found = {"r": NAN, "p": NAN, "low": NAN, "high": NAN, "n_effective": NAN}
    if len(a) < 3 or not (_varies(a) and _varies(b)):
        return found
    r = _r(a, b)
    effective = effective_sample_size(a, b)
    return {"r": r, "n_effective": effective, **_tested(r, effective - given, 1.0)}


def spearman(a: FloatArray, b: FloatArray) -> dict[str, float]:
    """The same of ranks: Spearman's correlation.

    The interval widens Fisher's by the variance of ranks, (1 + r^2 / 2) / (n - 3) (Bonett and
    Wright 2000, Psychometrika 65).
    """
    found = {"r": NAN, "p": NAN, "low": NAN, "high": NAN, "n_effective": NAN}
    if len(a) < 3 or not (_varies(a) and _varies(b)):
        return found
    a, b = (np.asarray(pd.Series(v).rank(), np.float64) for v in (a, b))
    r, effective = _r(a, b), effective_sample_size(a, b)
    return {"r": r, "n_effective": effective, **_tested(r, effective, 1 + r * r / 2)}


def _varies(series: FloatArray) -> bool:
    return bool(np.ptp(series) > 1e-12 * np.abs(series).max())


def _r(a: FloatArray, b: FloatArray) -> float:
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))


def _tested(r: float, n: float, variance: float) -> dict[str, float]:
    row = {"p": NAN, "low": NAN, "high": NAN}
    if n > 2:
        t = np.inf if abs(r) == 1 else abs(r) * np.sqrt((n - 2) / (1 - r * r))
        row["p"] = float(2 * stdtr(n - 2, -t))
    if n > 3 and abs(r) < 1:
        z = np.arctanh(r)
        reach = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance / (n - 3))
        row |= {"low": float(np.tanh(z - reach)), "high": float(np.tanh(z + reach))}
    return row


def shift_p(a: FloatArray, b: FloatArray) -> float:
    """p of Pearson's r among those of all circular shifts of one series against the other.

    A shift keeps the smoothness of both and breaks their relation. Two-sided; the series as it
    is counts among the shifts, so that p is at least 1 / n. NaN for fewer than five samples.
    """
    n = len(a)
    if n < 5 or not (_varies(a) and _varies(b)):
        return NAN
    u, v = a - a.mean(), b - b.mean()
    products = np.fft.irfft(np.fft.rfft(u) * np.conj(np.fft.rfft(v)), n)
    strength = np.abs(products)
    return float(np.count_nonzero(strength >= strength[0] * (1 - 1e-9)) / n)


def partial(target: FloatArray, measure: FloatArray, others: FloatArray) -> dict[str, float]:
    """`pearson` of what is left of both when `others` (n, k) are regressed out of them.

    NaN where that leaves too little: n must exceed k + 3.
    """
    n, k = others.shape
    if n <= k + 3:
        return {"r": NAN, "p": NAN, "low": NAN, "high": NAN, "n_effective": NAN}
    design = np.column_stack([np.ones(n), others])
    rest = []
    for series in (target, measure):
        left = series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
        # What the others determine leaves rounding errors, which correlate with anything.
        if np.std(left) < 1e-9 * np.std(series):
            left = np.zeros(n)
        rest.append(left)
    return pearson(rest[0], rest[1], given=k)


def effective_sample_size(a: FloatArray, b: FloatArray) -> float:
    """Number of independent pairs that carry as much as two series in order along x.

    ``1 + tr(BA) tr(BC) / tr(BABC)`` with A and C the series' autocorrelation matrices, by lag,
    and B the centring (Dutilleul 1993, Biometrics 49; Clifford, Richardson and Hemon 1989).
    At most n, at least 2.
    """
    n = len(a)
    matrices = [_centred(_autocorrelation_matrix(series)) for series in (a, b)]
    traces = [float(np.trace(m)) for m in matrices]
    both = float(np.sum(matrices[0] * matrices[1].T))
    if both <= 0:
        return float(n)
    return float(np.clip(1 + traces[0] * traces[1] / both, 2.0, n))


def _autocorrelation_matrix(series: FloatArray) -> FloatArray:
    n = len(series)
    centred = series - series.mean()
    lags = np.correlate(centred, centred, "full")[n - 1 :] / (centred @ centred)
    # Lags beyond a quarter of the series rest on few pairs: noise that would add up.
    keep = max(2, n // 4)
    pairs = n / (n - np.arange(n))
    lags = np.where(np.arange(n) <= keep, lags * pairs, 0.0)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.asarray(lags[distance])


def _centred(matrix: FloatArray) -> FloatArray:
    return np.asarray(
        matrix - matrix.mean(axis=0)[None, :] - matrix.mean(axis=1)[:, None] + matrix.mean()
    )
