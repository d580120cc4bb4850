"""The map between two pictures of one field, refined to a tenth of a pixel, line by line."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse.linalg import lsmr

from cemi_dask.denoise.align_blocks import whitened_correlation
from cemi_dask.denoise.align_geometry import (
    DEGREE_X,
    DEGREE_Y,
    Float32,
    Float64,
    PairGeometry,
    legendre,
    terms,
)
from cemi_dask.resample import separable, shift_rows

STRIP_PX, PART_PX = 48, 64  # height of strips of lines, length of parts of a line
SEARCH_PX = 8  # how far a strip may lie from the straight map
LINE_SEARCH_PX = 3
# What is expected of single lines before they are seen: standard deviation of their jitter.
JITTER_PX = 0.5
LOCAL_PX = 63  # shading and charging: the mean over this window is no part of the comparison
STEP_PX = 1.0
MAX_ROUNDS, SETTLED_PX = 10, 0.01
# Fewer covered pixels than this share tell nothing of a part.
KNOWN_SHARE = 0.5


def start_geometry(
    shape: tuple[int, int], hd_lines: int, places: Float64, shifts: Float64
) -> PairGeometry:
    """The straight map (6 parameters) by least squares through block displacements (n, 2)."""
    design = np.column_stack(
        [np.ones(len(places)), *(2 * places[:, k] / max(1, shape[k] - 1) - 1 for k in (0, 1))]
    )
    fitted = np.linalg.lstsq(design, shifts, rcond=None)[0]  # rows: 1, y, x; columns: dy, dx
    field = np.zeros((2, DEGREE_Y + 1, DEGREE_X + 1))
    field[:, 0, 0], field[:, 1, 0], field[:, 0, 1] = fitted
    return PairGeometry(shape, field[1], field[0], np.zeros(shape[0]), np.zeros(hd_lines))


def refine_by_strips(ld: Float32, hd: Float32, geometry: PairGeometry) -> PairGeometry:
    """Drift and bending, from where parts of strips are found by phase correlation.

    Strips of 48 lines are cut into parts of 128 px; each is sought within 8 px. A Legendre
    series goes through the displacements, without those that it misses by far (bisquare).
    """
    (aligned,), covered = _read((_straight(hd, geometry),), geometry)
    size = (min(STRIP_PX, ld.shape[0]), min(2 * PART_PX, ld.shape[1]))
    tapers = (np.hanning(n + 2)[1:-1].astype(np.float32) for n in size)
    window = np.multiply.outer(*tapers)
    parts = [_tiles(a, size) for a in (ld, aligned, covered.astype(np.float32))]
    usable = parts[2].mean((1, 2)) >= KNOWN_SHARE
    if usable.sum() < len(terms()):
        return geometry
    ours, theirs = ((p - p.mean((1, 2), keepdims=True)) * window for p in parts[:2])
    surface = np.fft.fftshift(whitened_correlation(ours, theirs, size), axes=(1, 2))
    shifts = np.array([_peak(part) for part in surface[usable]])
    places = _centres(ld.shape, size)
    return _through_displacements(geometry, places[usable], shifts)


def _peak(surface: Float32) -> tuple[float, float]:
    """Place (dy, dx) of the maximum within SEARCH_PX of the middle, subpixel by parabolas."""
    mid_y, mid_x = (n // 2 for n in surface.shape)
    reach = min(SEARCH_PX, mid_y - 1, mid_x - 1)
    near = surface[mid_y - reach : mid_y + reach + 1, mid_x - reach : mid_x + reach + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    y, x = y + mid_y - reach, x + mid_x - reach
    return (
        y - mid_y + _vertex(*surface[y - 1 : y + 2, x]),
        x - mid_x + _vertex(*surface[y, x - 1 : x + 2]),
    )


def _vertex(left: float, mid: float, right: float) -> float:
    """Vertex of the parabola through three values at -1, 0, 1, within half a pixel."""
    bend = left - 2 * mid + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _through_displacements(
    geometry: PairGeometry, places: Float64, shifts: Float64
) -> PairGeometry:
    """The geometry moved by a robust Legendre fit to displacements (n, 2) at places (n, 2)."""
    basis = _basis(geometry.shape, places)
    weights, coefficients = np.ones(len(places)), np.zeros((len(terms()), 2))
    for _ in range(6):
        normal = basis.T @ (basis * weights[:, None]) + np.diag(_stiffness())
        force = basis.T @ (shifts * weights[:, None])
        coefficients = np.asarray(np.linalg.solve(normal, force), np.float64)
        misfit = np.hypot(*(shifts - basis @ coefficients).T)
        scale = 4.7 * max(0.3, 1.5 * float(np.median(misfit)))
        weights = np.clip(1 - (misfit / scale) ** 2, 0, None) ** 2
    return _moved(geometry, coefficients[:, 0], coefficients[:, 1])


def _basis(shape: tuple[int, int], places: Float64) -> Float64:
    """Values (n, terms) of the displacement's terms at places (n, 2)."""
    in_y, in_x = (
        legendre(places[:, 0], shape[0], DEGREE_Y),
        legendre(places[:, 1], shape[1], DEGREE_X),
    )
    return np.stack([in_y[:, i] * in_x[:, j] for i, j in terms()], axis=1)


