"""What one source tells about the shading of its frames: small sums, gathered while it is read.

Kernels on plain numpy. The logarithm of a frame, averaged over blocks, is the specimen's plus
the frame's level plus the shading's, ln g = sum c_j b_j over a few smooth functions. Two
looks at it are gathered: the mean of all frames, in which the specimen averages out, and the
differences of neighbouring frames where they overlap, in which it cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

DEGREE = 4  # of the polynomials in x and y together
BLOCKS = (48, 72)  # along y and x
LEAST_BLOCK_PX = 6
LEAST_SHARE = 0.15  # of a frame's width and height that a pair of frames must share
LEAST_LIKENESS = 0.3  # correlation of two looks at the same blocks
MOST_DARK = 0.5  # of a frame's blocks that may be empty
BISQUARE = 4.685  # Tukey's constant: 95 % efficient on normal residuals
ROUNDS = 8  # of re-weighting at most,
SETTLED = 1e-3  # or until what is found moves by less than this part of the scatter
DIGITS = 10

TERMS = tuple((i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j)


def shading_sample(image: npt.NDArray[Any]) -> F32:
    """Block means of a frame (y, x), float32, at most 48 x 72 of them.

    From sums over all that lies above and left of the blocks' corners (F. C. Crow, SIGGRAPH
    1984), linear between pixels.
    """
    sums = cv2.integral(image, sdepth=cv2.CV_64F)
    area = 1.0
    for axis, (most, size) in enumerate(zip(BLOCKS, image.shape, strict=True)):
        count = max(1, min(most, size // LEAST_BLOCK_PX))
        corners = np.linspace(0, size, count + 1)
        before = np.minimum(corners.astype(int), size - 1)
        part = np.expand_dims(corners - before, 1 - axis)
        sums = sums.take(before, axis) * (1 - part) + sums.take(before + 1, axis) * part
        area *= size / count
    return np.asarray(np.diff(np.diff(sums, axis=0), axis=1) / area, np.float32)


def basis(x: F64, y: F64) -> F64:
    """The smooth functions b_j at places `x`, `y` (-1 to 1 across the frame): (places, terms).

    Products of Legendre polynomials in x and in y, up to degree 4 together, without the
    constant; each has mean square 1 over the frame and mean product 0 with the others.
    """
    along_x, along_y = _legendre(np.asarray(x, np.float64)), _legendre(np.asarray(y, np.float64))
    return np.stack([along_x[i] * along_y[j] for i, j in TERMS], axis=-1)


def _legendre(t: F64) -> list[F64]:
    values = [np.ones_like(t), t]
    for n in range(1, DEGREE):
        values.append(((2 * n + 1) * t * values[n] - n * values[n - 1]) / (n + 1))
    return [np.sqrt(2 * n + 1) * value for n, value in enumerate(values)]


def centres(count: int) -> F64:
    """Centres of `count` equal blocks from -1 to 1."""
    return (2 * np.arange(count, dtype=np.float64) + 1) / count - 1


class ShadingSink:
    """Hands every frame taken on to `sink` and keeps its block means (some 14 kB each)."""

    def __init__(self, sink: Callable[[npt.NDArray[Any]], None] | None) -> None:
        self._sink = sink
        self._samples: list[F32] = []
        self._size = (1, 1)

    def __call__(self, image: npt.NDArray[Any]) -> None:
        """Takes note of the next frame (y, x), cropped and grey."""
        self._size = (image.shape[0], image.shape[1])
        self._samples.append(shading_sample(image))
        if self._sink is not None:
            self._sink(image)

    def summary(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The sums as plain JSON, with the records of the frames taken, in their order.

        The keys are those of `shading_summary`, and ``rows``: those that the frames lie in.
        """
        taken = [record for record in records if record["taken"]]
        if len(taken) != len(self._samples):
            raise InputError(f"{len(self._samples)} frames were read for {len(taken)} records.")
        kept = [n for n, record in enumerate(taken) if record["used"]]
        height, width = self._size
        places = np.array(
            [
                [
                    _number(taken[n]["x_nominal_px"]) / width,
                    _number(taken[n]["y_nominal_px"]) / height,
                ]
                for n in kept
            ],
            np.float64,
        ).reshape(-1, 2)
        rows = sorted({int(taken[n]["row"]) for n in kept})
        return {**shading_summary([self._samples[n] for n in kept], places), "rows": rows}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def shading_summary(samples: Sequence[F32], places: F64) -> dict[str, Any]:
    """What the block means of frames at `places` (n, 2: x, y in frame sizes) say, as plain JSON.

    Keys: ``frames`` (how many), ``mean`` and ``variance`` (the coefficients of `basis` in
    their mean, and the variance of that mean over the frames), ``trend`` (change of the frames'
    levels per frame size along x and y, None where unknown), ``normal``, ``right`` (normal
    equations of the overlaps, in units of their own noise), ``pairs``, ``pair_chi2`` (how
    much more the pairs scatter than their noise explains) and ``step`` (means over the pairs:
    what each term adds from the one frame to the next at the same specimen, and at last by
    how much the brightness does differ there).
    """
    kept = [n for n, sample in enumerate(samples) if (sample <= 0).mean() <= MOST_DARK]
    places = places[kept]
    terms = len(TERMS)
    if not kept:
        return {"frames": 0, "mean": [0.0] * terms, "variance": [0.0] * terms, "trend": [None] * 2,
                "normal": [], "right": [], "pairs": 0, "pair_chi2": 0.0,
                "step": None}  # fmt: skip
    grids = [np.asarray(samples[n], np.float64) for n in kept]
    logs = np.full((len(grids), grids[0].size), np.nan)
    for row, grid in zip(logs, grids, strict=True):
        positive = grid.ravel() > 0
        row[positive] = np.log(grid.ravel()[positive])
    design = grid_basis(grids[0].shape)
    mean, variance, levels = _mean_of_frames(logs, design)
    overlaps = _Overlaps(mean)
    for n in range(len(grids) - 1):
        overlaps.add(grids[n], grids[n + 1], places[n + 1] - places[n])
    return {
        "frames": len(grids),
        "mean": _rounded(mean),
        "variance": _rounded(variance),
        "trend": [_trend(levels, places[:, axis]) for axis in (0, 1)],
        "normal": [_rounded(row) for row in overlaps.normal] if overlaps.pairs else [],
        "right": _rounded(overlaps.right) if overlaps.pairs else [],
        "pairs": overlaps.pairs,
        "pair_chi2": float(f"{overlaps.chi2():.6g}"),
        "step": overlaps.step(),
    }


