"""What the microstructure says about hardness: correlation with the errors of smooth profiles."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.contract import CONTRACT
from cemi_dask.errors import InputError, UnreadableError

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

CORRELATION_COLUMNS = (*CONTRACT["correlation"], "n_effective")
X_NAMES = {"x_um": 1.0, "x": 1.0, "position_um": 1.0, "x_mm": 1000.0, "position_mm": 1000.0}
VALUE_WORDS = ("hardness", "hv", "value", "h_gpa", "gpa")
ERROR_WORDS = ("error", "err", "std", "sd", "se", "sigma", "uncertainty")


class CorrelateOptions(BaseModel):
    """How indents are laid onto the profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x_offset_um: float = Field(
        default=0.0, description="Added to the indents' x to get the mosaic's x, micrometres."
    )
    window_um: float | None = Field(
        default=None,
        gt=0.0,
        description="Width over which the profile is averaged at an indent; unset: interpolated.",
    )
    value_column: str | None = Field(
        default=None, description="Column of the hardness; found by its name if unset."
    )


@dataclass(frozen=True)
class Hardness:
    """Indents along x, ascending: position in micrometres, value, its standard error or NaN."""

    x_um: FloatArray
    value: FloatArray
    error: FloatArray
    name: str


def read_hardness(path: Path | str, *, value_column: str | None = None) -> Hardness:
    """Indents out of a CSV file: a column x_um (or x_mm), a value column, perhaps an error.

    Fields are parted by commas, semicolons or tabs; lines that start with # are skipped.
    Indents at the same x are averaged. Raises UnreadableError for a file that cannot be
    opened, InputError naming file, line and column for what is no number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise UnreadableError(f"The hardness file {path} cannot be read: {cause}.") from cause
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(lines) < 2:
        raise InputError(f"The hardness file {path} has no data. It needs a header and indents.")
    comma = max(",;\t", key=lines[0][1].count)
    rows = list(csv.reader([line for _, line in lines], delimiter=comma, skipinitialspace=True))
    header = [name.strip() for name in rows[0]]
    columns = _columns(header, path, value_column)
    table = np.array(
        [
            [_number(row, index, (path, number, header)) for index in columns]
            for (number, _), row in zip(lines[1:], rows[1:], strict=True)
        ]
    )
    scale = X_NAMES[header[columns[0]].lower()]
    error = table[:, 2] if len(columns) > 2 else np.full(len(table), NAN)
    return _averaged(scale * table[:, 0], table[:, 1], error, header[columns[1]])


def _columns(header: list[str], path: Path, value_column: str | None) -> list[int]:
    """Indices of the columns x, value and, where there is one, error."""
    low = [name.lower() for name in header]
    x = next((k for k, name in enumerate(low) if name in X_NAMES), None)
    if x is None:
        raise InputError(f"{path}: none of the columns {header} is a position. Call it x_um.")
    errors = [k for k, name in enumerate(low) if _is_error(name) and k != x]
    if value_column is not None:
        if value_column not in header:
            raise InputError(f"{path}: there is no column {value_column!r} among {header}.")
        value = header.index(value_column)
    else:
        rest = [k for k in range(len(low)) if k != x and k not in errors]
        named = [k for k in rest if any(word in low[k] for word in VALUE_WORDS)]
        if not named and len(rest) != 1:
            raise InputError(
                f"{path}: none of the columns {header} is called hardness. Rename one, or set "
                "value_column."
            )
        value = (named or rest)[0]
    return [x, value, *[k for k in errors if k != value][:1]]


def _is_error(name: str) -> bool:
    return any(word in ERROR_WORDS for word in name.replace("-", "_").replace(" ", "_").split("_"))


def _number(row: list[str], index: int, place: tuple[Path, int, list[str]]) -> float:
    path, number, header = place
    text = row[index].strip() if index < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = NAN
    if not np.isfinite(value):
        raise InputError(
            f"{path}, line {number}, column {header[index]!r}: {text!r} is no number. "
            "Correct or delete the line."
        )
    return value


def _averaged(x_um: FloatArray, value: FloatArray, error: FloatArray, name: str) -> Hardness:
    """Repeated indents at one x as one, with the standard error of their mean."""
    places, which, counts = np.unique(x_um, return_inverse=True, return_counts=True)
    mean = np.bincount(which, value) / counts
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.bincount(which, (value - mean[which]) ** 2) / (counts - 1) / counts
    stated = np.bincount(which, error**2) / counts**2
    return Hardness(places, mean, np.sqrt(np.where(counts > 1, spread, stated)), name)


def correlate(
    profile: pd.DataFrame,
    hardness: Hardness | Path | str,
    *,
    options: CorrelateOptions | None = None,
) -> pd.DataFrame:
    """Pearson correlation of each profile measure with hardness, one row per measure.

    Columns: `CORRELATION_COLUMNS`. n counts indents where the measure is known; `n_effective`
    is what remains of them after the autocorrelation of both series (Dutilleul 1993), and
    p_value (two-sided t test) and the 95 % interval (Fisher's z) use it: neighbours on a
    smooth profile are no independent samples. NaN where fewer than three indents (or
    effective samples) remain, or a series is constant. Raises InputError where no indent
    lies on the profile, or the profile has no positions in micrometres.
    """
    points = correlation_points(profile, hardness, options=options)
    value = points["hardness"].to_numpy(float)
    rows = []
    for name in points.columns[2:]:
        measure = points[name].to_numpy(float)
        known = np.isfinite(measure)
        rows.append({"measure": name, **_pearson(measure[known], value[known])})
    return pd.DataFrame(rows, columns=list(CORRELATION_COLUMNS))


def correlation_points(
    profile: pd.DataFrame,
    hardness: Hardness | Path | str,
    *,
    options: CorrelateOptions | None = None,
) -> pd.DataFrame:
    """What `correlate` relates: one row per indent on the profile, ascending in x.

    Columns: x_um (on the mosaic, the offset added), hardness, then each measure of the profile
    that has a standard error, without those in px; its value at the indent, NaN where it is not
    known. Raises InputError where no indent lies on the profile, or the profile has no
    positions in micrometres.
    """
    options = options or CorrelateOptions()
    if not isinstance(hardness, Hardness):
        hardness = read_hardness(hardness, value_column=options.value_column)
    x = profile["x_um"].to_numpy(float)
    if not np.isfinite(x).all():
        raise InputError("The profile has no positions in micrometres; give the pixel size.")
    at = hardness.x_um + options.x_offset_um
    half = 0.5 * float(np.median(np.diff(x))) if len(x) > 1 else 0.0
    on = (at >= x.min() - half) & (at <= x.max() + half)
    if not on.any():
        raise InputError(
            f"Indents lie at x = {at.min():g}..{at.max():g} um, the profile at "
            f"{x.min():g}..{x.max():g} um; none meets it. Set x_offset_um."
        )
    # A measure in px is the same as its column in micrometres.
    names = [c.removesuffix("_se") for c in profile.columns if c.endswith("_se")]
    measures = {
        name: _profile_at(at[on], x, profile[name].to_numpy(float), options.window_um)
        for name in names
        if not name.endswith("_px")
    }
    return pd.DataFrame({"x_um": at[on], "hardness": hardness.value[on], **measures})


def _profile_at(
    at: FloatArray, x: FloatArray, value: FloatArray, window_um: float | None
) -> FloatArray:
    """The profile at the indents: interpolated between bins, or averaged over a window."""
    if window_um is None:
        # NaN of either neighbour stays NaN; beyond the outer centres the end bin holds.
        return np.asarray(np.interp(at, x, value))
    near = np.abs(x[None, :] - at[:, None]) <= window_um / 2
    known = near & np.isfinite(value)
    total = np.sum(np.where(known, value, 0.0), axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known.any(axis=1), total / known.sum(axis=1), NAN))


def _pearson(a: FloatArray, b: FloatArray) -> dict[str, float]:
    n = len(a)
    row = {"n": n, "pearson_r": NAN, "p_value": NAN, "ci_low": NAN, "ci_high": NAN}
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return row | {"n_effective": NAN}
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    effective = effective_sample_size(a, b)
    row |= {"pearson_r": r, "n_effective": effective}
    if effective > 2:
        t = np.inf if abs(r) == 1 else abs(r) * np.sqrt((effective - 2) / (1 - r * r))
        row["p_value"] = float(2 * scipy.stats.t.sf(t, effective - 2))
    if effective > 3 and abs(r) < 1:
        z, reach = np.arctanh(r), scipy.stats.norm.ppf(0.975) / np.sqrt(effective - 3)
        row |= {"ci_low": float(np.tanh(z - reach)), "ci_high": float(np.tanh(z + reach))}
    return row


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
