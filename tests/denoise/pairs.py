"""Pairs of a noisy and a sharp picture of one field, taken askew, with the map between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from cemi_dask.simulate import Specimen

Float = npt.NDArray[np.float64]
PSF_PX = 0.7


@dataclass(frozen=True)
class Askew:
    """How the HD picture lies against the LD picture, and how lines of both wander."""

    rotation_deg: float = 0.5
    shift_px: tuple[float, float] = (12.0, -7.4)  # (dx, dy)
    scale: float = 1.0
    jitter_px: float = 0.5  # rms of single LD lines, in x
    hd_jitter_px: float = 0.0
    drift_px: float = 3.0  # of the LD picture down the frame, in x; half of it in y
    ld_sigma: float = 25.0
    hd_sigma: float = 4.5
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """Pictures uint8, and the HD position (y, x), float64, of every LD pixel."""

    ld: npt.NDArray[np.uint8]
    hd: npt.NDArray[np.uint8]
    true_y: Float
    true_x: Float
    ld_lines: Float = field(repr=False)


def make_pair(
    shape: tuple[int, int], askew: Askew, *, place: tuple[float, float] = (2000, 60_000)
) -> Pair:
    """A pair of `shape` at a place (y, x) of a specimen.

    The HD picture's grid is the specimen's but for its own jitter; an LD pixel looks at the
    rotated, scaled, shifted place. Both are read, by splines of order 5, from a picture with two
    samples per px, in which the point spread (sigma 1.4 samples) leaves nothing near the limit.
    """
    rng = np.random.default_rng(askew.seed)
    h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(float)
    ld_lines = rng.normal(0, askew.jitter_px, h)
    hd_lines = rng.normal(0, askew.hd_jitter_px, h)
    t = np.arange(h) / h
    drift = askew.drift_px * np.stack([0.5 * np.sin(5 * t), t + 0.3 * np.sin(7 * t)])
    # Where an LD pixel lies in the undisturbed HD grid: about the centre, turned and shifted.
    from_y = y - (h - 1) / 2
    from_x = x + ld_lines[:, None] - (w - 1) / 2
    turn, scale = np.deg2rad(askew.rotation_deg), askew.scale
    scene_y = scale * (np.cos(turn) * from_y + np.sin(turn) * from_x) + (h - 1) / 2
    scene_x = scale * (np.cos(turn) * from_x - np.sin(turn) * from_y) + (w - 1) / 2
    scene_y += askew.shift_px[1] + drift[0][:, None]
    scene_x += askew.shift_px[0] + drift[1][:, None]
    margin = 24 + int(max(map(abs, askew.shift_px)) + 2 * abs(askew.drift_px) + 0.02 * max(shape))
    fine = _fine_scene(shape, place, margin)
    ld = _look(fine, scene_y, scene_x, margin)
    hd = _look(fine, y, x + hd_lines[:, None], margin)
    true_x = scene_x - np.interp(scene_y, np.arange(h), hd_lines)
    return Pair(
        _exposed(ld, askew.ld_sigma, rng),
        _exposed(hd, askew.hd_sigma, rng),
        scene_y,
        true_x,
        ld_lines,
    )


def _fine_scene(
    shape: tuple[int, int], place: tuple[float, float], margin: int
) -> npt.NDArray[np.float32]:
    """Noise-free picture with two samples per px, `margin` px wider than `shape` all around."""
    specimen = Specimen(seed=1)
    h, w = (n + 2 * margin for n in shape)
    fine = np.empty((2 * h, 2 * w), np.float32)
    for i in (0, 1):
        for j in (0, 1):
            corner = place[0] - margin + i / 2, place[1] - margin + j / 2
            fine[i::2, j::2] = specimen.image(*corner, (h, w), psf_sigma_px=PSF_PX)
    return fine


def _look(
    fine: npt.NDArray[np.float32], y: Float, x: Float, margin: int
) -> npt.NDArray[np.float32]:
    at = [2 * (y + margin), 2 * (x + margin)]
    return np.asarray(map_coordinates(fine, at, order=5, mode="mirror"), np.float32)


def _exposed(
    clean: npt.NDArray[np.float32], sigma: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(clean + rng.normal(0, sigma, clean.shape)), 0, 255).astype(np.uint8)