def grid_basis(shape: tuple[int, ...]) -> F64:
    """`basis` at the centres of a grid of blocks, (blocks, terms)."""
    y, x = np.meshgrid(centres(shape[0]), centres(shape[1]), indexing="ij")
    return basis(x.ravel(), y.ravel())


def _rounded(values: F64) -> list[float]:
    return [float(f"{v:.{DIGITS}g}") for v in values]


def _mean_of_frames(logs: F64, design: F64) -> tuple[F64, F64, F64]:
    """(coefficients, their variances, frames' levels), iteratively re-weighted least squares.

    Each block of each frame is weighted by its residual (bisquare), so that dendrites, pores
    and resin, which differ far more than shading, do not print through. The variance is that
    of the frames' contributions, neighbours' likeness included (M. Newey, K. West,
    Econometrica 55 (1987) 703, one lag).
    """
    known = np.isfinite(logs)
    values = np.where(known, logs, 0.0)
    levels = np.nanmedian(logs, axis=1)
    coefficients = np.zeros(design.shape[1])
    weights = known.astype(np.float64)
    scatter = float((values - levels[:, None])[known].std())
    for _ in range(ROUNDS):
        before = coefficients
        residuals = values - levels[:, None] - design @ coefficients
        weights = bisquare(residuals, known)
        total = np.maximum(weights.sum(axis=1), 1e-9)
        levels = (weights * (values - design @ coefficients)).sum(axis=1) / total
        normal = design.T @ (design * weights.sum(axis=0)[:, None])
        right = design.T @ (weights * (values - levels[:, None])).sum(axis=0)
        coefficients = np.linalg.solve(normal + 1e-9 * np.eye(len(normal)), right)
        if np.abs(coefficients - before).max() <= SETTLED * scatter:
            break
    residuals = values - levels[:, None] - design @ coefficients
    each = (weights * residuals) @ design  # (frames, terms)
    n = len(each)
    each = np.linalg.solve(normal + 1e-9 * np.eye(len(normal)), each.T).T
    each -= each.mean(axis=0)
    own = (each**2).sum(axis=0)
    neighbours = (each[1:] * each[:-1]).sum(axis=0)
    variance = np.maximum(own, own + 2 * neighbours) * n / max(n - 1, 1)
    return coefficients, variance, levels


def bisquare(residuals: F64, known: npt.NDArray[np.bool_]) -> F64:
    """Tukey's weights (0 to 1) of residuals, scaled by their median magnitude; 0 if unknown."""
    scale = 1.4826 * float(np.median(np.abs(residuals[known]))) if known.any() else 1.0
    ratio = np.clip(np.abs(residuals) / max(BISQUARE * scale, 1e-9), 0, 1)
    return np.where(known, (1 - ratio**2) ** 2, 0.0)


def _trend(levels: F64, places: F64) -> float | None:
    """Slope of the frames' levels per frame size; None below 2 frame sizes or 4 frames."""
    known = np.isfinite(places) & np.isfinite(levels)
    x, values = places[known], levels[known]
    if len(x) < 4 or np.ptp(x) < 2:
        return None
    slopes = np.subtract.outer(values, values), np.subtract.outer(x, x)
    far = np.triu(np.abs(slopes[1]) >= 0.5)
    # Theil-Sen: the median of the slopes of all pairs, so that single levels do not matter.
    return float(f"{np.median(slopes[0][far] / slopes[1][far]):.{DIGITS}g}")


