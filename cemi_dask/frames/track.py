"""Where a frame lies against another, to hundredths of a pixel, and how they are sheared.

The place must be known to about two pixels. Works on the reduced pictures of `Look`, in bands
of lines: a frame that was scanned while the stage changed its speed shows as bands that do
not lie on one line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.frames.motion import Look, Slopes
from cemi_dask.frames.texture import F32
from cemi_dask.resample import gaussian_kernel, gaussian_slope, separable, shift_taps

F64 = npt.NDArray[np.float64]

SMOOTH_PX = 0.8  # Gaussian sigma on the reduced picture
REACH_PX = 4
HELD_PX = 0.8  # that a smoothing kernel of this reach may also shift
BANDS = 6
WIDTH_PX = 256  # columns compared: enough for hundredths of a pixel
STEPS = 8
LAST_STEP_PX = 0.03  # reduced px; the step itself is still taken
SETTLED_PX = 0.5  # reduced px
OVERSHOT = 0.25  # of a step, by which the next one leads back: then steps are too long
LEAN_STEP_PX = 3.0  # by which a step may move the outermost lines
CAPTURE_PX = 2.5  # a step further from the start has left its peak
LEAST_LINES, LEAST_COLUMNS = 24, 24
PARTS = 16  # of a reduced px, to which lines are moved to undo a shear
STRAIGHT_PX = 0.3  # a relative shear that moves no line by more is not undone first


@dataclass(frozen=True)
class Track:
    """Displacement (full px) of a frame at its middle line, its shear against the reference
    (px per px), the correlation of the smoothed overlap, by how much its bands of lines miss
    one straight line (rms, full px), and the correlation of every band."""

    dx_px: float
    dy_px: float
    shear: float
    score: float
    bend_px: float
    bands: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Lines:
    """Sums over the columns of every line of the overlap.

    `line` (m) counts from the new picture's middle line; `force` (m, 2) and `curvature`
    (m, 2, 2) are those of the least-squares step; `products` (m, 3) those of both pictures
    less their means, reference squared, mixed, new squared.
    """

    line: F64
    force: F64
    curvature: F64
    products: F64
    score: float

    def cuts(self) -> npt.NDArray[np.intp]:
        """The first line of every band."""
        return np.linspace(0, len(self.line), BANDS + 1).round().astype(np.intp)[:-1]

    def band_scores(self) -> tuple[float, ...]:
        """The correlation of the pictures in every band."""
        first, mixed, second = np.add.reduceat(self.products, self.cuts()).T
        scores = mixed / np.sqrt(np.maximum(first * second, 1e-12))
        return tuple(float(v) for v in scores)


@dataclass(frozen=True)
class _Fixed:
    """The reference's side of an overlap: whole px (right, down) of the displacement, its box
    (top, bottom, left, end), and three pictures: less their mean, slopes along x and y.

    By line: `sums` (m, 3) of the pictures, `mixed` (m, 3) of their products with the first,
    `curvature` (m, 2, 2) of the products of the slopes. `std`: standard deviation of the first.
    """

    whole: tuple[int, int]
    box: tuple[int, int, int, int]
    pictures: tuple[F32, F32, F32]
    sums: F64
    mixed: F64
    curvature: F64
    std: float


def track(
    reference: Look, new: Look, start: tuple[float, float], *, shear: float = 0.0
) -> Track | None:
    """Where `new` lies against `reference` near `start` (dx, dy full px), None where it is lost.

    Gauss-Newton steps on the squared difference of the smoothed overlap with gain and
    offset free; the gradient is that of the reference, which is never resampled (inverse
    compositional: Baker and Matthews 2004). Displacement and shear are solved for together;
    `shear` is the expected one.
    """
    slopes = reference.slopes(_smoothed)
    place = np.array(start, np.float64) / new.factor
    begun = place.copy()
    half = (new.small.shape[0] - 1) / 2
    if abs(shear) * half <= STRAIGHT_PX:
        shear = 0.0
    small = leant(new.small, shear) if shear else new.small
    fixed: _Fixed | None = None
    last, part = np.zeros(2), 1.0
    for _ in range(STEPS):
        if fixed is None or np.abs(place - fixed.whole).max() > HELD_PX:
            fixed = _fixed_part(slopes, place)
        lines = None if fixed is None else _compare(fixed, small, place)
        if lines is None:
            return None
        dx, dy, tilt = _step(lines)
        if max(abs(dx), abs(dy)) > SETTLED_PX:
            # Far from its place a picture's lines tell nothing of its shear.
            dx, dy, tilt = _step(lines, lean=False)
        # Noise that is not white (compressed pictures) lets the curvature be taken too low.
        back = -float(last @ (dx, dy)) / max(float(last @ last), 1e-12)
        if OVERSHOT < back < 1 / OVERSHOT:
            part /= 1 + back
        last = np.array([dx, dy])
        dx, dy = part * dx, part * dy
        step = np.array([dx, dy])
        if np.abs(place - step - begun).max() > CAPTURE_PX:
            return None
        leaning = abs(tilt) * half > STRAIGHT_PX
        if tilt and not leaning and max(abs(dx), abs(dy)) < LAST_STEP_PX:
            x, y = (float(v) * new.factor for v in place - step)
            bend = _bend(lines, (dx, dy, tilt)) * new.factor
            return Track(x, y, shear - tilt, lines.score, bend, lines.band_scores())
        place = place - np.clip(step, -1.0, 1.0)
        if leaning:
            shear -= float(np.clip(tilt, -LEAN_STEP_PX / half, LEAN_STEP_PX / half))
            small = leant(new.small, shear)
    return None


def leant(small: F32, shear: float, *, parts: int = PARTS) -> F32:
    """A picture whose line y is moved right by ``shear * y`` (from its middle).

    To 1 / `parts` px, so that many lines are filtered together: how far they miss their places
    changes sign every few lines. What lies outside the picture is 0.
    """
    height, width = small.shape
    steps = np.rint(shear * parts * (np.arange(height) - (height - 1) / 2)).astype(np.intp)
    whole = (steps + parts // 2) // parts
    rest = steps - whole * parts
    between = small.copy()
    for step in np.unique(rest[rest != 0]).tolist():
        taps, lines = _taps(step, parts), rest == step
        between[lines] = cv2.filter2D(small[lines], -1, taps, borderType=cv2.BORDER_REFLECT_101)
    moved = np.zeros_like(small)
    starts = np.flatnonzero(np.diff(whole, prepend=whole[0] - 1)).tolist()
    for top, bottom in pairwise([*starts, height]):
        right = int(whole[top])
        first, last = max(0, right), min(width, width + right)
        if first < last:
            moved[top:bottom, first:last] = between[top:bottom, first - right : last - right]
    return moved


@lru_cache(maxsize=2 * PARTS)
def _taps(rest: int, parts: int) -> F32:
    """The filter that moves a line right by ``rest / parts`` px."""
    return np.asarray(shift_taps(-rest / parts)[None], np.float32)


def _smoothed(small: F32) -> Slopes:
    blur, slope = _kernel(0.0), _slope()
    return Slopes(
        separable(small, blur, blur), separable(small, slope, blur), separable(small, blur, slope)
    )


def _compare(fixed: _Fixed, small: F32, place: F64) -> _Lines | None:
    """The two pictures (y, x) line by line at displacement `place` (reduced px)."""
    (right, down), (top, bottom, left, end), reach = fixed.whole, fixed.box, REACH_PX
    there = small[
        top - down - reach : bottom - down + reach, left - right - reach : end - right + reach
    ]
    rest = place - fixed.whole
    moved = separable(there, _kernel(float(rest[0])), _kernel(float(rest[1])))
    moved = moved[reach:-reach, reach:-reach]
    # What the mean takes off is taken off the sums: that costs no further look at the pixels.
    own, squares, width = _line_sums(moved), _by_line(moved, moved), end - left
    mean = float(own.sum()) / moved.size
    std = float(np.sqrt(max(0.0, float(squares.sum()) / moved.size - mean**2)))
    if min(fixed.std, std) <= 1e-6:
        return None
    mixed = np.stack([_by_line(p, moved) for p in fixed.pictures], axis=1) - mean * fixed.sums
    squares = squares - 2 * mean * own + width * mean**2
    products = np.stack([fixed.mixed[:, 0], mixed[:, 0], squares], axis=1)
    score = float(mixed[:, 0].sum()) / (moved.size * fixed.std * std)
    force = fixed.mixed[:, 1:] - (fixed.std / std) * mixed[:, 1:]
    # Noise has gradients too, which would make the steps too short. What it adds is taken off
    # in proportion: along lamellae there is little else, and steps there must stay short.
    noise = max(0.0, 1 - score) * fixed.std**2 * moved.size / (2 * SMOOTH_PX**2)
    (xx, xy), (_, yy) = fixed.curvature.sum(axis=0).tolist()
    largest = (xx + yy) / 2 + math.hypot((xx - yy) / 2, xy)  # eigenvalue
    curvature = fixed.curvature * max(0.1, 1 - noise / max(largest, 1e-12))
    line = np.arange(top, bottom) - down - (small.shape[0] - 1) / 2
    return _Lines(line, force, curvature, products, score)


def _fixed_part(fixed: Slopes, place: F64) -> _Fixed | None:
    """The reference's side of the overlap at about a displacement; None if too small."""
    height, width = fixed.value.shape
    right, down = (round(float(v)) for v in place)
    reach = REACH_PX
    top, bottom = max(reach, down + reach), min(height, height + down) - reach
    left, end = max(reach, right + reach), min(width, width + right) - reach
    if bottom - top < LEAST_LINES or end - left < LEAST_COLUMNS:
        return None
    if end - left > WIDTH_PX:
        left = (left + end - WIDTH_PX) // 2
        end = left + WIDTH_PX
    value, x, y = (v[top:bottom, left:end] for v in (fixed.value, fixed.along_x, fixed.along_y))
    mean, std = (float(v[0, 0]) for v in cv2.meanStdDev(value))
    pictures = (value - np.float32(mean), x, y)
    sums = np.stack([_line_sums(p) for p in pictures], axis=1)
    mixed = np.stack([_by_line(pictures[0], p) for p in pictures], axis=1)
    xx, xy, yy = _by_line(x, x), _by_line(x, y), _by_line(y, y)
    curvature = np.stack([xx, xy, xy, yy], axis=1).reshape(-1, 2, 2)
    return _Fixed((right, down), (top, bottom, left, end), pictures, sums, mixed, curvature, std)


