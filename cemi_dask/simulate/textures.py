"""Clean pictures of many kinds of texture, for training networks on more than one material.

Every family draws hard-edged shapes on a canvas `SCALE` times finer than the picture.
`render_texture` blurs that by the microscope's point-spread function and averages cells of
`SCALE` x `SCALE`, so edges are as sharp as a microscope shows them and nothing is aliased.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from cemi_dask.simulate.lattice import Float32

SCALE = 3
# Periods of lamellae, px: from what just survives the point-spread function to coarse.
MIN_PERIOD_PX, MAX_PERIOD_PX = 2.7, 25.0
SHIFT = 4  # bits of subpixel position in OpenCV's drawing

Rng = np.random.Generator
Family = Callable[[int, Rng], Float32]


def render_texture(family: str, size_px: int, *, psf_sigma_px: float, rng: Rng) -> Float32:
    """A clean picture (size_px, size_px), float32 grey levels 0..1, of one of `FAMILIES`.

    `psf_sigma_px` is the Gaussian point-spread function. The same state of `rng` gives the
    same picture.
    """
    canvas = FAMILIES[family](size_px * SCALE, rng)
    if rng.random() < 0.3:
        canvas = canvas * (1 + np.float32(0.25) * _field(canvas.shape[0], rng, low_px=200))
    sigma = SCALE * psf_sigma_px
    blurred = cv2.GaussianBlur(canvas, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    cells = blurred.reshape(size_px, SCALE, size_px, SCALE).mean((1, 3), dtype=np.float32)
    return np.clip(cells, 0, 1)


# ---------------------------------------------------------------- families


def dead_leaves(size: int, rng: Rng) -> Float32:
    """Opaque disks, ellipses and polygons over each other, of power-law sizes.

    The dead-leaves model (Matheron 1968); radii with density r^-3 make it scale-invariant, as
    natural pictures are (Lee, Mumford and Huang 2001).
    """
    canvas = np.full((size, size), rng.random(), np.float32)
    low, high = SCALE * rng.uniform(1.5, 6), SCALE * rng.uniform(30, 120)
    levels = _levels(rng)
    count = 2500
    radius = _power_law(low, high, count, rng)
    for k in range(count):
        _leaf(canvas, float(radius[k]), levels(), rng)
    return canvas


def lamellar_grains(size: int, rng: Rng) -> Float32:
    """Voronoi grains, some of one grey level, some of two phases in lamellae (or twins)."""
    label, count = _voronoi(size, SCALE * rng.uniform(25, 160), rng)
    levels = _levels(rng)
    first = np.array([levels() for _ in range(count)], np.float32)
    second = np.array([levels() for _ in range(count)], np.float32)
    lamellar = rng.random(count) < rng.uniform(0.3, 1.0)
    if rng.random() < 0.5:  # one eutectic: all grains of the same two phases
        tone = 1 + 0.05 * rng.uniform(-1, 1, count).astype(np.float32)
        first, second = first[0] * tone, second[0] * tone
    angle = rng.uniform(0, np.pi, count)
    mean_period = SCALE * _log_uniform(MIN_PERIOD_PX, MAX_PERIOD_PX, rng)
    period = np.maximum(mean_period * rng.uniform(0.8, 1.25, count), SCALE * MIN_PERIOD_PX)
    share = np.clip(rng.uniform(0.2, 0.8) + rng.uniform(-0.05, 0.05, count), 0.15, 0.85)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    wave = SCALE * rng.uniform(0, 2) * _field(size, rng, low_px=30 * SCALE)
    along = (
        y * np.sin(angle).astype(np.float32)[label] + x * np.cos(angle).astype(np.float32)[label]
    )
    phase = (along + wave) / period.astype(np.float32)[label]
    dark = (phase - np.floor(phase)) < share.astype(np.float32)[label]
    return np.where(dark & lamellar[label], second[label], first[label])


def labyrinth(size: int, rng: Rng) -> Float32:
    """Two phases that wind through each other at one period, as after spinodal decomposition.

    A band-limited Gaussian field cut at a level (Cahn 1965).
    """
    period = SCALE * _log_uniform(MIN_PERIOD_PX, MAX_PERIOD_PX, rng)
    field = _spectrum(
        size, rng, lambda k: np.exp(-(((k * period - 1) / rng.uniform(0.1, 0.4)) ** 2))
    )
    low, high = _pair(rng)
    return np.where(field > rng.normal(0, 0.5), np.float32(high), np.float32(low))


def random_field(size: int, rng: Rng) -> Float32:
    """A smooth field with a power-law spectrum: clouds, contamination, rough surfaces."""
    slope = rng.uniform(1.2, 2.5)
    corner = 1 / (SCALE * rng.uniform(2.5, 8))
    field = _spectrum(
        size, rng, lambda k: np.where(k < corner, np.maximum(k, 1 / size) ** -slope, 0)
    )
    return np.float32(rng.uniform(0.3, 0.7)) + np.float32(rng.uniform(0.03, 0.15)) * field


def particles(size: int, rng: Rng) -> Float32:
    """Disks, ellipses and polygons of one phase or two, of log-normal sizes, on a matrix."""
    matrix, grey = _pair(rng)
    canvas = np.full((size, size), matrix, np.float32)
    other = rng.random()
    mean, cover = SCALE * _log_uniform(1.2, 20, rng), rng.uniform(0.05, 0.6)
    count = min(4000, int(cover * size * size / (np.pi * mean * mean)))
    radius = np.maximum(mean * rng.lognormal(0, rng.uniform(0.05, 0.6), count), SCALE)
    for r in radius:
        _leaf(canvas, float(r), other if rng.random() < 0.2 else grey, rng)
    return canvas


def cracks_and_pores(size: int, rng: Rng) -> Float32:
    """A matrix with dark cracks and pores, the pores with bright rims (the edge effect)."""
    matrix = rng.uniform(0.35, 0.8)
    canvas = np.float32(matrix) * (1 + np.float32(0.05) * _field(size, rng, low_px=60 * SCALE))
    dark = rng.uniform(0.02, 0.6 * matrix)
    for _ in range(rng.integers(0, 60)):
        radius, rim = SCALE * _log_uniform(1, 25, rng), SCALE * rng.uniform(0, 2)
        place, axes, angle = _ellipse(radius, size, rng)
        if rim >= 1:
            _fill_ellipse(canvas, place, axes + rim, angle, min(1.0, matrix + rng.uniform(0, 0.3)))
        _fill_ellipse(canvas, place, axes, angle, dark)
    for _ in range(rng.integers(2, 25)):
        path = _path(size, rng, step=SCALE * 6.0, bend=0.35)
        thick = int(max(1, round(SCALE * _log_uniform(0.5, 5, rng))))
        cv2.polylines(canvas, [path], False, dark, thick, cv2.LINE_8, SHIFT)
    return canvas


def fibres(size: int, rng: Rng) -> Float32:
    """Long bent fibres over each other, brighter at their edges than in the middle."""
    canvas = np.full((size, size), rng.uniform(0.02, 0.4), np.float32)
    mean = SCALE * _log_uniform(1.2, 14, rng)
    for _ in range(int(min(350, 18 * size / mean))):
        path = _path(size, rng, step=SCALE * 12.0, bend=0.12)
        width, grey = mean * rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.8)
        for share, light in ((1.0, 1.25), (0.7, 1.0), (0.3, 0.9)):
            thick = max(1, round(width * share))
            cv2.polylines(canvas, [path], False, min(1.0, grey * light), thick, cv2.LINE_8, SHIFT)
    return canvas


def gradients(size: int, rng: Rng) -> Float32:
    """A slow ramp of grey with a few steps: what is left of a specimen without texture."""
    label, count = _voronoi(size, size / rng.uniform(1, 4), rng)
    step = rng.normal(0, 0.12, count).astype(np.float32)[label]
    slow = np.float32(rng.uniform(0.05, 0.3)) * _field(size, rng, low_px=size / 2)
    return np.float32(rng.uniform(0.2, 0.8)) + slow + step


FAMILIES: dict[str, Family] = {
    "dead_leaves": dead_leaves,
    "lamellar_grains": lamellar_grains,
    "labyrinth": labyrinth,
    "random_field": random_field,
    "particles": particles,
    "cracks_and_pores": cracks_and_pores,
    "fibres": fibres,
    "gradients": gradients,
}


# ---------------------------------------------------------------- what they are made of


def _log_uniform(low: float, high: float, rng: Rng) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _power_law(low: float, high: float, count: int, rng: Rng) -> Float32:
    """`count` radii between two limits with density r^-3."""
    u = rng.random(count)
    radius = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    return radius.astype(np.float32)


def _pair(rng: Rng) -> tuple[float, float]:
    """Two grey levels with a contrast of 0.08 to 0.7 between them, either one first."""
    middle, half = rng.uniform(0.3, 0.7), rng.uniform(0.04, 0.35)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (low, high) if rng.random() < 0.5 else (high, low)


def _levels(rng: Rng) -> Callable[[], float]:
    """A source of grey levels: any between two limits, or one of a few."""
    low, high = sorted(_pair(rng))
    if rng.random() < 0.5:
        return lambda: float(rng.uniform(low, high))
    few = rng.uniform(low, high, rng.integers(2, 6))
    return lambda: float(rng.choice(few))


def _field(size: int, rng: Rng, *, low_px: float) -> Float32:
    """A smooth random field in about -1..1 that changes over `low_px` of the canvas."""
    cells = max(2, round(size / low_px)) + 3
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _spectrum(size: int, rng: Rng, amplitude: Callable[[Float32], Float32]) -> Float32:
    """A Gaussian random field, mean 0 and deviation 1, of given `amplitude` over frequency."""
    ky = np.fft.fftfreq(size).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(size).astype(np.float32)[None, :]
    white = np.fft.rfft2(rng.standard_normal((size, size), np.float32))
    shaped = white * amplitude(np.hypot(ky, kx))
    shaped[0, 0] = 0
    field = np.fft.irfft2(shaped, (size, size)).astype(np.float32)
    return field / field.std()


def _voronoi(size: int, distance: float, rng: Rng) -> tuple[np.ndarray, int]:
    """(labels 0..n-1, n) of cells around random points that are about `distance` apart."""
    count = max(2, int((size / distance) ** 2))
    free = np.ones((size, size), np.uint8)
    points = rng.integers(0, size, (count, 2))
    free[points[:, 0], points[:, 1]] = 0
    _, label = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return label - 1, int(label.max())


def _leaf(canvas: Float32, radius: float, grey: float, rng: Rng) -> None:
    """Draw one opaque ellipse or polygon into `canvas`."""
    size = canvas.shape[0]
    if rng.random() < 0.6:
        _fill_ellipse(canvas, *_ellipse(radius, size, rng), grey)
        return
    corners = int(rng.integers(3, 8))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.7, 1.3, corners)
    place = rng.uniform(-0.05 * size, 1.05 * size, 2)
    points = place + np.stack([reach * np.cos(angle), reach * np.sin(angle)], 1)
    cv2.fillPoly(canvas, [_fixed(points)], grey, cv2.LINE_8, SHIFT)


def _ellipse(radius: float, size: int, rng: Rng) -> tuple[np.ndarray, np.ndarray, float]:
    """(centre, half axes, angle) of a random ellipse of about `radius`."""
    axes = radius * np.array([1.0, 1.0 if rng.random() < 0.4 else rng.uniform(0.3, 1.0)])
    return rng.uniform(-0.05 * size, 1.05 * size, 2), axes, rng.uniform(0, 180)


def _fill_ellipse(
    canvas: Float32, place: np.ndarray, axes: np.ndarray, angle: float, grey: float
) -> None:
    cv2.ellipse(
        canvas,
        _fixed(place).tolist(),
        _fixed(axes).tolist(),
        angle,
        0,
        360,
        grey,
        -1,
        cv2.LINE_8,
        SHIFT,
    )


def _path(size: int, rng: Rng, *, step: float, bend: float) -> np.ndarray:
    """A polyline across the canvas whose direction wanders by `bend` radians per step."""
    steps = int(rng.uniform(0.3, 1.5) * size / step)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    moves = step * np.stack([np.cos(heading), np.sin(heading)], 1)
    return _fixed(rng.uniform(0, size, 2) + np.cumsum(moves, 0))


def _fixed(points: np.ndarray) -> np.ndarray:
    """Coordinates as OpenCV's drawing takes them with `SHIFT`."""
    return np.rint(points * 2**SHIFT).astype(np.int32)
