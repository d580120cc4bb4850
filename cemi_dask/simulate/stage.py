"""Where the stage stands for every recorded frame: rows of video, or a grid of tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.simulate.lattice import Float64
from cemi_dask.simulate.microscope import Microscope


@dataclass(frozen=True)
class ScanPath:
    """Corners and brightness of the frames of one row, in recording order.

    `y_px`, `x_px` (n,) are the centres of each frame's pixel (0, 0) in specimen px; `col` its
    place in the grid (-1 in a video); `nominal_y_px`, `nominal_x_px` what the stage reports;
    `gain` the brightness; `blank` whether the frame shows no specimen.
    """

    y_px: Float64
    x_px: Float64
    col: npt.NDArray[np.int64]
    nominal_y_px: Float64
    nominal_x_px: Float64
    gain: Float64
    blank: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x_px)


@dataclass(frozen=True)
class ScanPlan:
    """A raster scan: its pitches and how many frames are recorded."""

    rows: int
    frames_per_row: int
    looks: int
    pitch_px: tuple[float, float]
    serpentine: bool
    blank_fraction: float
    seed: int


def slow_curve(rng: np.random.Generator, at: Float64) -> Float64:
    """A smooth random curve within (-1, 1) over positions `at` in 0..1: three slow waves."""
    total = np.zeros_like(at)
    for waves, weight in ((0.7, 0.5), (1.9, 0.3), (4.3, 0.2)):
        total += weight * np.sin(2 * np.pi * (waves * at + rng.random()))
    return total


def video_path(plan: ScanPlan, microscope: Microscope, row: int) -> ScanPath:
    """The frames of a row recorded while the stage moves: `looks` per pitch, along x."""
    rng = np.random.default_rng([plan.seed, 1, row])
    n = (plan.frames_per_row - 1) * plan.looks + 1
    pitch_y, pitch_x = plan.pitch_px
    at = np.linspace(0.0, 1.0, n)
    speed = 1 + microscope.velocity_variation * slow_curve(rng, at)
    x = np.concatenate([[0.0], np.cumsum(speed[:-1])])
    # The row's length is kept, so that rows cover the same part of the specimen.
    x *= pitch_x * (plan.frames_per_row - 1) / max(x[-1], 1e-9)
    backwards = plan.serpentine and row % 2 == 1
    if backwards:
        x = x[-1] - x
    start = rng.uniform(-1, 1) * microscope.row_start_px
    drift = microscope.row_drift_px * (at - 0.5) * rng.uniform(-1, 1)
    drift += 0.25 * microscope.row_drift_px * slow_curve(rng, at)
    y = row * pitch_y + rng.uniform(-1, 1) * microscope.row_pitch_px + drift
    jitter = microscope.jitter_px * rng.standard_normal((2, n))
    return ScanPath(
        y_px=y + jitter[0],
        x_px=x + start + jitter[1],
        col=np.full(n, -1),
        nominal_y_px=np.full(n, np.nan),
        nominal_x_px=np.full(n, np.nan),
        gain=1 + microscope.gain_drift * slow_curve(rng, at),
        blank=_blank(rng, n, plan.blank_fraction),
    )


def tile_path(plan: ScanPlan, microscope: Microscope, row: int) -> ScanPath:
    """The tiles of a row, taken at rest at stage positions that are wrong by the stage error."""
    rng = np.random.default_rng([plan.seed, 2, row])
    n = plan.frames_per_row
    pitch_y, pitch_x = plan.pitch_px
    col = np.arange(n)[::-1] if plan.serpentine and row % 2 == 1 else np.arange(n)
    nominal_x = pitch_x * col.astype(np.float64)
    nominal_y = np.full(n, row * pitch_y)
    return ScanPath(
        y_px=nominal_y + microscope.stage_y_px * rng.uniform(-1, 1, n),
        x_px=nominal_x + microscope.stage_x_px * rng.uniform(-1, 1, n),
        col=col,
        nominal_y_px=nominal_y,
        nominal_x_px=nominal_x,
        gain=1 + microscope.gain_drift * slow_curve(rng, np.linspace(0.0, 1.0, n)),
        blank=_blank(rng, n, plan.blank_fraction),
    )


def _blank(rng: np.random.Generator, n: int, fraction: float) -> npt.NDArray[np.bool_]:
    blank = np.zeros(n, np.bool_)
    blank[rng.permutation(n)[: round(fraction * n)]] = True
    return blank
