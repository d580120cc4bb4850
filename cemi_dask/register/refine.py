"""A displacement to a few thousandths of a pixel: Gauss-Newton on the overlap, with covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.register.correlate import lines_mask, overlap_boxes, row_dot, row_sum
from cemi_dask.register.prepare import Image, Prepared
from cemi_dask.resample import gaussian_kernel, reach_px, separable

Matrix = npt.NDArray[np.float64]

_CAPTURE_PX = 2.5  # further than this from the start, the step has left its peak
_LARGE_PX = 120_000  # overlap from which on its middle alone takes the first step
_SETTLED_PX = 0.02  # a step this small leaves a hundredth of itself to the next one
_BLOCKS = 8  # the overlap is cut into _BLOCKS^2 parts to see how much they disagree
_PARTS = 4  # and into _PARTS^2 whose displacements are told apart


@dataclass(frozen=True)
class Refined:
    """A refined displacement in px, its score (-1..1) and covariance (2, 2) in px^2.

    `distortion_px` is by how much parts of the overlap scatter beyond what noise explains,
    `variances` those of the smoothed overlaps, fixed and moving, `left` what the last step left
    of the forces, for `parts_of`.
    """

    dx_px: float
    dy_px: float
    score: float
    covariance_px2: Matrix
    distortion_px: float
    variances: tuple[float, float]
    left: _Left


@dataclass(frozen=True)
class Parts:
    """A grid (rows, cols) of parts that fill `box` of the fixed frame, row by row: how far off
    each is in px, to first order, (m, 2), and the information (m, 2, 2) px^-2 in that."""

    box: Box
    grid: tuple[int, int]
    off_px: Matrix
    information: Matrix


def refine(
    fixed: Prepared,
    moving: Prepared,
    start: tuple[float, float],
    *,
    steps: int,
    least_score: float = -1.0,
    part: Box | None = None,
) -> Refined | None:
    """The displacement near `start` (dx, dy) that best maps `moving` onto `fixed`.

    Of the overlap only what lies in `part` (px of the fixed frame) is compared, if given.

    Minimises the squared difference of the smoothed overlaps with gain and offset free
    (inverse compositional Gauss-Newton, Baker and Matthews 2004). Two choices keep it free
    of bias: the gradient is that of the frame that is never resampled, so the noise of
    both is independent of it; and the gain is the ratio of standard deviations, since
    a regression on a noisy frame underestimates it. None when the overlap is too small or
    flat, when the steps leave the peak, or when after the first one the score is below
    `least_score`: later ones gain little.
    """
    position = np.array(start, float)
    nearer = _first_step(fixed, moving, position) if part is None else None
    position = position if nearer is None else nearer
    before = (-1.0, position, position)
    seen: _Overlap | None = None
    for step in range(steps):
        whole = np.round(position).astype(int)
        if seen is None or seen.whole != (whole[0], whole[1]):
            seen = _overlap(fixed, moving, (int(whole[0]), int(whole[1])), part)
        state = _evaluate(seen, moving, position) if seen else None
        if seen is None or state is None:
            return None
        score, delta, residual, variance = state
        if part is not None and score < before[0] - 0.02:
            # A part may start far off: a low score makes its curvature small, its step too long.
            before = (before[0], before[1], before[2] / 2)
            position = before[1] - before[2]
            continue
        before = (score, position, delta)
        position = position - delta
        behind = (step > 0 or nearer is not None) and score < least_score
        if behind or np.abs(position - start).max() > _CAPTURE_PX:
            return None
        if np.abs(delta).max() < _SETTLED_PX or step == steps - 1:
            left = _Left.of(seen, residual, score, delta)
            covariance, distortion = _covariance(left)
            found = float(position[0]), float(position[1])
            both = seen.variance, variance
            return Refined(*found, score, covariance, distortion, both, left)
    return None


def _first_step(fixed: Prepared, moving: Prepared, start: Matrix) -> Matrix | None:
    """Where the middle of a large overlap steps to from `start` (2) px: near enough, for a quarter
    of the work. None for small overlaps."""
    whole = round(float(start[0])), round(float(start[1]))
    box = overlap_boxes(fixed.shape, *whole)[0]
    if box.area_px < _LARGE_PX:
        return None
    y, x = box.shape[0] // 4, box.shape[1] // 4
    middle = Box(box.y0 + y, box.x0 + x, box.y1 - y, box.x1 - x)
    seen = _overlap(fixed, moving, whole, middle)
    state = None if seen is None else _evaluate(seen, moving, start)
    return None if state is None else start - state[1]


@dataclass(frozen=True)
class _Overlap:
    """The fixed frame's side of the overlap at a whole-px displacement, and its sums.

    `gradients` (2, 2) is the sum of products of the derivatives, noise included. `mask` is 1
    where both frames have pixels and 0 beside the lines of a rectified frame, where `value`
    and `along` are 0 as well (None: pixels everywhere); `count` is the number of pixels.
    """

    whole: tuple[int, int]
    box: Box
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
        return _structure(self.gradients, self.noise(score) * self.count)

    def noise(self, score: float) -> float:
        """What noise adds to the squared gradient of a pixel along each axis."""
        return max(0.0, 1 - score) * self.variance / (2 * self.smooth_px**2)


def _structure(gradients: Matrix, noise: float) -> Matrix:
    """Sums of products (..., 2, 2) of gradients less their noise, of which a tenth is kept."""
    values, vectors = np.linalg.eigh(gradients)
    kept = np.maximum(values - noise, 0.1 * values)
    kept = np.maximum(kept, 1e-9 * np.maximum(kept.max(axis=-1, keepdims=True), 1e-9))
    return np.asarray((vectors * kept[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def _overlap(
    fixed: Prepared, moving: Prepared, whole: tuple[int, int], part: Box | None
) -> _Overlap | None:
    """The overlap at a displacement, within `part`; None where it is too small or flat."""
    box, moving_box = overlap_boxes(fixed.shape, *whole, inset_px=reach_px(fixed.smooth_px))
    if part is not None:
        box = box.intersect(part)
        moving_box = box.shift(-whole[1], -whole[0])
    if min(box.shape) < 16:
        return None
    smooth = fixed.gradients
    value, gx, gy = (v[box.slices] for v in (smooth.value, smooth.along_x, smooth.along_y))
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
        whole, box, moving_box, value, (gx, gy), mean, variance, gradients, smooth_px, count, mask
    )


def _evaluate(
    seen: _Overlap, moving: Prepared, position: Matrix
) -> tuple[float, Matrix, Image, float] | None:
    """Score, Gauss-Newton step, residual (y, x) and the moving overlap's variance at a
    displacement, None where flat.

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
    return score, np.clip(delta, -1, 1), residual, variance


