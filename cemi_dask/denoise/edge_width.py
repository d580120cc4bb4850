"""How sharp a picture's edges are: 10-90 % width of edges that a reference shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares
from scipy.special import ndtr

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WIDTH_PER_SIGMA = 2.5631  # from 10 % to 90 % of an edge blurred by a Gaussian
REACH_PX, STEP_PX = 3.0, 0.5
SIDE_PX = 1.75  # beyond it, the sides of an isolated edge are level
ALONG_PX = (-1.0, 0.0, 1.0)  # an edge is read on three lines, against noise
SMOOTH_PX = 1.0  # for finding edges and their direction
MAX_EDGES, MIN_EDGES = 200, 30
MIN_SHARE = 0.5  # of the strongest 1 % of slopes
MAX_ROUGHNESS, MAX_MISFIT = 0.12, 0.08  # rms, of the height of the step


@dataclass(frozen=True)
class EdgeProfiles:
    """Isolated straight edges of a reference, and how wide they are there.

    `y`, `x` (edges, lines, samples): where profiles across the edges are read, centred on
    them; `low`, `height` (edges,): grey level below the edge and step; `reference_px`: their
    10-90 % width in the reference, NaN where fewer than 30 edges were found.
    """

    y: Float64
    x: Float64
    low: Float64
    height: Float64
    reference_px: float

    @classmethod
    def of(cls, reference: Float32, valid: Mask) -> EdgeProfiles:
        """The edges of a reference (y, x).

        Candidates are pixels whose slope is largest across the edge and at least half of the
        strongest ones; an edge counts where a step blurred by a Gaussian fits its profile
        over 3 px to either side to 8 % of its height, so that neither side holds another.
        """
        y, x, normal = _candidates(reference, valid)
        level = _level_sides(_read(reference, _profile_places(y, x, normal, (0.0,)), order=1))
        # Evenly over the picture, the same every time.
        level = level[np.linspace(0, len(level) - 1, min(len(level), MAX_EDGES)).astype(int)]
        y, x, normal = y[level], x[level], normal[level]
        profiles = _read(reference, _profile_places(y, x, normal))
        fits = np.array([_fit_step(profile) for profile in profiles]).reshape(-1, 5)
        low, height, centre, _, misfit = fits.T
        good = (misfit < MAX_MISFIT) & (height > 0) & (np.abs(centre) < 1)
        y, x, normal = (
            a[good] for a in (y + centre * normal[:, 0], x + centre * normal[:, 1], normal)
        )
        centred = _profile_places(y, x, normal)
        found = cls(*centred, low[good], height[good], float("nan"))
        return cls(*centred, found.low, found.height, found.width_px(reference))

    def width_px(self, picture: Float32) -> float:
        """10-90 % width (px) of the mean edge of a picture (y, x), NaN where it has none.

        Profiles are averaged in units of the reference's step, which leaves noise behind, and
        a Gaussian-blurred step is fitted to the mean (as for slanted edges, ISO 12233).
        """
        if len(self.height) < MIN_EDGES:
            return float("nan")
        profiles = _read(picture, (self.y, self.x))
        weight = self.height / np.sum(self.height**2)
        mean = weight @ (profiles - self.low[:, None])
        _, height, _, sigma, misfit = _fit_step(mean)
        known = misfit < 2 * MAX_MISFIT and height > 0
        return WIDTH_PER_SIGMA * sigma if known else float("nan")


def _candidates(reference: Float32, valid: Mask) -> tuple[Float64, Float64, Float64]:
    """Pixels (y, x) on the crest of strong slopes, and the direction (n, 2) of the slope."""
    smooth = cv2.GaussianBlur(reference, (0, 0), SMOOTH_PX)
    slope = np.stack(
        [cv2.Sobel(smooth, cv2.CV_32F, dx, dy, scale=1 / 8) for dy, dx in ((1, 0), (0, 1))]
    )
    strength = np.hypot(*slope)
    margin = int(REACH_PX) + 2
    side = 2 * margin + 1
    inner = cv2.erode(valid.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0) > 0
    if not inner.any():
        return np.zeros(0), np.zeros(0), np.zeros((0, 2))
    strong = inner & (strength >= MIN_SHARE * np.quantile(strength[inner], 0.99))
    y, x = np.nonzero(strong)
    normal = (slope[:, y, x] / strength[y, x]).T.astype(np.float64)
    beside = [
        map_coordinates(strength, [y + s * normal[:, 0], x + s * normal[:, 1]], order=1)
        for s in (-1, 1)
    ]
    crest = (strength[y, x] >= beside[0]) & (strength[y, x] > beside[1])
    return y[crest].astype(np.float64), x[crest].astype(np.float64), normal[crest]


def _level_sides(profiles: Float64) -> npt.NDArray[np.intp]:
    """Which profiles (edges, samples) are level on both sides of the step."""
    t = _distances()
    left, right = profiles[:, t <= -SIDE_PX], profiles[:, t >= SIDE_PX]
    height = right.mean(axis=1) - left.mean(axis=1)
    rough = np.maximum(left.std(axis=1), right.std(axis=1))
    return np.flatnonzero((height > 0) & (rough < MAX_ROUGHNESS * height))


def _profile_places(
    y: Float64, x: Float64, normal: Float64, lines_px: tuple[float, ...] = ALONG_PX
) -> tuple[Float64, Float64]:
    """Where profiles (edges, lines, samples) across edges are read."""
    across, along = _distances(), np.array(lines_px)[None, :, None]
    ny, nx = normal[:, 0, None, None], normal[:, 1, None, None]
    return (
        y[:, None, None] + across * ny - along * nx,
        x[:, None, None] + across * nx + along * ny,
    )


def _distances() -> Float64:
    return np.arange(-REACH_PX, REACH_PX + STEP_PX / 2, STEP_PX)


def _read(picture: Float32, places: tuple[Float64, Float64], *, order: int = 3) -> Float64:
    """Profiles (edges, samples): splines, averaged along the edge."""
    return np.asarray(map_coordinates(picture, places, np.float64, order=order).mean(axis=1))


def _step(t: Float64, low: float, height: float, centre: float, sigma: float) -> Float64:
    # An edge narrower than 0.1 px is as good as sharp.
    return np.asarray(low + height * ndtr((t - centre) / max(abs(sigma), 0.1)))


def _fit_step(profile: Float64) -> tuple[float, float, float, float, float]:
    """Least-squares (low, height, centre, sigma, rms misfit / height) of a blurred step."""
    t = _distances()
    low, high = float(profile[:3].mean()), float(profile[-3:].mean())
    start = (low, high - low, 0.0, 1.0)
    found = least_squares(lambda p: _step(t, *p) - profile, start, method="lm", max_nfev=100)
    low, height, centre, sigma = (float(v) for v in found.x)
    misfit = float(np.sqrt(np.mean(found.fun**2)))
    return low, height, centre, abs(sigma), misfit / max(abs(height), 1e-9)