def _stiffness() -> Float64:
    """Ridge on the terms: a little, growing with their degree, none on the straight map's."""
    return np.array([1e-9 if i + j <= 1 else 0.05 * (i + 2 * j) ** 2 for i, j in terms()])


def _moved(geometry: PairGeometry, delta_y: Float64, delta_x: Float64) -> PairGeometry:
    field_y, field_x = geometry.field_y.copy(), geometry.field_x.copy()
    for (i, j), dy, dx in zip(terms(), delta_y, delta_x, strict=True):
        field_y[i, j] += dy
        field_x[i, j] += dx
    return replace(geometry, field_x=field_x, field_y=field_y)


def search_lines(ld: Float32, hd: Float32, geometry: PairGeometry) -> PairGeometry:
    """The jitter of LD lines to about 0.2 px: each is sought within 3 px of its place."""
    (aligned,), covered = _read((_straight(hd, geometry),), geometry)
    ours, theirs = (_local(a, covered) for a in (ld, aligned))
    theirs[~covered] = 0
    reach = LINE_SEARCH_PX
    inner = ours[:, reach:-reach]
    width = ours.shape[1]
    score = np.stack(
        [
            np.einsum("yx,yx->y", inner, theirs[:, k : width - 2 * reach + k])
            for k in range(2 * reach + 1)
        ],
        axis=1,
    )
    best = np.clip(score.argmax(1), 1, 2 * reach - 1)
    rows = np.arange(len(best))
    left, mid, right = (score[rows, best + k] for k in (-1, 0, 1))
    bend = np.minimum(left - 2 * mid + right, -1e-9)
    offset = np.clip(0.5 * (left - right) / bend, -1, 1)
    seen = covered.mean(1) >= KNOWN_SHARE
    found = np.where(seen, best - reach + offset, 0.0)
    return replace(geometry, ld_lines=geometry.ld_lines + found)


def refine(ld: Float32, hd: Float32, geometry: PairGeometry) -> PairGeometry:
    """Smooth map and jitter of lines by Gauss-Newton steps on the grey levels.

    The gradient is that of the HD picture, whose noise is small; the LD picture is never
    interpolated. A round first moves the smooth map (one least-squares system over parts of
    lines), then the lines (see `_lines`). Parts count by how well they agree. It ends when
    the smooth map moves by less than SETTLED_PX, after MAX_ROUNDS at the latest.
    """
    for number in range(MAX_ROUNDS):
        seen = _compare(ld, hd, geometry)
        geometry, moved = _step_field(seen, geometry)
        geometry = _lines(seen, geometry, moved, both=number > 0)
        if number > 0 and float(np.sqrt(np.mean(moved**2))) < SETTLED_PX:
            break
    return geometry


@dataclass(frozen=True)
class _Sums:
    """Sums over parts of lines (h, parts): products of gradients and residual (x, y, r), and
    the variance of the residual around."""

    xx: Float64
    xy: Float64
    yy: Float64
    xr: Float64
    yr: Float64
    noise: Float64

    def places(self, shape: tuple[int, int]) -> tuple[Float64, Float64]:
        """Centres of the parts (y, x), each broadcastable to (h, parts)."""
        parts = self.xx.shape[1]
        step = shape[1] // parts
        return np.arange(shape[0], dtype=float)[:, None], (np.arange(parts) + 0.5) * step - 0.5


