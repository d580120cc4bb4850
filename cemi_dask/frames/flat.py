"""`FlatField`: the shading that all frames of a run share, and frames freed of it.

Kernels on plain numpy; `cemi_dask.frames.lazy.flatten` makes them a dask graph.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.shading import TERMS, basis

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

UNKNOWN = 1e6  # variance of what nothing tells
LEAST_FRAMES = 8  # fewer do not average the specimen out
LEAST_RATIO = 2.0  # of the shading to its standard error, both rms over the frame
LEAST_STRENGTH = 0.003  # peak to valley; weaker shading is below one grey level of 255
ALONG_Y = np.array([i == 0 for i, _ in TERMS])  # terms that depend on y alone
LEVEL_DRIFT = 0.1  # of the brightness, along a whole row
LEAST_SLOPE_ERROR = 0.0015  # of its coefficient: half a per cent of brightness over a frame
SURE_SLOPE = 3.0  # standard errors of a slope along x that is believed
STEP_PX = 8  # the map is smooth: its extremes need no finer grid


@dataclass(frozen=True)
class FlatField:
    """The shading of frames of `shape`: ln of the relative brightness, sum c_j `basis`_j.

    `strength` is peak to valley over the frame, `error` the standard error of the map (rms
    over the frame), both as fractions of the brightness. `frames` and `pairs` say how many
    frames, and overlaps of neighbours, it comes from. `applied` is False, and `note` says
    why, where there were too few frames or the shading is not above its own error.
    """

    shape: tuple[int, int]
    coefficients: tuple[float, ...] = (0.0,) * len(TERMS)
    strength: float = 0.0
    error: float = 0.0
    frames: int = 0
    pairs: int = 0
    applied: bool = False
    note: str = ""

    def gain(self) -> F32:
        """What frames are multiplied by: float32 (y, x) with mean 1; all 1 if not applied."""
        return _gain(self.coefficients if self.applied else (0.0,) * len(TERMS), self.shape)

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values; see `from_json`."""
        return {
            **asdict(self),
            "shape": list(self.shape),
            "coefficients": list(self.coefficients),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FlatField:
        """The flat field that `as_json` described."""
        height, width = values["shape"]
        given = {**values, "shape": (height, width), "coefficients": tuple(values["coefficients"])}
        return cls(**given)


@functools.lru_cache(maxsize=4)
def _gain(coefficients: tuple[float, ...], shape: tuple[int, int]) -> F32:
    gain = np.exp(-log_shading(coefficients, shape))
    gain = (gain / gain.mean()).astype(np.float32)
    gain.setflags(write=False)  # the cache hands out one array
    return gain


def log_shading(coefficients: Sequence[float], shape: tuple[int, int], *, step_px: int = 1) -> F64:
    """ln of the shading at every `step_px`-th pixel centre, float64 (y, x), mean about 0."""
    y, x = ((2 * np.arange(0, size, step_px) + 1) / size - 1 for size in shape)
    rows = np.asarray(coefficients, np.float64)
    values = [basis(x, np.full_like(x, v)) @ rows for v in y]
    return np.stack(values)


def fit_flat_field(scans: Sequence[dict[str, Any]], shape: tuple[int, int]) -> FlatField:
    """The shading of frames of `shape` from what `scan_source` gathered in all sources.

    The mean of all frames holds the shading plus what the specimen has left there, with the
    variance seen between frames and between sources; overlaps of neighbouring frames hold
    differences of the shading alone, and their mean steps, which drift of the microscope
    leaves alone, the slope along x. All are weighted by their errors. The slope of the
    specimen's own brightness, told by the frames' levels along the scan, is taken off first as
    far as it is the same in all rows. Terms are then shrunk by their errors (W. James,
    C. Stein, Proc. 4th Berkeley Symp. 1 (1961) 361) and kept where they are twice as large as
    those together, so that a run without shading gets none.
    """
    found = [scan["shading"] for scan in scans if scan["shading"]["frames"]]
    frames = sum(s["frames"] for s in found)
    pairs = sum(s["pairs"] for s in found)
    if frames < LEAST_FRAMES:
        note = f"not applied: {frames} usable frames, and at least {LEAST_FRAMES} are needed"
        return FlatField(shape, frames=frames, pairs=pairs, note=note)
    mean, variance = _pooled(found)
    rows = len({row for one in found for row in one["rows"]})
    # Layers along a row are the same in all of its frames: one row cannot tell them apart.
    known = ~ALONG_Y if rows < 2 else np.ones(len(TERMS), bool)
    mean, variance = _without_specimen_slope(mean, variance, found)
    mean[~known], variance[~known] = 0, UNKNOWN
    slope = TERMS.index((1, 0))
    # Pores and dendrites lean the mean of some dozen frames by more than its scatter tells.
    variance[slope] = max(float(variance[slope]), LEAST_SLOPE_ERROR**2)
    precision = np.diag(1 / variance)
    right = mean / variance
    for one in found:
        if one["pairs"]:
            weight = 1 / max(1.0, one["pair_chi2"])
            precision += weight * np.asarray(one["normal"])
            right += weight * np.asarray(one["right"])
            # From frame to frame the microscope's brightness hardly changes on the average.
            step, sigma = np.asarray(one["step"]), LEVEL_DRIFT / one["pairs"]
            precision += np.outer(step[:-1], step[:-1]) / sigma**2
            right += step[:-1] * step[-1] / sigma**2
    covariance = np.linalg.inv(precision)
    coefficients = covariance @ right
    error = np.sqrt(np.diag(covariance))
    ratio = error / np.maximum(np.abs(coefficients), 1e-12)
    shrunk = coefficients * np.maximum(0, 1 - ratio**2)
    # Overlaps along a row tell nothing of what depends on y alone: it is judged by itself.
    for group in (ALONG_Y, ~ALONG_Y):
        if _rms(shrunk[group & known]) < LEAST_RATIO * _rms(error[group & known]):
            shrunk[group] = 0
    # A slope along the row adds up from frame to frame where brightness is made to agree, so a
    # wrong one does more harm than a small one that is left.
    if abs(coefficients[slope]) < SURE_SLOPE * error[slope]:
        shrunk[slope] = 0
    shrunk[~known], error[~known] = 0, 0
    return _judged(FlatField(shape, frames=frames, pairs=pairs), shrunk, error)


def _rms(coefficients: F64) -> float:
    """Rms over the frame of the map with these coefficients; the functions are orthonormal."""
    return float(np.sqrt((coefficients**2).sum()))


def _judged(bare: FlatField, coefficients: F64, error: F64) -> FlatField:
    """The flat field with these coefficients, applied where any stands out from its error."""
    given = tuple(float(f"{c:.9g}") for c in coefficients)
    relative = np.exp(log_shading(given, bare.shape, step_px=STEP_PX))
    strength, noise = float(np.ptp(relative) / relative.mean()), _rms(error)
    source = f"standard error {noise:.2%} (rms), from {bare.frames} frames, {bare.pairs} overlaps"
    applied = strength >= LEAST_STRENGTH
    if applied:
        note = f"shading of {strength:.1%} peak to valley, {source}"
    else:
        note = f"not applied: no shading stands out from its {source}"
    if not coefficients[ALONG_Y].any():
        told = "does not stand out" if error[ALONG_Y].any() else "cannot be told from one row"
        note += f"; shading along y alone {told}" if applied else ""
    return replace(
        bare,
        coefficients=given,
        strength=round(strength, 9),
        error=round(noise, 9),
        applied=applied,
        note=note,
    )


def _pooled(found: Sequence[dict[str, Any]]) -> tuple[F64, F64]:
    """(mean, variance) of the coefficients over the sources, weighted by their frames.

    The variance is the larger one of two: from the scatter of frames within the sources, and
    of the sources themselves (bands of the specimen along a row are the same in its frames);
    few sources show less scatter than there is, which is made up for.
    """
    weights = np.array([s["frames"] for s in found], np.float64)
    weights /= weights.sum()
    means = np.array([s["mean"] for s in found])
    mean = weights @ means
    within = weights**2 @ np.array([s["variance"] for s in found])
    count = len(found)
    between = np.zeros_like(mean)
    if count > 1:
        between = weights**2 @ (means - mean) ** 2 * (count + 1) * count / (count - 1) ** 2
    return mean, np.maximum(np.maximum(within, between), 1e-10)


def _without_specimen_slope(
    mean: F64, variance: F64, found: Sequence[dict[str, Any]]
) -> tuple[F64, F64]:
    """The coefficients less the slopes along x and y that the specimen itself has.

    A specimen that grows brighter along x does so within each frame and from frame to frame.
    What the sources' trends have in common is the specimen's, what differs is drift of the
    microscope: only the part that stands out from it is taken off.
    """
    mean, variance = mean.copy(), variance.copy()
    for axis, term in ((0, (1, 0)), (1, (0, 1))):
        trends = np.array([s["trend"][axis] for s in found if s["trend"][axis] is not None])
        if not len(trends):
            continue
        slope = float(trends.mean())
        spread = float(trends.var(ddof=1)) / len(trends) if len(trends) > 1 else slope**2
        kept = max(0.0, 1 - spread / max(slope**2, 1e-18))
        at = TERMS.index(term)
        unit = 1 / (2 * np.sqrt(3))  # coefficient of b_j for a slope of 1 per frame size
        mean[at] -= kept * slope * unit
        variance[at] += min(spread, slope**2) * unit**2
    return mean, variance


def flattened(image: npt.NDArray[Any], gain: F32) -> npt.NDArray[Any]:
    """A frame, or a block (1, y, x), times `gain` (y, x), in its own type.

    Integers are rounded half to even and stay within their type's limits; NaN stays NaN.
    """
    if image.dtype.kind == "f":
        return (image * gain).astype(image.dtype)
    limits = np.iinfo(image.dtype)
    if image.dtype.itemsize <= 2:
        # Bytes and shorts times a float32 below 2 are exact to far less than half a level.
        raised = image * gain
        np.rint(raised, out=raised)
        return np.clip(raised, limits.min, limits.max, out=raised).astype(image.dtype)
    exact = np.rint(image.astype(np.float64) * gain)
    top = np.nextafter(float(limits.max), 0.0) if limits.bits > 53 else float(limits.max)
    return np.clip(exact, float(limits.min), top).astype(image.dtype)
