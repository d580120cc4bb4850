"""A displacement to a few thousandths of a pixel: Gauss-Newton on the overlap, with covariance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.register.correlate import lines_mask, overlap_boxes, row_dot, row_sum
from cemi_dask.register.prepare import Image, Prepared
from cemi_dask.resample import gaussian_kernel, reach_px, separable

Matrix = npt.NDArray[np.float64]

_CAPTURE_PX = 2.5  # further than this from the start, the step has left its peak
_BLOCKS = 8  # the overlap is cut into _BLOCKS^2 parts to see how much they disagree


@dataclass(frozen=True)
class Refined:
    """A refined displacement in px, its score (-1..1) and covariance (2, 2) in px^2.

    `distortion_px` is by how much parts of the overlap scatter beyond what noise explains.
    """

    dx_px: float
    dy_px: float
    score: float
    covariance_px2: Matrix
    distortion_px: float


def refine(
    fixed: Prepared,
    moving: Prepared,
    start: tuple[float, float],
    *,
    steps: int,
    least_score: float = -1.0,
) -> Refined | None:
    """The displacement near `start` (dx, dy) that best maps `moving` onto `fixed`.

    Minimises the squared difference of the smoothed overlaps with gain and offset free
    (inverse compositional Gauss-Newton, Baker and Matthews 2004). Two choices keep it free
    of bias: the gradient is that of the frame that is never resampled, so the noise of
    both is independent of it; and the gain is the ratio of standard deviations, since
    a regression on a noisy frame underestimates it. None when the overlap is too small or
    flat, when the steps leave the peak, or when after the first one the score is below
    `least_score`: later ones gain little.
    """
    position = np.array(start, float)
    score, covariance, distortion = 0.0, np.eye(2), 0.0
    seen: _Overlap | None = None
    for step in range(steps):
        whole = np.round(position).astype(int)
        if seen is None or seen.whole != (whole[0], whole[1]):
            seen = _overlap(fixed, moving, (int(whole[0]), int(whole[1])))
        state = _evaluate(seen, moving, position) if seen else None
        if seen is None or state is None:
            return None
        score, delta, residual = state
        position = position - delta
        if np.abs(position - start).max() > _CAPTURE_PX or (step and score < least_score):
            return None
        if np.abs(delta).max() < 2e-3 or step == steps - 1:
            covariance, distortion = _covariance(seen, residual, score, delta)
            break
    return Refined(float(position[0]), float(position[1]), score, covariance, distortion)


@dataclass(frozen=True)
class _Overlap:
    """The fixed frame's side of the overlap at a whole-px displacement, and its sums.

    `gradients` (2, 2) is the sum of products of the derivatives, noise included. `mask` is 1
    where both frames have pixels and 0 beside the lines of a rectified frame, where `value`
    and `along` are 0 as well (None: pixels everywhere); `count` is the number of pixels.
    """

    whole: tuple[int, int]
    moving_box: Box
    value: Image
    along: tuple[Image, Image]
    mean: float
    variance: float
    gradients: Matrix
    smooth_px: float
    count: int
    mask: Image | None

    def curvature(self, score: float) -> Matrix:
        """Sum of products (2, 2) of the gradients of the structure alone.

        The noise adds var_noise / (2 s^2) to each squared gradient after smoothing by s;
        its variance is the part (1 - score) of the whole. At least a tenth is kept.
        """
        noise = max(0.0, 1 - score) * self.variance * self.count / (2 * self.smooth_px**2)
        values, vectors = np.linalg.eigh(self.gradients)
        kept = np.maximum(values - noise, 0.1 * values)
        kept = np.maximum(kept, 1e-9 * max(kept.max(), 1e-9))
        return np.asarray((vectors * kept) @ vectors.T)


def _overlap(fixed: Prepared, moving: Prepared, whole: tuple[int, int]) -> _Overlap | None:
    """The overlap at a displacement, None where it is too small or flat."""
    box, moving_box = overlap_boxes(fixed.shape, *whole, inset_px=reach_px(fixed.smooth_px))
    if min(box.shape) < 16:
        return None
    part = fixed.gradients
    value, gx, gy = (v[box.slices] for v in (part.value, part.along_x, part.along_y))
    mask, count = None, value.size
    if fixed.offsets_px is not None or moving.offsets_px is not None:
        # What is smoothed must not see the ends of lines, which run askew.
        slope = max(abs(fixed.shear), abs(moving.shear))
        inset = 1 + int(np.ceil(reach_px(fixed.smooth_px) * (1 + slope)))
        mask = lines_mask((box, fixed.line_ends()), (moving_box, moving.line_ends()), inset)
        value, gx, gy = value * mask, gx * mask, gy * mask
        count = int(mask.sum(dtype=np.float64))
        if count < 256:
            return None
    mean = row_sum(value) / count
    variance = row_dot(value, value) / count - mean**2
    if variance <= 1e-9:
        return None
    cross = row_dot(gx, gy)
    gradients = np.array([[row_dot(gx, gx), cross], [cross, row_dot(gy, gy)]])
    smooth_px = fixed.smooth_px
    return _Overlap(
        whole, moving_box, value, (gx, gy), mean, variance, gradients, smooth_px, count, mask
    )


def _evaluate(
    seen: _Overlap, moving: Prepared, position: Matrix
) -> tuple[float, Matrix, Image] | None:
    """Score, Gauss-Newton step and residual (y, x) at a displacement, None where flat.

    The residual means nothing where the overlap's mask is 0; the gradients are 0 there.
    """
    sigma, reach = seen.smooth_px, reach_px(seen.smooth_px)
    rest = position - seen.whole
    source = moving.detail[seen.moving_box.expand(reach).slices]
    resampled = separable(
        source, gaussian_kernel(sigma, float(rest[0])), gaussian_kernel(sigma, float(rest[1]))
    )[reach:-reach, reach:-reach]
    if seen.mask is not None:
        resampled = resampled * seen.mask
    n = seen.count
    mean = row_sum(resampled) / n
    variance = row_dot(resampled, resampled) / n - mean**2
    if variance <= 1e-9:
        return None
    both = row_dot(seen.value, resampled) / n - seen.mean * mean
    score = float(both / np.sqrt(seen.variance * variance))
    gain = float(np.sqrt(seen.variance / variance))
    residual = seen.value - np.float32(gain) * resampled
    residual -= np.float32(seen.mean - gain * mean)
    force = np.array([row_dot(g, residual) for g in seen.along])
    delta = np.linalg.solve(seen.curvature(score), force)
    return score, np.clip(delta, -1, 1), residual


def _covariance(
    seen: _Overlap, residual: Image, score: float, delta: Matrix
) -> tuple[Matrix, float]:
    """Covariance (2, 2) in px^2 of the displacement, H^-1 S H^-1, and the distortion in px.

    S, the variance of the force, is seen from how the forces of parts of the overlap
    scatter: that counts correlated noise and local distortion as they are. White noise that
    was smoothed by s gives at most 4 pi s^2 var(residual) G, with G the gradients' products;
    what is above it is distortion, stated as the rms displacement of a part.
    """
    gx, gy = seen.along
    left = residual - np.float32(delta[0]) * gx - np.float32(delta[1]) * gy
    height, width = left.shape
    blocks = (min(_BLOCKS, width // 8), min(_BLOCKS, height // 8))
    area = left.size / (blocks[0] * blocks[1])
    forces = np.stack(
        [
            cv2.resize(g * left, blocks, interpolation=cv2.INTER_AREA).astype(float).ravel() * area
            for g in (gx, gy)
        ]
    )
    inverse = np.linalg.inv(seen.curvature(score))
    parts = forces.shape[1]
    inside = left if seen.mask is None else left * seen.mask
    variance = row_dot(inside, inside) / seen.count
    noise = 4 * np.pi * seen.smooth_px**2 * variance * seen.gradients
    seen_force = np.cov(forces) * parts
    beyond = np.trace(inverse @ (seen_force - noise) @ inverse) * parts
    return np.asarray(inverse @ seen_force @ inverse), float(np.sqrt(max(0.0, beyond)))
