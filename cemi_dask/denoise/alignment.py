"""A low- and a high-definition picture of one field brought onto one grid, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.align_blocks import match_blocks
from cemi_dask.denoise.align_geometry import Float32, PairGeometry
from cemi_dask.denoise.align_refine import refine, refine_by_strips, search_lines, start_geometry
from cemi_dask.errors import InputError

MIN_SIDE_PX = 96
MIN_AGREE, MIN_AGREE_SHARE = 4, 0.25  # of the blocks: chance brings two or three together
MIN_SCORE, MIN_SIGNIFICANCE = 0.3, 4.0
MIN_COVERED = 0.25

# Displacements (px) at which the aligned pictures are compared again, for what chance gives.
_NULL_RADII, _NULL_ANGLES = (9.0, 14.0, 21.0), 8


@dataclass(frozen=True)
class Alignment:
    """What came of aligning an HD picture to an LD picture.

    `hd` is the HD picture on the LD grid, float32 (h, w), NaN where it has no pixels, and
    `valid` (h, w) says where it has; nowhere in a refused pair. ``gain * hd + offset`` fits the
    grey levels of the LD picture. `score` is the normalised cross-correlation of both after
    smoothing (-1..1); `significance` says how many standard deviations it stands above the
    correlations at wrong displacements; `agreement` is the share of blocks that fit one map.
    A pair that is not `accepted` says why in `reason`; `geometry` is then None, or a guess.
    """

    hd: Float32
    valid: npt.NDArray[np.bool_]
    gain: float
    offset: float
    geometry: PairGeometry | None
    score: float
    significance: float
    agreement: float
    accepted: bool
    reason: str

    @property
    def matched(self) -> Float32:
        """The HD picture in grey levels of the LD one, float32 (h, w); NaN where not `valid`."""
        grey = self.gain * self.hd + np.float32(self.offset)
        return np.where(self.valid, grey, np.nan).astype(np.float32)


def align_pair(ld: npt.NDArray[Any], hd: npt.NDArray[Any], *, max_shift_px: int = 96) -> Alignment:
    """The HD picture of a field resampled onto the grid of the LD picture of it.

    Both are grey pictures (y, x) without data bars, of one pixel size and any dtype; their
    shapes may differ. Rotations to 1 degree, scales to 1 %, shifts to `max_shift_px` from corner
    to corner, slow drift and jitter of single lines along x in either are found. The
    steps: blocks found again by phase correlation, strips of lines, then Gauss-Newton steps
    for the smooth map and for every line. The noisy picture is never interpolated.

    Raises InputError for pictures that are not two-dimensional, hold NaN, or have a side below
    96 px. A pair of different fields is returned with `accepted` False and a reason.
    """
    ours, theirs = _checked(ld, "LD"), _checked(hd, "HD")
    shape = (ours.shape[0], ours.shape[1])
    matches = match_blocks(ours, theirs, max_shift_px)
    agreeing = int(matches.agree.sum())
    share = agreeing / len(matches.agree)
    if agreeing < min(MIN_AGREE, len(matches.agree)) or share < MIN_AGREE_SHARE:
        return _refused(
            shape,
            share,
            f"{agreeing} of {len(matches.agree)} blocks agree on a displacement within "
            f"{max_shift_px} px; the pictures show different fields, or lie further apart.",
        )
    geometry = start_geometry(
        shape, theirs.shape[0], matches.places[matches.agree], matches.shifts[matches.agree]
    )
    geometry = refine_by_strips(ours, theirs, geometry)
    geometry = search_lines(ours, theirs, geometry)
    geometry = refine(ours, theirs, geometry)
    return _judged(ours, theirs, geometry, share)


def _checked(picture: npt.NDArray[Any], name: str) -> Float32:
    if picture.ndim != 2 or min(picture.shape) < MIN_SIDE_PX:
        raise InputError(
            f"The {name} picture has shape {picture.shape}; alignment needs a grey picture (y, x) "
            f"of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} px."
        )
    values = np.ascontiguousarray(picture, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"The {name} picture holds NaN or infinite pixels. Replace or crop them.")
    return values


def _refused(shape: tuple[int, int], share: float, reason: str) -> Alignment:
    nothing = np.full(shape, np.nan, np.float32)
    return Alignment(nothing, np.zeros(shape, bool), 1.0, 0.0, None, 0.0, 0.0, share, False, reason)


def _judged(ld: Float32, hd: Float32, geometry: PairGeometry, share: float) -> Alignment:
    """The alignment of a geometry, with its quality; refused where that is poor."""
    resampled = geometry.resample(hd)
    valid = np.isfinite(resampled)
    if valid.mean() < MIN_COVERED:
        return _refused(
            (ld.shape[0], ld.shape[1]),
            share,
            f"The pictures share {valid.mean():.0%} of the field; {MIN_COVERED:.0%} are needed.",
        )
    score, significance = _quality(ld, resampled, valid)
    gain, offset = fit_grey_levels(ld, resampled, valid)
    reason = ""
    if score < MIN_SCORE or significance < MIN_SIGNIFICANCE:
        reason = (
            f"After alignment the pictures correlate by {score:.2f} ({significance:.1f} standard "
            f"deviations above chance); {MIN_SCORE} and {MIN_SIGNIFICANCE:.0f} are needed."
        )
        valid = np.zeros_like(valid)
    return Alignment(
        resampled, valid, gain, offset, geometry, score, significance, share, not reason, reason
    )


def _quality(ld: Float32, hd: Float32, valid: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation of smoothed pictures, and its height above those at wrong displacements.

    Both are band-passed (Gaussians of 1 and 12 px) and compared where both are valid.
    The null: the same correlation at 24 displacements of 9 to 21 px, where the texture is alike
    but shows other places.
    """
    known = cv2.erode(valid.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.float32)
    filled = np.where(valid, hd, hd[valid].mean(dtype=np.float64)).astype(np.float32)
    ours, theirs = (_band(a) * known for a in (ld, filled))
    turns = 2 * np.pi * (np.arange(_NULL_ANGLES) + 0.5) / _NULL_ANGLES
    wrong = [
        _correlation(ours, theirs, round(radius * np.sin(t)), round(radius * np.cos(t)))
        for radius in _NULL_RADII
        for t in turns
    ]
    score = _correlation(ours, theirs, 0, 0)
    spread = max(float(np.std(wrong)), 1e-6)
    return score, (score - float(np.mean(wrong))) / spread


def _band(picture: Float32) -> Float32:
    fine, coarse = (cv2.GaussianBlur(picture, (0, 0), s) for s in (1.0, 12.0))
    return np.asarray(fine - coarse, np.float32)


def _correlation(a: Float32, b: Float32, down: int, right: int) -> float:
    """Normalised cross-correlation of a with b moved by whole px, over their overlap."""
    h, w = a.shape
    ours = a[max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)]
    theirs = b[max(0, -down) : h + min(0, -down), max(0, -right) : w + min(0, -right)]
    norm = float(np.linalg.norm(ours)) * float(np.linalg.norm(theirs))
    return float(np.einsum("yx,yx->", ours, theirs, dtype=np.float64)) / max(norm, 1e-12)


def fit_grey_levels(ld: Float32, hd: Float32, valid: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Gain and offset that bring an HD picture (h, w) to the grey levels of the LD picture.

    Least squares over the valid pixels; the HD picture's noise is taken to be small.
    """
    ours, theirs = ld[valid].astype(np.float64), hd[valid].astype(np.float64)
    spread = theirs - theirs.mean()
    gain = float(spread @ ours / max(float(spread @ spread), 1e-12))
    return gain, float(ours.mean() - gain * theirs.mean())