def _step(lines: _Lines, *, lean: bool = True) -> tuple[float, float, float]:
    """The least-squares step (dx, dy reduced px; tilt px per px) for all lines together.

    Without `lean` the tilt is held.
    """
    u, curvature, force = lines.line, lines.curvature, lines.force
    xx, xy, yy = curvature[:, 0, 0], curvature[:, 0, 1], curvature[:, 1, 1]
    normal = np.array(
        [
            [xx.sum(), xy.sum(), u @ xx],
            [xy.sum(), yy.sum(), u @ xy],
            [u @ xx, u @ xy, u**2 @ xx],
        ]
    )
    pull = np.array([force[:, 0].sum(), force[:, 1].sum(), u @ force[:, 0]])
    scale = 1 / np.sqrt(np.diag(normal) + 1e-12)
    even = normal * np.outer(scale, scale) + 1e-6 * np.eye(3)
    found = np.zeros(3)
    free = slice(3 if lean else 2)
    found[free] = scale[free] * np.linalg.solve(even[free, free], (scale * pull)[free])
    return float(found[0]), float(found[1]), float(found[2])


def _bend(lines: _Lines, step: tuple[float, float, float]) -> float:
    """By how much bands of lines miss, along x, the straight line that the step leads to.

    Root mean square in reduced px, each band weighted by what it tells.
    """
    dx, dy, tilt = step
    xx, xy = lines.curvature[:, 0, 0], lines.curvature[:, 0, 1]
    left = lines.force[:, 0] - xx * (dx + tilt * lines.line) - xy * dy
    cuts = lines.cuts()
    left, weight = np.add.reduceat(left, cuts), np.add.reduceat(xx, cuts)
    total = float(weight.sum())
    if total <= 0:
        return float("inf")
    return float(np.sqrt((left**2 / np.maximum(weight, 1e-9 * total)).sum() / total))


def _line_sums(a: F32) -> F64:
    return np.asarray(cv2.reduce(a, 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F), np.float64).ravel()


def _by_line(a: F32, b: F32) -> F64:
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float64)


def _kernel(shift_px: float) -> F32:
    return gaussian_kernel(SMOOTH_PX, shift_px, reach=REACH_PX)


@lru_cache(maxsize=1)
def _slope() -> F32:
    return gaussian_slope(SMOOTH_PX, reach=REACH_PX)
