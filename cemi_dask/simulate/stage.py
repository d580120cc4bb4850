"""Where the stage stands for every recorded frame: rows of video, or a grid of tiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError
from cemi_dask.simulate.lattice import Float64
from cemi_dask.simulate.microscope import Microscope
from cemi_dask.simulate.motion import Motion, plan_motion
from cemi_dask.simulate.recording import JUMP_PX, REVERSAL_WIDTHS, Recording
from cemi_dask.simulate.scans import Raster, Scans


@dataclass(frozen=True)
class ScanPath:
    """Corners and brightness of the frames of one row, in recording order.

    `y_px`, `x_px` (n,) are the centres of each frame's pixel (0, 0) in specimen px; `col` its
    place in the grid (-1 in a video); `nominal_y_px`, `nominal_x_px` what the stage reports;
    `gain` the brightness; `blank` whether the frame shows no specimen; `smear_px` how far it
    is smeared along x.

    Where `scans` is set, lines are taken one after the other: places, gain and blank are those
    of the scan completed last, `scan` its number, and `refresh_px` lines of the next one are
    shown above it; `shear` is its px in x per line and `steady` whether that is all.
    """

    y_px: Float64
    x_px: Float64
    col: npt.NDArray[np.int64]
    nominal_y_px: Float64
    nominal_x_px: Float64
    gain: Float64
    blank: npt.NDArray[np.bool_]
    refresh_px: npt.NDArray[np.int64]
    scan: npt.NDArray[np.int64]
    shear: Float64
    steady: npt.NDArray[np.bool_]
    smear_px: Float64
    scans: Scans | None = None

    def __len__(self) -> int:
        return len(self.x_px)


@dataclass(frozen=True)
class ScanPlan:
    """A raster scan: its pitches, how many frames are recorded, and how."""

    rows: int
    frames_per_row: int
    looks: int
    pitch_px: tuple[float, float]
    serpentine: bool
    blank_fraction: float
    seed: int
    frame_shape: tuple[int, int]
    recording: Recording = field(default_factory=Recording)


def slow_curve(rng: np.random.Generator, at: Float64) -> Float64:
    """A smooth random curve within (-1, 1) over positions `at` in 0..1: three slow waves."""
    total = np.zeros_like(at)
    for waves, weight in ((0.7, 0.5), (1.9, 0.3), (4.3, 0.2)):
        total += weight * np.sin(2 * np.pi * (waves * at + rng.random()))
    return total


def video_path(plan: ScanPlan, microscope: Microscope, row: int) -> ScanPath:
    """The pictures of a row recorded while the stage moves: `looks` per pitch, along x.

    Stops, turns and the way back of `plan.recording` add to them; its repeats do not.
    """
    rng = np.random.default_rng([plan.seed, 1, row])
    motion = _row_motion(plan, microscope, row, rng)
    if plan.recording.scan_frames is not None:
        return _scanned_path(plan, microscope, motion, row, rng)
    n = motion.frames
    time = np.arange(n, dtype=np.float64)
    jitter = microscope.jitter_px * rng.standard_normal((2, n))
    gain = 1 + microscope.gain_drift * slow_curve(rng, np.linspace(0.0, 1.0, n))
    blank = _blank(rng, n, plan.blank_fraction)
    path = _pictures(motion.y_at(time) + jitter[0], motion.x_at(time) + jitter[1], gain, blank)
    # Never two neighbours: a blurred frame is a single one.
    smeared = _pick(np.flatnonzero(~blank)[1::2], plan, row)
    smear = np.where(np.isin(np.arange(n), smeared), JUMP_PX, 0.0)
    return replace(path, smear_px=smear, steady=smear == 0)


def _row_motion(
    plan: ScanPlan, microscope: Microscope, row: int, rng: np.random.Generator
) -> Motion:
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
    width = plan.frame_shape[1]
    return plan_motion(
        y,
        x + start,
        plan.recording,
        reversal_steps=max(1, round(REVERSAL_WIDTHS * width * plan.looks / pitch_x)),
        # Its own stream: a stop leaves everything else as it was.
        rng=np.random.default_rng([plan.seed, 5, row]),
    )


def _scanned_path(
    plan: ScanPlan, microscope: Microscope, motion: Motion, row: int, rng: np.random.Generator
) -> ScanPath:
    """What the screen shows at each recorded frame while scans run on."""
    raster = Raster.of(plan.recording, plan.frame_shape[0])
    last, shown = raster.screen(np.arange(motion.frames, dtype=np.float64))
    number = np.arange(-1, last[-1] + 2)
    jitter = microscope.jitter_px * rng.standard_normal((2, len(number)))
    at = raster.middle_time(number) / max(motion.frames - 1, 1)
    gain = 1 + microscope.gain_drift * slow_curve(rng, at)
    blank = _blank(rng, len(number), plan.blank_fraction)
    jumped = np.sort(_pick(np.arange(last[0] + 1, last[-1] + 1), plan, row))
    # Within the middle of a scan, or hardly a line of it would tell.
    share = np.random.default_rng([plan.seed, 7, row]).uniform(0.3, 0.7, len(jumped))
    taken = plan.frame_shape[0] / raster.lines_per_period
    motion = motion.with_jumps(raster.start + raster.period * (jumped + share * taken), JUMP_PX)
    scans = Scans(raster, motion, jitter, gain, blank)
    corner = {n: scans.corner(n) for n in np.unique(last).tolist()}
    shear = {n: scans.shear(n) for n in corner}
    y, x = (np.array([corner[n][axis] for n in last.tolist()]) for axis in (0, 1))
    path = _pictures(y, x, gain[last + 1], blank[last + 1])
    return replace(
        path,
        refresh_px=shown,
        scan=last,
        shear=np.array([shear[n][0] for n in last.tolist()]),
        steady=np.array([shear[n][1] for n in last.tolist()]),
        scans=scans,
    )


def _pick(among: npt.NDArray[np.int64], plan: ScanPlan, row: int) -> npt.NDArray[np.int64]:
    """The pictures or scans of a row that are blurred, taken at random from `among`."""
    wanted = plan.recording.blurred
    if wanted > len(among):
        raise ConfigError(
            f"recording.blurred asks for {wanted} blurred frames, but row {row} has places for "
            f"{len(among)} apart from each other. Ask for fewer, or for more frames_per_row."
        )
    return np.random.default_rng([plan.seed, 6, row]).permutation(among)[:wanted]


def _pictures(
    y_px: Float64, x_px: Float64, gain: Float64, blank: npt.NDArray[np.bool_]
) -> ScanPath:
    """Frames at these corners, each taken at once and complete in itself."""
    n = len(x_px)
    return ScanPath(
        y_px=y_px,
        x_px=x_px,
        col=np.full(n, -1),
        nominal_y_px=np.full(n, np.nan),
        nominal_x_px=np.full(n, np.nan),
        gain=gain,
        blank=blank,
        refresh_px=np.zeros(n, np.int64),
        scan=np.arange(n),
        shear=np.zeros(n),
        steady=np.ones(n, np.bool_),
        smear_px=np.zeros(n),
    )


def tile_path(plan: ScanPlan, microscope: Microscope, row: int) -> ScanPath:
    """The tiles of a row, taken at rest at stage positions that are wrong by the stage error."""
    rng = np.random.default_rng([plan.seed, 2, row])
    n = plan.frames_per_row
    pitch_y, pitch_x = plan.pitch_px
    col = np.arange(n)[::-1] if plan.serpentine and row % 2 == 1 else np.arange(n)
    nominal_x = pitch_x * col.astype(np.float64)
    nominal_y = np.full(n, row * pitch_y)
    path = _pictures(
        nominal_y + microscope.stage_y_px * rng.uniform(-1, 1, n),
        nominal_x + microscope.stage_x_px * rng.uniform(-1, 1, n),
        1 + microscope.gain_drift * slow_curve(rng, np.linspace(0.0, 1.0, n)),
        _blank(rng, n, plan.blank_fraction),
    )
    return replace(path, col=col, nominal_y_px=nominal_y, nominal_x_px=nominal_x)


def _blank(rng: np.random.Generator, n: int, fraction: float) -> npt.NDArray[np.bool_]:
    blank = np.zeros(n, np.bool_)
    blank[rng.permutation(n)[: round(fraction * n)]] = True
    return blank