class _Overlaps:
    """Normal equations of the differences of neighbouring frames at the same specimen."""

    def __init__(self, first_guess: F64) -> None:
        terms = len(first_guess)
        self._guess = first_guess
        self.normal = np.zeros((terms, terms))
        self.right = np.zeros(terms)
        self.pairs = 0
        self._steps = np.zeros(terms + 1)
        self._each: list[tuple[F64, F64]] = []

    def add(self, fixed: F64, moving: F64, step: F64) -> None:
        """Adds the part that two frames share; `step`: moving less fixed, in frame sizes."""
        if not np.isfinite(step).all() or np.abs(step).max() > 1 - LEAST_SHARE:
            return
        shape = fixed.shape
        shift = step[1] * shape[0], step[0] * shape[1]  # in blocks, y then x
        shared = [_shared(size, s) for size, s in zip(shape, shift, strict=True)]
        there = fixed[shared[0][0], shared[1][0]]
        here = _between(moving, shared[0][1], shared[1][1])
        valid = ((there > 0) & (here > 0)).ravel()
        if valid.sum() < 4 * len(self.right):
            return
        y = [centres(shape[0])[shared[0][0]], _at(shape[0], shared[0][1])]
        x = [centres(shape[1])[shared[1][0]], _at(shape[1], shared[1][1])]
        designs = [
            basis(*(part.ravel()[valid] for part in np.meshgrid(u, v)))
            for u, v in zip(x, y, strict=True)
        ]
        logs = [np.log(part.ravel()[valid]) for part in (there, here)]
        alike = [log - design @ self._guess for log, design in zip(logs, designs, strict=True)]
        if not _correlation(*alike) >= LEAST_LIKENESS:
            return
        self._add(designs[1] - designs[0], logs[1] - logs[0])

    def _add(self, design: F64, difference: F64) -> None:
        weights = np.ones(len(difference))
        known = np.ones(len(difference), bool)
        flat = difference - design @ self._guess
        level, scatter = float(flat.mean()), float(flat.std())
        for _ in range(ROUNDS):
            weights = bisquare(flat - level, known)
            before, level = level, float(np.average(flat, weights=weights))
            if abs(level - before) <= SETTLED * scatter:
                break
        here = np.average(design, axis=0, weights=weights)
        there = float(np.average(difference, weights=weights))
        self._steps += np.append(here, there)
        design, difference = design - here, difference - there
        residuals = difference - design @ self._guess
        noise = max(float(np.average(residuals**2, weights=weights)), 1e-12)
        normal = design.T @ (design * weights[:, None]) / noise
        right = design.T @ (weights * difference) / noise
        self.normal += normal
        self.right += right
        self.pairs += 1
        self._each.append((normal, right))

    def step(self) -> list[float] | None:
        """Mean over the pairs of what the terms, and at last the brightness, differ by."""
        return _rounded(self._steps / self.pairs) if self.pairs else None

    def chi2(self) -> float:
        """Mean square of the pairs' deviations from their common solution per their noise."""
        if not self.pairs:
            return 0.0
        terms = len(self.right)
        common = np.linalg.lstsq(self.normal, self.right, rcond=1e-6)[0]
        found = []
        for normal, right in self._each:
            values, vectors = np.linalg.eigh(normal)
            good = values > 1e-6 * values[-1]
            score = vectors[:, good].T @ (right - normal @ common)
            found.append(float((score**2 / values[good]).sum()) / terms)
        return float(np.mean(found))


def _shared(count: int, shift: float) -> tuple[slice, F64]:
    """(blocks of the fixed frame, the same places in blocks of the moving one)."""
    first = max(0, int(np.ceil(shift)))
    last = min(count - 1, int(np.floor(count - 1 + shift)))
    last = max(first - 1, last)
    return slice(first, last + 1), np.arange(first, last + 1, dtype=np.float64) - shift


def _at(count: int, blocks: F64) -> F64:
    return np.asarray((2 * blocks + 1) / count - 1, np.float64)


def _between(grid: F64, y: F64, x: F64) -> F64:
    """The grid at fractional blocks y, x, linear between blocks."""
    rows = np.clip(np.floor(y).astype(int), 0, max(0, grid.shape[0] - 2))
    cols = np.clip(np.floor(x).astype(int), 0, max(0, grid.shape[1] - 2))
    down, right = (y - rows)[:, None], (x - cols)[None, :]
    lines = grid[rows] * (1 - down) + grid[rows + 1] * down
    return np.asarray(lines[:, cols] * (1 - right) + lines[:, cols + 1] * right, np.float64)


def _correlation(first: F64, second: F64) -> float:
    first, second = first - first.mean(), second - second.mean()
    power = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / power if power > 0 else 0.0
