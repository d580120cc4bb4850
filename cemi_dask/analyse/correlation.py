"""What the microstructure says about hardness: correlation with the errors of smooth profiles."""

from __future__ import annotations

from functools import partial as partial_of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.analyse.alignment import Search, search_offset
from cemi_dask.analyse.dependence import partial, pearson, shift_p, spearman
from cemi_dask.analyse.hardness import Hardness, read_hardness
from cemi_dask.contract import CONTRACT
from cemi_dask.errors import ConfigError, InputError

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

CORRELATION_COLUMNS = (
    *CONTRACT["correlation"],
    "n_effective",
    "p_shift",
    "spearman_r",
    "spearman_p",
    "spearman_ci_low",
    "spearman_ci_high",
    "partial_r",
    "partial_p",
    "partial_ci_low",
    "partial_ci_high",
    "x_offset_um",
    "p_search",
)
PAPER = ("bcc_fraction", "lamellar_fraction", "lamella_width_um")


class CorrelateOptions(BaseModel):
    """How indents are laid onto the profile, and which measures a model may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x_offset_um: float = Field(
        default=0.0, description="Added to the indents' x to get the mosaic's x, micrometres."
    )
    x_search_um: float = Field(
        default=0.0,
        ge=0.0,
        description="How far around x_offset_um a better offset is sought; 0: none is. p_search "
        "then says what the search itself would find in unrelated data.",
    )
    search_measure: str = Field(
        default="bcc_fraction",
        description="Measure whose |r| the sought offset makes largest.",
    )
    window_um: float | None = Field(
        default=None,
        gt=0.0,
        description="Width over which the profile is averaged at an indent; unset: interpolated.",
    )
    value_column: str | None = Field(
        default=None, description="Column of the hardness; found by its name if unset."
    )
    model_measures: tuple[str, ...] = Field(
        default=PAPER,
        description="Measures that partial correlations and models take together.",
    )


def correlate(
    profile: pd.DataFrame,
    hardness: Hardness | Path | str,
    *,
    options: CorrelateOptions | None = None,
) -> pd.DataFrame:
    """Correlation of each profile measure with hardness, one row per measure.

    Columns: `CORRELATION_COLUMNS`. n counts indents where the measure is known; `n_effective`
    is what remains of them after the autocorrelation of both series (Dutilleul 1993), and
    p_value (two-sided t test) and the 95 % interval (Fisher's z) of Pearson's r use it:
    neighbours on a smooth profile are no independent samples. ``p_shift`` ranks r among those of
    all circular shifts. Spearman's r likewise; ``partial_*`` with the other `model_measures`
    regressed out. ``x_offset_um`` is the offset used, and ``p_search`` the share of
    circular shifts whose best r over the offsets searched is as strong (NaN without a search).
    NaN where fewer than three indents (or effective samples) remain, or a series is constant.
    Raises InputError where no indent lies on the profile, or the profile has no positions in
    micrometres.
    """
    options = options or CorrelateOptions()
    indents = _indents(hardness, options)
    searched = _searched(profile, indents, options)
    points = _points(profile, indents, options, searched.offset_um)
    value = points["hardness"].to_numpy(float)
    rows = []
    for name in points.columns[2:]:
        measure = points[name].to_numpy(float)
        known = np.isfinite(measure)
        a, b = measure[known], value[known]
        rows.append(
            {
                "measure": name,
                "n": len(a),
                **_named(pearson(a, b), ("pearson_r", "p_value", "ci_low", "ci_high")),
                "p_shift": shift_p(a, b),
                **_named(spearman(a, b), tuple(f"spearman_{k}" for k in SHORT)),
                **_named(_partial(points, name, options), tuple(f"partial_{k}" for k in SHORT)),
                "x_offset_um": searched.offset_um,
                "p_search": searched.p.get(name, NAN),
            }
        )
    return pd.DataFrame(rows, columns=list(CORRELATION_COLUMNS))


SHORT = ("r", "p", "ci_low", "ci_high")


def _named(found: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    row = dict(zip(names, (found[k] for k in ("r", "p", "low", "high")), strict=True))
    return row | ({"n_effective": found["n_effective"]} if names[0] == "pearson_r" else {})


def _partial(points: pd.DataFrame, name: str, options: CorrelateOptions) -> dict[str, float]:
    """Correlation of a measure with the other measures of the model taken out."""
    others = [m for m in options.model_measures if m != name and m in points.columns]
    known = points[["hardness", name, *others]].dropna()
    if name not in options.model_measures or not others:
        known = known.iloc[:0]
    return partial(
        known["hardness"].to_numpy(float),
        known[name].to_numpy(float),
        known[others].to_numpy(float),
    )


def correlation_points(
    profile: pd.DataFrame,
    hardness: Hardness | Path | str,
    *,
    options: CorrelateOptions | None = None,
) -> pd.DataFrame:
    """What `correlate` relates: one row per indent on the profile, ascending in x.

    Columns: x_um (on the mosaic, the offset added), hardness, then each measure of the profile
    that has a standard error, without those in px; its value at the indent, NaN where it is not
    known; last hardness_error. Raises InputError where no indent lies on the profile, or the
    profile has no positions in micrometres.
    """
    options = options or CorrelateOptions()
    indents = _indents(hardness, options)
    offset = _searched(profile, indents, options).offset_um
    points = _points(profile, indents, options, offset)
    error = dict(zip(indents.x_um + offset, indents.error, strict=True))
    return points.assign(hardness_error=[error[x] for x in points["x_um"]])


def _indents(hardness: Hardness | Path | str, options: CorrelateOptions) -> Hardness:
    if isinstance(hardness, Hardness):
        return hardness
    return read_hardness(hardness, value_column=options.value_column)


def _searched(profile: pd.DataFrame, indents: Hardness, options: CorrelateOptions) -> Search:
    """The offset to use, and what the search for it would find by chance."""
    if not options.x_search_um:
        return Search(options.x_offset_um, {})
    if options.search_measure not in profile.columns:
        raise ConfigError(
            f"search_measure {options.search_measure!r} is no measure of the profile. Name one of "
            f"{', '.join(_measures(profile))}."
        )
    x, window = _places(profile), options.window_um
    series = {
        name: partial_of(profile_at, x=x, value=profile[name].to_numpy(float), window_um=window)
        for name in _measures(profile)
    }
    return search_offset(
        indents,
        series,
        centre_um=options.x_offset_um,
        reach_um=options.x_search_um,
        leading=options.search_measure,
    )


def _measures(profile: pd.DataFrame) -> list[str]:
    # A measure in px is the same as its column in micrometres.
    names = [c.removesuffix("_se") for c in profile.columns if c.endswith("_se")]
    return [name for name in names if not name.endswith("_px")]


def _places(profile: pd.DataFrame) -> FloatArray:
    x = profile["x_um"].to_numpy(float)
    if not np.isfinite(x).all():
        raise InputError("The profile has no positions in micrometres; give the pixel size.")
    return x


def _points(
    profile: pd.DataFrame, indents: Hardness, options: CorrelateOptions, offset_um: float
) -> pd.DataFrame:
    x = _places(profile)
    at = indents.x_um + offset_um
    half = 0.5 * float(np.median(np.diff(x))) if len(x) > 1 else 0.0
    on = (at >= x.min() - half) & (at <= x.max() + half)
    if not on.any():
        raise InputError(
            f"Indents lie at x = {at.min():g}..{at.max():g} um, the profile at "
            f"{x.min():g}..{x.max():g} um; none meets it. Set x_offset_um."
        )
    measures: dict[str, Any] = {
        name: profile_at(at[on], x, profile[name].to_numpy(float), options.window_um)
        for name in _measures(profile)
    }
    return pd.DataFrame({"x_um": at[on], "hardness": indents.value[on], **measures})


def profile_at(
    at: FloatArray, x: FloatArray, value: FloatArray, window_um: float | None
) -> FloatArray:
    """The profile at the indents: interpolated between bins, or averaged over a window.

    Beyond the outer centres the end bin holds.
    """
    if window_um is None:
        # NaN of either neighbour stays NaN; beyond the outer centres the end bin holds.
        return np.asarray(np.interp(at, x, value))
    near = np.abs(x[None, :] - at[:, None]) <= window_um / 2
    known = near & np.isfinite(value)
    total = np.sum(np.where(known, value, 0.0), axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known.any(axis=1), total / known.sum(axis=1), NAN))
