"""Scans that run while the stage moves: their lines' places, and the screen that shows them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.resample import MARGIN_PX, shift_rows
from cemi_dask.simulate.lattice import Float32, Float64
from cemi_dask.simulate.motion import Motion
from cemi_dask.simulate.recording import Recording
from cemi_dask.simulate.specimen import Scene

# A scan is steady where its lines keep to a straight line so well.
STEADY_PX = 0.25
# Rounding of times must not move the refresh line by one.
TINY_LINES = 1e-6


@dataclass(frozen=True)
class Raster:
    """When each line of each scan is taken: line y of scan n at start + (n + y/H_eff) period.

    Times are in recorded frames. Scan 0 is the one that runs at time 0; `lines_per_period`
    (H_eff) is `lines` plus those that the flyback would have taken.
    """

    period: float
    lines: int
    lines_per_period: float
    start: float

    @classmethod
    def of(cls, recording: Recording, lines: int) -> Raster:
        """The raster of a recording with a scan period, over `lines` lines."""
        period, taken = recording.scan_frames or 1.0, 1 - recording.flyback
        return cls(period, lines, lines / taken, -recording.refresh_start * taken * period)

    def line_times(self, scan: int) -> Float64:
        """Times (lines,) at which the lines of a scan are taken."""
        share = np.arange(self.lines) / self.lines_per_period
        return self.start + self.period * (scan + share)

    def middle_time(self, scan: npt.NDArray[np.int64]) -> Float64:
        """Times of the scans' middle lines (between two lines where their number is even)."""
        middle = (self.lines - 1) / 2 / self.lines_per_period
        return np.asarray(self.start + self.period * (scan + middle), np.float64)

    def screen(self, time: Float64) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The scan completed last at each time, and how many lines of the next one are shown.

        No lines are shown of a next scan that is complete, or has not begun: 0.
        """
        phase = (time - self.start) / self.period
        running = np.floor(phase + TINY_LINES / self.lines_per_period).astype(np.int64)
        shown = np.floor((phase - running) * self.lines_per_period + TINY_LINES).astype(np.int64)
        complete = shown >= self.lines
        return np.where(complete, running, running - 1), np.where(complete, 0, shown)


@dataclass(frozen=True)
class Scans:
    """The scans of one row: number -1 (complete when the recording starts), 0, 1, ...

    Arrays are indexed by number + 1: `jitter_px` (2, n) moves a whole scan (y, x), `gain` is
    its brightness, `blank` whether it shows no specimen.
    """

    raster: Raster
    motion: Motion
    jitter_px: Float64
    gain: Float64
    blank: npt.NDArray[np.bool_]

    def lines_x(self, scan: int) -> Float64:
        """Places in x (lines,) of the first pixels of a scan's lines."""
        times = self.raster.line_times(scan)
        return self.motion.x_at(times) + self.jitter_px[1, scan + 1]

    def corner(self, scan: int) -> tuple[float, float]:
        """Corner (y, x) of a scan: the place of its middle line."""
        time = self.raster.middle_time(np.array([scan]))
        y, x = self.motion.y_at(time)[0], self.motion.x_at(time)[0]
        return float(y + self.jitter_px[0, scan + 1]), float(x + self.jitter_px[1, scan + 1])

    def shear(self, scan: int) -> tuple[float, bool]:
        """Shear in px per line from the first to the last line, and whether the scan is steady."""
        x, middle = self.lines_x(scan), self.corner(scan)[1]
        line = np.arange(len(x)) - (len(x) - 1) / 2
        shear = float(x[-1] - x[0]) / max(len(x) - 1, 1)
        return shear, bool(np.abs(x - middle - shear * line).max() <= STEADY_PX)


def render_scan(
    scene: Scene,
    corner: tuple[float, float],
    lines_x: Float64,
    width: int,
    *,
    psf_sigma_px: float,
) -> Float32:
    """Noise-free scan (lines, width) whose line y starts at ``lines_x[y]``.

    The scene is rendered once, wide enough, with its middle at `corner` (y, x) and two samples
    per px; lines are then read from it at their places. The motion in y within a scan is
    neglected.
    """
    y, x = corner
    offset = lines_x - x
    left = MARGIN_PX + int(np.ceil(-offset.min()))
    right = MARGIN_PX + int(np.ceil(offset.max()))
    shape = (len(lines_x), left + width + right)
    # Edges hold frequencies beyond the row filter's band; at twice the sampling it passes them.
    fine = np.empty((shape[0], 2 * shape[1]), np.float32)
    for part in (0, 1):
        start = x - left + 0.5 * part
        fine[:, part::2] = scene.image(y, start, shape, psf_sigma_px=psf_sigma_px)
    lines = shift_rows(fine, -2 * (left + offset))[:, : 2 * width : 2]
    return np.clip(lines, 0, 255)


def render_smeared(
    scene: Scene,
    corner: tuple[float, float],
    shape: tuple[int, int],
    *,
    smear_px: int,
    psf_sigma_px: float,
) -> Float32:
    """Noise-free frame averaged over an even number of px along x, centred at its corner."""
    half = smear_px // 2
    wide_shape = (shape[0], shape[1] + 2 * half)
    wide = scene.image(corner[0], corner[1] - half, wide_shape, psf_sigma_px=psf_sigma_px)
    taps = np.full((1, 2 * half + 1), 1 / (2 * half), np.float32)
    taps[0, [0, -1]] /= 2  # trapezoidal rule over the smear
    smeared = cv2.filter2D(wide, cv2.CV_32F, taps, borderType=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(smeared[:, half : half + shape[1]], np.float32)