@dataclass(frozen=True)
class _Left:
    """The forces (2, rows, cols) that a displacement leaves on blocks of the overlap, its score,
    and the variance of the residual."""

    seen: _Overlap
    forces: Matrix
    score: float
    variance: float

    @classmethod
    def of(cls, seen: _Overlap, residual: Image, score: float, delta: Matrix) -> _Left:
        """From the residual (y, x) before the last step `delta`."""
        gx, gy = seen.along
        left = residual - np.float32(delta[0]) * gx - np.float32(delta[1]) * gy
        height, width = left.shape
        blocks = (min(_BLOCKS, height // 8), min(_BLOCKS, width // 8))
        forces = np.stack([_block_products(g, left, blocks) for g in (gx, gy)])
        inside = left if seen.mask is None else left * seen.mask
        return cls(seen, forces, score, row_dot(inside, inside) / seen.count)

    @property
    def per_gradient(self) -> float:
        """White noise, smoothed by s, gives a force the variance 4 pi s^2 var(residual) G at
        most, with G the gradients' products: this factor of G."""
        return 4 * np.pi * self.seen.smooth_px**2 * self.variance


def _covariance(left: _Left) -> tuple[Matrix, float]:
    """Covariance (2, 2) in px^2 of the displacement, H^-1 S H^-1, and the distortion in px.

    S, the variance of the force, is seen from how the forces of parts of the overlap
    scatter: that counts correlated noise and local distortion as they are. What is above
    that of white noise is distortion, stated as the rms displacement of a part.
    """
    inverse = np.linalg.inv(left.seen.curvature(left.score))
    forces = left.forces.reshape(2, -1)
    count = forces.shape[1]
    seen_force = np.cov(forces) * count
    noise = left.per_gradient * left.seen.gradients
    beyond = np.trace(inverse @ (seen_force - noise) @ inverse) * count
    return np.asarray(inverse @ seen_force @ inverse), float(np.sqrt(max(0.0, beyond)))


def parts_of(found: Refined) -> Parts:
    """How far off the parts of the overlap are whose displacement as a whole is `found`.

    One Gauss-Newton step of each part by itself, whose information is that of white noise.
    """
    left, seen = found.left, found.left.seen
    gx, gy = seen.along
    grid = (min(_PARTS, left.forces.shape[1]), min(_PARTS, left.forces.shape[2]))
    m = grid[0] * grid[1]
    # Every other row: neighbouring rows of smoothed frames tell nearly the same.
    xx, xy, yy = (
        2 * _block_products(a[::2], b[::2], grid) for a, b in ((gx, gx), (gx, gy), (gy, gy))
    )
    gradients = np.stack([xx, xy, xy, yy], axis=-1).reshape(m, 2, 2)
    structure = _structure(gradients, seen.noise(left.score) * seen.count / m)
    pooled = np.stack([_block_sums(f, grid) for f in left.forces], axis=-1).reshape(m, 2)
    off = np.asarray(np.linalg.solve(structure, -pooled[..., None])[..., 0], np.float64)
    least = np.eye(2) * 1e-9 * max(float(gradients.max(initial=0.0)), 1e-9)
    variance = max(left.per_gradient, 1e-9) * (gradients + least)
    information = structure @ np.linalg.solve(variance, structure)
    return Parts(seen.box, grid, off, np.asarray(information, np.float64))


def _block_products(a: Image, b: Image, grid: tuple[int, int]) -> Matrix:
    """Sums (rows, cols) of products over a grid of blocks whose borders are whole px."""
    y, x = (
        np.linspace(0, n, k + 1).round().astype(int) for n, k in zip(a.shape, grid, strict=True)
    )
    out = np.empty(grid)
    for k in range(grid[1]):
        columns = slice(int(x[k]), int(x[k + 1]))
        lines = np.einsum("ij,ij->i", a[:, columns], b[:, columns])
        out[:, k] = np.add.reduceat(lines, y[:-1], dtype=np.float64)
    return out


def _block_sums(image: npt.NDArray[Any], grid: tuple[int, int]) -> Matrix:
    """Sums (rows, cols) of an image cut into a grid of blocks."""
    mean = cv2.resize(image, grid[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(mean, np.float64) * (image.size / (grid[0] * grid[1]))
