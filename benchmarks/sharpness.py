"""How much of the lamellae's modulation the mosaic keeps, per blending method.

Noise-free waves of known period and direction are sampled exactly in overlapping frames at
random subpixel positions, blended, and fitted in patches of 24 px. 1 is the modulation of a
single frame. `--error` moves the frames by random position errors that the layout does not know
of. The rows in brackets resample and average with ordinary interpolation, for comparison.

    python benchmarks/sharpness.py
    python benchmarks/sharpness.py --error 0.1
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import show
from scipy.ndimage import shift

from cemi_dask.blend import BLENDERS, blend
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Layout

Floats = npt.NDArray[np.float64]
SHAPE = (192, 256)
PITCH = (110, 140)
ROWS, COLS = 3, 3
BORDER = 24  # px of the mosaic's outline that are left out of the fit
PATCH = 24


def main() -> None:
    """Print one row per method and period."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--periods", type=float, nargs="+", default=[2.7, 5.4], help="px")
    parser.add_argument("--error", type=float, default=0.0, help="sigma of position errors, px")
    parser.add_argument("--trials", type=int, default=12, help="directions and sets of positions")
    given = parser.parse_args()
    rows: list[list[Any]] = []
    for name in [*BLENDERS.classes(), "(linear interpolation)", "(cubic spline)"]:
        row: list[Any] = [name]
        for period in given.periods:
            kept = [trial(name, period, given.error, seed) for seed in range(given.trials)]
            row += [statistics.median(kept), min(kept)]
        rows.append(row)
    header = [f"{what}, {p:g} px" for p in given.periods for what in ("median", "least")]
    show(["method", *header], rows)
    print(f"{ROWS} x {COLS} frames, {given.trials} trials, position errors {given.error:g} px")


def trial(name: str, period_px: float, error_px: float, seed: int) -> float:
    """Modulation left in the mosaic of one set of frames."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi)
    wave = 2 * np.pi / period_px * np.array([np.cos(angle), np.sin(angle)])
    row, col = np.divmod(np.arange(ROWS * COLS), COLS)
    x = col * PITCH[1] + rng.uniform(0, 1, row.size)
    y = row * PITCH[0] + rng.uniform(0, 1, row.size)
    x, y = x - x.min(), y - y.min()
    true_x, true_y = (v + rng.normal(0, error_px, v.size) for v in (x, y))
    frames = np.stack([picture(u, v, SHAPE, wave) for u, v in zip(true_x, true_y, strict=True)])
    layout = Layout(x, y, SHAPE)
    if name in BLENDERS.classes():
        mosaic = blend(Frames.from_array(frames), layout, method=name).compute()
    else:
        mosaic = plain_mean(frames, layout, order=1 if name == "(linear interpolation)" else 3)
    return modulation(mosaic, wave) / modulation(frames[0], wave)


def picture(x0: float, y0: float, shape: tuple[int, int], wave: Floats) -> npt.NDArray[np.float32]:
    """The wave seen by a frame whose first pixel lies at (x0, y0)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (128 + 50 * np.cos(wave[0] * (x + x0) + wave[1] * (y + y0))).astype(np.float32)


def plain_mean(frames: npt.NDArray[Any], layout: Layout, *, order: int) -> Floats:
    """Mean of frames shifted by spline interpolation."""
    total, count = np.zeros(layout.shape), np.zeros(layout.shape)
    for frame, x, y in zip(frames, layout.x_px, layout.y_px, strict=True):
        left, top = int(np.floor(x)), int(np.floor(y))
        moved = shift(frame, (y - top, x - left), order=order, mode="nearest")
        place = np.s_[top : top + SHAPE[0], left : left + SHAPE[1]]
        total[place] += moved
        count[place] += 1
    return total / np.maximum(count, 1)


def modulation(mosaic: npt.NDArray[Any], wave: Floats) -> float:
    """Mean amplitude of the wave over square patches, its outline left out, by least squares.

    Patch by patch, because a phase that jumps from frame to frame is no loss of modulation.
    """
    y, x = np.mgrid[:PATCH, :PATCH]
    phase = (wave[0] * x + wave[1] * y).ravel()
    design = np.stack([np.cos(phase), np.sin(phase), np.ones(phase.size)], axis=1)
    inner = mosaic[BORDER:-BORDER, BORDER:-BORDER].astype(float)
    rows, cols = inner.shape[0] // PATCH, inner.shape[1] // PATCH
    patches = inner[: rows * PATCH, : cols * PATCH].reshape(rows, PATCH, cols, PATCH)
    flat = patches.transpose(1, 3, 0, 2).reshape(PATCH * PATCH, -1)
    a, b, _ = np.linalg.lstsq(design, flat, rcond=None)[0]
    return float(np.hypot(a, b).mean())


if __name__ == "__main__":
    main()
