"""A displacement to a few thousandths of a pixel: Gauss-Newton on the overlap, with covariance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.register.correlate import overlap_boxes, row_dot
from cemi_dask.register.prepare import Image, Prepared, gaussian_kernel, reach_px, separable

Matrix = npt.NDArray[np.float64]

_CAPTURE_PX = 2.5  # further than this from the start, the step has left its peak
_BLOCKS = 8  # the overlap is cut into _BLOCKS^2 parts to see how much they disagree


@dataclass(frozen=True)
class Refined:
    """A refined displacement in px, its score (-1..1) and covariance (2, 2) in px^2."""

    dx_px: float
    dy_px: float
    score: float
    covariance_px2: Matrix


def refine(
    fixed: Prepared, moving: Prepared, start: tuple[float, float], *, steps: int
) -> Refined | None:
    """The displacement near `start` (dx, dy) that best maps `moving` onto `fixed`.

    Minimises the squared difference of the smoothed overlaps with gain and offset free
    (inverse compositional Gauss-Newton, Baker and Matthews 2004). Two choices keep it free
    of bias: the gradient is that of the frame that is never resampled, so the noise of
    both is independent of it; and the gain is the ratio of standard deviations, since
    a regression on a noisy frame underestimates it. None when the overlap is too small or
    flat, or when the steps leave the peak.
    """
    position = np.array(start, float)
    score, covariance = 0.0, np.eye(2)
    for step in range(steps):
        state = _evaluate(fixed, moving, position)
        if state is None:
            return None
        score, delta, residual, box = state
        position = position - delta
        if np.abs(position - start).max() > _CAPTURE_PX:
            return None
        if np.abs(delta).max() < 2e-3 or step == steps - 1:
            covariance = _covariance(fixed, residual, box, score, delta)
            break
    return Refined(float(position[0]), float(position[1]), score, covariance)


def _evaluate(
    fixed: Prepared, moving: Prepared, position: Matrix
) -> tuple[float, Matrix, Image, Box] | None:
    """Score, Gauss-Newton step, residual (y, x) and overlap box at a displacement."""
    sigma = fixed.smooth_px
    reach = reach_px(sigma)
    whole = np.round(position).astype(int)
    box, box_m = overlap_boxes(fixed.shape, int(whole[0]), int(whole[1]), inset_px=reach)
    if min(box.shape) < 16:
        return None
    value = fixed.gradients.value[box.slices]
    rest = position - whole
    source = moving.detail[box_m.expand(reach).slices]
    resampled = separable(
        source, gaussian_kernel(sigma, float(rest[0])), gaussian_kernel(sigma, float(rest[1]))
    )[reach:-reach, reach:-reach]
    n = value.size
    mean_f, mean_m = value.mean(dtype=np.float64), resampled.mean(dtype=np.float64)
    var_f = row_dot(value, value) / n - mean_f**2
    var_m = row_dot(resampled, resampled) / n - mean_m**2
    if var_f <= 1e-9 or var_m <= 1e-9:
        return None
    score = float((row_dot(value, resampled) / n - mean_f * mean_m) / np.sqrt(var_f * var_m))
    gain = np.float32(np.sqrt(var_f / var_m))
    residual = value - gain * resampled
    residual -= np.float32(mean_f - float(gain) * mean_m)
    gx, gy = fixed.gradients.along_x[box.slices], fixed.gradients.along_y[box.slices]
    force = np.array([row_dot(gx, residual), row_dot(gy, residual)])
    delta = np.linalg.solve(_curvature(fixed, box, score), force)
    return score, np.clip(delta, -1, 1), residual, box


def _curvature(fixed: Prepared, box: Box, score: float) -> Matrix:
    """Sum of squared gradients (2, 2) of the structure alone.

    The noise adds to each squared gradient var_noise / (2 s^2) after smoothing by s; its
    variance is the part (1 - score) of the whole. At least a tenth is kept.
    """
    part = fixed.gradients
    gx, gy = part.along_x[box.slices], part.along_y[box.slices]
    xx, xy, yy = row_dot(gx, gx), row_dot(gx, gy), row_dot(gy, gy)
    value = part.value[box.slices]
    noise = max(0.0, 1 - score) * row_dot(value, value) / (2 * fixed.smooth_px**2)
    values, vectors = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    kept = np.maximum(values - noise, 0.1 * values)
    kept = np.maximum(kept, 1e-9 * max(kept.max(), 1e-9))
    return np.asarray((vectors * kept) @ vectors.T)


def _covariance(fixed: Prepared, residual: Image, box: Box, score: float, delta: Matrix) -> Matrix:
    """Covariance (2, 2) in px^2 of the displacement: H^-1 S H^-1.

    S, the variance of the force, is seen from how the forces of parts of the overlap
    scatter: that counts correlated noise and local distortion as they are.
    """
    gx = fixed.gradients.along_x[box.slices]
    gy = fixed.gradients.along_y[box.slices]
    left = residual - np.float32(delta[0]) * gx - np.float32(delta[1]) * gy
    blocks = (min(_BLOCKS, box.shape[1] // 8), min(_BLOCKS, box.shape[0] // 8))
    area = left.size / (blocks[0] * blocks[1])
    forces = np.stack(
        [
            cv2.resize(g * left, blocks, interpolation=cv2.INTER_AREA).astype(float).ravel() * area
            for g in (gx, gy)
        ]
    )
    count = forces.shape[1]
    scatter = np.cov(forces) * count if count > 2 else np.eye(2) * np.inf
    inverse = np.linalg.inv(_curvature(fixed, box, score))
    return np.asarray(inverse @ scatter @ inverse)