def _compare(ld: Float32, hd: Float32, geometry: PairGeometry) -> _Sums:
    straight = _straight(hd, geometry)
    # Slopes are taken on the HD grid: between lines that jitter they would be too steep.
    slope, one = np.array([1, -8, 0, 8, -1], np.float32) / 12, np.ones(1, np.float32)
    slopes = separable(straight, slope, one), separable(straight, one, slope)
    (aligned, gx, gy), covered = _read((straight, *slopes), geometry)
    ours, theirs = _local(ld, covered), _local(aligned, covered)
    gain = np.vdot(ours, theirs) / max(float(np.vdot(theirs, theirs)), 1e-9)
    known = covered.astype(np.float32)
    gx, gy = gx * (np.float32(gain) * known), gy * (np.float32(gain) * known)
    r = ours - np.float32(gain) * theirs
    parts = max(1, ld.shape[1] // PART_PX)
    square, count = _part_sums(r * r, parts), _part_sums(known, parts)
    around = [cv2.blur(a, (1, STRIP_PX), borderType=cv2.BORDER_REFLECT) for a in (square, count)]
    noise = np.maximum(around[0], 1e-6) / np.maximum(around[1], 1e-6)
    return _Sums(
        xx=_part_sums(gx * gx, parts),
        xy=_part_sums(gx * gy, parts),
        yy=_part_sums(gy * gy, parts),
        xr=_part_sums(gx * r, parts),
        yr=_part_sums(gy * r, parts),
        noise=np.asarray(noise, np.float64),
    )


def _step_field(seen: _Sums, geometry: PairGeometry) -> tuple[PairGeometry, Float64]:
    """The smooth map after one step, and the step in x and y at the parts (2, h, parts).

    The jitter of the LD lines is an unknown of the same system, eliminated (Schur complement):
    steps in turn would creep, since lines take over much of what the map should.
    """
    y, x = seen.places(geometry.shape)
    in_y = legendre(y[:, 0], geometry.shape[0], DEGREE_Y)
    in_x = legendre(x, geometry.shape[1], DEGREE_X)
    basis = np.stack([np.multiply.outer(in_y[:, i], in_x[:, j]) for i, j in terms()])
    xx, xy, yy, xr, yr = (
        getattr(seen, name) / seen.noise for name in ("xx", "xy", "yy", "xr", "yr")
    )
    jitter = geometry.ld_lines[:, None]
    xr, yr = xr + xx * jitter, yr + xy * jitter  # as if the lines were not moved yet
    flat = basis.reshape(len(basis), -1)
    products = [(flat * weight.ravel()) @ flat.T for weight in (xx, xy, yy)]
    normal = np.block([[products[0], products[1]], [products[1], products[2]]])
    force = np.concatenate([flat @ xr.ravel(), flat @ yr.ravel()])
    with_lines = np.concatenate([(basis * weight).sum(axis=2) for weight in (xx, xy)])
    of_lines = xx.sum(axis=1) + 1 / JITTER_PX**2
    normal -= (with_lines / of_lines) @ with_lines.T
    force -= with_lines @ (xr.sum(axis=1) / of_lines)
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    delta = np.clip(np.linalg.solve(normal, force), -STEP_PX, STEP_PX).reshape(2, -1)
    return _moved(geometry, delta[1], delta[0]), (delta @ flat).reshape(2, *xx.shape)


def _lines(seen: _Sums, geometry: PairGeometry, moved: Float64, *, both: bool) -> PairGeometry:
    """The jitter of the lines that explains the displacements of their parts best.

    A part of an LD line lies off by a[y] - b[v], a of its own line and b of the HD lines it
    falls on (linearly between two). Both are normal with JITTER_PX before they are seen, each
    part counts by its information (best linear unbiased prediction, Henderson 1975). b is
    kept only where it lowers the misfit by more than two per HD line (Akaike 1974): without
    a rotation a and b cannot be told apart, and one suffices.
    """
    y, x = (np.broadcast_to(p, seen.xx.shape) for p in seen.places(geometry.shape))
    left = seen.xr - seen.xx * moved[0] - seen.xy * moved[1]
    step = np.clip(left / np.maximum(seen.xx, 1e-9), -STEP_PX, STEP_PX)
    on_hd = np.clip(_hd_lines_of(geometry, y, x), 0, len(geometry.hd_lines) - 1)
    lines = _LineSystem(on_hd.ravel(), len(geometry.hd_lines), seen.xx.shape)
    known = lines.total(geometry.ld_lines, geometry.hd_lines) + step.ravel()
    information = (seen.xx / seen.noise).ravel()
    a, zero, misfit = lines.solve(known, information, both=False)
    if both:
        a2, b2, misfit2 = lines.solve(known, information, both=True)
        if misfit - misfit2 > 2 * len(b2):
            a, zero = a2, b2
    return replace(geometry, ld_lines=a, hd_lines=zero)


def _hd_lines_of(geometry: PairGeometry, y: Float64, x: Float64) -> Float64:
    basis = _basis(geometry.shape, np.stack([y.ravel(), x.ravel()], axis=1))
    coefficients = np.array([geometry.field_y[i, j] for i, j in terms()])
    return y + (basis @ coefficients).reshape(y.shape)


class _LineSystem:
    """The linear relation between the jitter of lines and the displacement of their parts."""

    def __init__(self, on_hd: Float64, hd_count: int, parts: tuple[int, int]) -> None:
        n, whole = len(on_hd), np.minimum(np.floor(on_hd).astype(int), hd_count - 2)
        part = on_hd - whole
        own = np.repeat(np.arange(parts[0]), parts[1])
        each = np.arange(n)
        self.ld = scipy.sparse.csr_matrix((np.ones(n), (each, own)), (n, parts[0]))
        self.hd = scipy.sparse.csr_matrix(
            (
                np.concatenate([1 - part, part]),
                (np.tile(each, 2), np.concatenate([whole, whole + 1])),
            ),
            (n, hd_count),
        )

    def total(self, a: Float64, b: Float64) -> Float64:
        """Displacement (n,) of every part."""
        return np.asarray(self.ld @ a - self.hd @ b)

    def solve(
        self, known: Float64, information: Float64, *, both: bool
    ) -> tuple[Float64, Float64, float]:
        """(a, b, misfit in units of its variance) from displacements and 1 / variance (n,)."""
        weight = np.sqrt(information)
        matrix = scipy.sparse.hstack([self.ld, -self.hd]).tocsr() if both else self.ld
        scaled = scipy.sparse.diags(weight) @ matrix * JITTER_PX
        found = JITTER_PX * lsmr(scaled, weight * known, damp=1.0, atol=1e-4, btol=1e-4)[0]
        a = found[: self.ld.shape[1]]
        b = found[self.ld.shape[1] :] if both else np.zeros(self.hd.shape[1])
        misfit = float(np.sum(information * (known - self.total(a, b)) ** 2))
        return a, b, misfit


def _straight(hd: Float32, geometry: PairGeometry) -> Float32:
    """The HD picture without the jitter of its lines."""
    if not geometry.hd_lines.any():
        return hd
    return shift_rows(hd, geometry.hd_lines, fill=float(hd.mean()))


def _read(
    pictures: tuple[Float32, ...], geometry: PairGeometry
) -> tuple[list[Float32], npt.NDArray[np.bool_]]:
    """Straight pictures on the HD grid read on the LD grid, bicubic, and where they reach.

    Positions are rounded to 1/32 px (OpenCV): 0.009 px rms without a bias, for measuring only.
    """
    y, x = geometry.smooth()
    x = x + geometry.ld_lines[:, None]
    h, w = pictures[0].shape
    covered = (y >= 2) & (y <= h - 3) & (x >= 2) & (x <= w - 3)
    places = x.astype(np.float32), y.astype(np.float32)
    border = cv2.BORDER_REFLECT_101
    read = [cv2.remap(p, *places, cv2.INTER_CUBIC, borderMode=border) for p in pictures]
    return [np.asarray(p, np.float32) for p in read], covered


def _local(picture: Float32, covered: npt.NDArray[np.bool_]) -> Float32:
    """A picture less its mean over the window around, both over covered pixels alone."""
    known = covered.astype(np.float32)
    size = (LOCAL_PX, LOCAL_PX)
    mean = cv2.blur(picture * known, size) / np.maximum(cv2.blur(known, size), 1e-6)
    return np.asarray((picture - mean) * known, np.float32)


def _tiles(picture: Float32, size: tuple[int, int]) -> Float32:
    """Tiles (n, *size) of a picture, row by row; what is left over at the end is dropped."""
    rows, cols = picture.shape[0] // size[0], picture.shape[1] // size[1]
    cut = picture[: rows * size[0], : cols * size[1]]
    return cut.reshape(rows, size[0], cols, size[1]).swapaxes(1, 2).reshape(-1, *size)


def _centres(shape: tuple[int, int], size: tuple[int, int]) -> Float64:
    """Centres (n, 2) of the tiles of `_tiles`."""
    y, x = ((np.arange(shape[k] // size[k]) + 0.5) * size[k] - 0.5 for k in (0, 1))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def _part_sums(values: Float32, parts: int) -> Float64:
    """Sums (h, parts) over equal parts of lines; what is left over at the end is dropped."""
    step = values.shape[1] // parts
    cut = values[:, : parts * step].reshape(len(values), parts, step)
    return np.asarray(cut.sum(axis=2), np.float64)
