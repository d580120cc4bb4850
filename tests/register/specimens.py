"""Textures that can be cut at any subpixel corner exactly, for tests of registration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frameset import Frames

Floats = npt.NDArray[np.float64]


def texture(shape: tuple[int, int], seed: int = 0, *, period_px: float | None = None) -> Floats:
    """A periodic random field (y, x) of zero mean and unit deviation, smooth at 1.2 px.

    Scale-free blobs, or with `period_px` a lamellar lattice at 0.4 rad, coherent over 40 px.
    """
    rng = np.random.default_rng(seed)
    ky = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.rfftfreq(shape[1])[None, :]
    if period_px is None:
        k = np.hypot(ky, kx)
        amplitude = np.exp(-2 * (np.pi * 1.2 * k) ** 2) / (0.01 + k)
    else:
        fx, fy = np.cos(0.4) / period_px, np.sin(0.4) / period_px
        amplitude = np.exp(-((kx - fx) ** 2 + (ky - fy) ** 2) / (2 * 0.004**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * amplitude, shape)
    field -= field.mean()
    return np.asarray(field / field.std())


def record(
    field: Floats, corners: Any, shape: tuple[int, int], *, noise_sigma: float, seed: int = 1
) -> npt.NDArray[np.uint8]:
    """8-bit frames (n, y, x) of `field` at corners (x, y), shifted exactly by Fourier phase."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(field)
    ky = np.fft.fftfreq(field.shape[0])[:, None]
    kx = np.fft.rfftfreq(field.shape[1])[None, :]
    h, w = shape
    frames = []
    for x, y in np.asarray(corners, float):
        ix, iy = int(np.floor(x)), int(np.floor(y))
        phase = np.exp(2j * np.pi * (kx * (x - ix) + ky * (y - iy)))
        moved = np.fft.irfft2(spectrum * phase, field.shape)[iy : iy + h, ix : ix + w]
        noisy = 120 + 35 * moved + noise_sigma * rng.standard_normal(shape)
        frames.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return np.stack(frames)


def tile_grid(
    rows: int,
    cols: int,
    shape: tuple[int, int],
    *,
    noise_sigma: float = 25.0,
    stage_px: tuple[float, float] = (12.0, 6.0),
    seed: int = 0,
) -> tuple[Frames, Floats]:
    """Tiles at 44 % (x) and 37 % (y) overlap with stage errors, and their true corners (n, 2)."""
    rng = np.random.default_rng(seed)
    h, w = shape
    pitch = np.array([round(0.56 * w), round(0.63 * h)])
    place = np.array([(c, r) for r in range(rows) for c in range(cols)]) * pitch + 40.0
    truth = place + rng.uniform(-1, 1, place.shape) * stage_px
    size = (int(place[:, 1].max()) + h + 40, int(place[:, 0].max()) + w + 40)
    pictures = record(texture(size, seed), truth, shape, noise_sigma=noise_sigma, seed=seed)
    frames = Frames.from_array(
        pictures,
        x_nominal_px=place[:, 0],
        y_nominal_px=place[:, 1],
        row=np.repeat(np.arange(rows), cols),
    )
    frames.table["col"] = np.tile(np.arange(cols), rows)
    return frames, truth


def with_lattices(
    frames: Frames,
    truth: Floats,
    pairs: list[tuple[int, int]],
    *,
    noise_sigma: float,
    seed: int = 0,
) -> Frames:
    """The frames with nothing but straight lamellae in the overlaps of `pairs` (5.4 px, noise).

    Each of these overlaps, and 30 px around it, shows one plane wave of its own direction.
    """
    rng = np.random.default_rng(seed)
    h, w = frames.frame_shape
    patches = [
        (
            np.maximum(truth[i], truth[j]) - 30,
            np.minimum(truth[i], truth[j]) + np.array((w + 30, h + 30)),
            rng.uniform(0, np.pi),
        )
        for i, j in pairs
    ]
    pictures = np.asarray(frames.data, np.float32)
    for picture, (x, y) in zip(pictures, truth, strict=True):
        xs, ys = x + np.arange(w), (y + np.arange(h))[:, None]
        for low, high, angle in patches:
            inside = (xs > low[0]) & (xs < high[0]) & (ys > low[1]) & (ys < high[1])
            across = np.cos(angle) * xs + np.sin(angle) * ys
            noise = noise_sigma * rng.standard_normal((h, w))
            np.copyto(picture, 120 + 45 * np.cos(2 * np.pi * across / 5.4) + noise, where=inside)
    whole = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
    return frames.with_data(Frames.from_array(whole).data)


def as_nominal(frames: Frames, nominal: Any) -> Frames:
    """The same frames with another meaning of their positions."""
    return Frames(frames.data, frames.table, nominal, frames.pixel_um)


def errors(layout: Any, truth: Floats, keep: Any = slice(None)) -> Floats:
    """Position errors (n, 2) px of the frames `keep` after removing one translation."""
    off = np.stack([layout.x_px, layout.y_px], axis=1)[keep] - truth[keep]
    return np.asarray(off - off.mean(axis=0))
