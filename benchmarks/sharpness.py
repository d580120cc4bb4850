"""How much of the lamellae's modulation the mosaic keeps, per blending method.

First table: noise-free waves of known period and direction are sampled exactly in overlapping
frames at random subpixel positions, blended, and fitted in patches of 24 px. 1 is the modulation of
a single frame. The rows in brackets resample and average with ordinary interpolation, for
comparison. Second table: sharp (HD) frames of simulated lamellae with noise, 1024 x 690 px; the
scene's waves of 4.0 to 7.2 px are sought in the mosaic (by regression) in patches of 64 px, and
compared with what single frames show of them. `--error` moves the frames by random position errors
that the layout does not know of.

    python benchmarks/sharpness.py
    python benchmarks/sharpness.py --error 0.1
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import show
from scipy.ndimage import shift

from cemi_dask.blend import BLENDERS, blend
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Layout
from cemi_dask.simulate import Gradient, Microscope, Specimen

Floats = npt.NDArray[np.float64]
SHAPE = (192, 256)
PITCH = (110, 140)
ROWS, COLS = 3, 3
BORDER = 24  # px of the mosaic's outline that are left out of the fit
PATCH = 24
HD_SHAPE, HD_PITCH = (690, 1024), (436, 570)
HD_PATCH, HD_BAND = 64, (4.0, 7.2)
PERIOD = Gradient(left=5.4, middle=5.4, right=5.4)


def main() -> None:
    """Print one row per method and period."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--periods", type=float, nargs="+", default=[2.7, 5.4], help="px")
    parser.add_argument("--error", type=float, default=0.0, help="sigma of position errors, px")
    parser.add_argument("--noise", type=float, default=5.0, help="sigma of the HD frames")
    parser.add_argument("--trials", type=int, default=12, help="directions and sets of positions")
    given = parser.parse_args()
    waves(given.periods, given.error, given.trials)
    lamellae(given.error, given.noise)


def waves(periods: list[float], error_px: float, trials: int) -> None:
    """Print one row per method: modulation of pure waves at each period."""
    rows: list[list[Any]] = []
    for name in [*BLENDERS.classes(), "(linear interpolation)", "(cubic spline)"]:
        row: list[Any] = [name]
        for period in periods:
            kept = [trial(name, period, error_px, seed) for seed in range(trials)]
            row += [statistics.median(kept), min(kept)]
        rows.append(row)
    header = [f"{what}, {p:g} px" for p in periods for what in ("median", "least")]
    show(["method", *header], rows)
    print(f"{ROWS} x {COLS} frames, {trials} trials, position errors {error_px:g} px\n")


def lamellae(error_px: float, noise_sigma: float) -> None:
    """Print one row per method: modulation of simulated lamellae, noise and CPU time."""
    rng = np.random.default_rng(0)
    specimen = Specimen(period_px=PERIOD, seed=1)
    scope = Microscope(noise_sigma=noise_sigma, vignetting=0.0)
    row, col = np.divmod(np.arange(ROWS * COLS), COLS)
    x, y = (k * p + rng.uniform(-6, 6, k.size) for k, p in ((col, HD_PITCH[1]), (row, HD_PITCH[0])))
    layout = Layout(x, y, HD_SHAPE).to_origin()
    corners = [
        (700 + v + rng.normal(0, error_px), 1200 + u + rng.normal(0, error_px))
        for u, v in zip(layout.x_px, layout.y_px, strict=True)
    ]
    clean = [specimen.image(*c, HD_SHAPE, psf_sigma_px=scope.psf_sigma_px) for c in corners]
    frames = np.stack([scope.expose(scene, gain=1.0, rng=rng) for scene in clean])
    single = [kept_waves(f, scene) for f, scene in zip(frames, clean, strict=True)]
    scene = specimen.image(700.0, 1200.0, layout.shape, psf_sigma_px=scope.psf_sigma_px)
    rows: list[list[Any]] = []
    for name, cls in BLENDERS.classes().items():
        before = time.process_time()
        lazy = blend(Frames.from_array(frames), layout, method=name, dtype="float32")
        mosaic = lazy.compute(scheduler="sync")
        seconds = time.process_time() - before
        kept = kept_waves(mosaic, scene) / np.median(np.concatenate(single))
        noise = float(np.std((mosaic - scene)[BORDER:-BORDER, BORDER:-BORDER]))
        least = float(np.quantile(kept, 0.01))
        keeps = "yes" if cls.keeps_noise else "no"
        rows.append([name, float(np.median(kept)), least, noise, keeps, seconds])
    show(["method", "median", "1 % of patches below", "rms error", "keeps noise", "CPU s"], rows)
    print(
        f"{ROWS} x {COLS} HD frames, noise {noise_sigma:g}, position errors {error_px:g} px, "
        f"lamellae of {PERIOD.middle:g} px, {kept.size} patches"
    )


def kept_waves(picture: npt.NDArray[Any], scene: npt.NDArray[Any]) -> Floats:
    """Share of the scene's waves that each patch of the picture shows, where there are some."""
    seen, true = (patches_of_band(np.nan_to_num(p, nan=128.0)) for p in (picture, scene))
    power = (true**2).sum(axis=1)
    lamellar = power > 0.25 * np.median(power)
    return np.asarray((seen * true).sum(axis=1)[lamellar] / power[lamellar])


def patches_of_band(picture: npt.NDArray[Any]) -> Floats:
    """Patches (n, 64 * 64) of the picture's waves within HD_BAND, its outline left out."""
    v, u = np.fft.fftfreq(picture.shape[0]), np.fft.rfftfreq(picture.shape[1])
    frequency = np.hypot(v[:, None], u[None, :])
    band = (frequency > 1 / HD_BAND[1]) & (frequency < 1 / HD_BAND[0])
    waves = np.fft.irfft2(np.fft.rfft2(picture) * band, picture.shape)[32:-32, 32:-32]
    rows, cols = waves.shape[0] // HD_PATCH, waves.shape[1] // HD_PATCH
    cut = waves[: rows * HD_PATCH, : cols * HD_PATCH].reshape(rows, HD_PATCH, cols, HD_PATCH)
    return np.asarray(cut.transpose(0, 2, 1, 3).reshape(rows * cols, -1))


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
