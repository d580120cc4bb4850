"""A small two-phase field with known lamellae, drawn by supersampling."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

DARK, BRIGHT = 90.0, 150.0


@dataclass(frozen=True)
class Field:
    """`grey` (y, x) float32 noise-free; `bcc` area fraction per px; `lamellar` bool."""

    grey: npt.NDArray[np.float32]
    bcc: npt.NDArray[np.float32]
    lamellar: npt.NDArray[np.bool_]


def stripes(shape, *, period_px=5.4, angle=0.6, fraction=0.34, sub=8):
    """Area fraction of the dark phase of straight lamellae, per px, by supersampling."""
    y, x = np.mgrid[0 : shape[0] * sub, 0 : shape[1] * sub].astype(np.float32) / sub
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period_px
    dark = (phase % 1.0 < fraction).astype(np.float32)
    return cv2.resize(dark, shape[::-1], interpolation=cv2.INTER_AREA)


def colonies(shape=(384, 512), *, period_px=5.4, fraction=0.34, seed=0, sub=4) -> Field:
    """Colonies of straight lamellae and one without, about 120 px across."""
    rng = np.random.default_rng(seed)
    n = max(6, int(shape[0] * shape[1] / 120**2))
    cy, cx = rng.uniform(0, shape[0], n), rng.uniform(0, shape[1], n)
    angle = rng.uniform(0, np.pi, n)
    kind = rng.uniform(size=n) > 0.3
    pixels = np.moveaxis(np.indices(shape), 0, -1)
    near = cKDTree(np.stack([cy, cx], axis=1)).query(pixels)[1].repeat(sub, 0).repeat(sub, 1)
    y, x = np.mgrid[0 : shape[0] * sub, 0 : shape[1] * sub].astype(np.float32) / sub
    phase = (x * np.cos(angle)[near] + y * np.sin(angle)[near]) / period_px
    blobs = cv2.GaussianBlur(rng.normal(size=y.shape).astype(np.float32), (0, 0), 1.2 * sub)
    irregular = blobs < np.quantile(blobs, fraction)
    dark = np.where(kind[near], phase % 1.0 < fraction, irregular).astype(np.float32)
    small = cv2.resize(dark, shape[::-1], interpolation=cv2.INTER_AREA)
    grey = (BRIGHT - (BRIGHT - DARK) * small).astype(np.float32)
    return Field(grey, small, kind[near][::sub, ::sub])


def record(grey, *, psf_px=0.7, noise=5.0, seed=0):
    """What a microscope makes of a noise-free picture: blurred, noisy, uint8, at least 1."""
    picture = cv2.GaussianBlur(grey, (0, 0), psf_px) if psf_px else grey
    noisy = picture + np.random.default_rng(seed).normal(0, noise, grey.shape) if noise else picture
    return np.clip(np.rint(noisy), 1, 255).astype(np.uint8)
