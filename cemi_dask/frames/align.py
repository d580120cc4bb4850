"""Where another recorded picture lies against a frame, to hundredths of a pixel, and its fitness.

The start is known to a few pixels. A picture that is torn, blurred, or shows something else
is named as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.frames.filters import high_passed, noise_shares, noise_sigma
from cemi_dask.resample import gaussian_kernel, gaussian_slope, reach_px, separable, shift_rows

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SMOOTH_PX = 1.0  # Gaussian sigma before matching: lamellae of 2.7 px keep enough, noise loses most
COARSE_PX = 2.0  # a second one: what lies between the two is the fine structure
REACH_PX = 5  # half length of the first kernel, moved by up to a pixel
SEARCH_PX = 3  # the start may be wrong by so much
BANDS, BAND_ROWS = 8, 32  # rows that are compared: a third of a frame of 690 rows
STEPS = 5
MIN_OVERLAP_PX = 48

KNOWN_SCORE = 0.15  # a band whose expected correlation is lower shows too little to judge it
MATCH_SHARE = 0.5  # of the expected correlation: less is another place
BAND_SLIP_PX = 0.3  # a band that lies further off does not belong to the same scan
SHARP_SHARE = 0.9  # of the fine structure's modulation: less is blurred
SHEAR_EDGE_PX = 0.05  # a shear that moves the outermost rows by less is left alone


@dataclass(frozen=True)
class Fixed:
    """The frame that others are aligned with: smoothed, its derivatives, and its noise.

    `value`, `along_x`, `along_y`, `fine` (y, x) float32; `noise` in grey levels.
    """

    value: F32
    along_x: F32
    along_y: F32
    fine: F32
    noise: float

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px."""
        return int(self.value.shape[0]), int(self.value.shape[1])


@dataclass(frozen=True)
class Alignment:
    """Displacement of a picture against the frame (px), and its shear against the frame's.

    What the frame shows at (x, y) the picture shows at x - dx - shear * (y' - middle line),
    y' = y - dy.

    `sigma_px` is the standard error of the displacement as its parts show it; `score` the
    correlation after smoothing (-1..1); `gain` what multiplies its grey levels to give the
    frame's contrast.
    """

    dx_px: float
    dy_px: float
    shear: float
    sigma_px: float
    score: float
    gain: float


def prepare_fixed(picture: F32) -> Fixed:
    """A frame (y, x) made ready for `align`."""
    detail = high_passed(picture)
    smooth, slope = gaussian_kernel(SMOOTH_PX), gaussian_slope(SMOOTH_PX)
    value = separable(detail, smooth, smooth)
    wide = gaussian_kernel(COARSE_PX)
    return Fixed(
        value,
        separable(detail, slope, smooth),
        separable(detail, smooth, slope),
        value - separable(detail, wide, wide),
        noise_sigma(picture),
    )


def align(
    fixed: Fixed, picture: F32, start: tuple[float, float], *, shear: float = 0.0
) -> Alignment | str:
    """Where `picture` (y, x) lies against `fixed`, or why it must not be averaged with it.

    `start` (dx, dy) px may be wrong by `SEARCH_PX`, `shear` (against the frame's own) by a
    few thousandths. The whole pixel with the best correlation of the smoothed overlap comes
    first; from there Gauss-Newton steps minimise the squared difference over dx, dy and
    shear with gain and offset free (inverse compositional: Baker and Matthews 2004). The
    gradient is that of the frame, which is never resampled, so its noise does not bias the
    step. Eight bands of rows stand for the overlap; each is judged by itself at the end.
    """
    detail, height = high_passed(picture), fixed.shape[0]
    edge_px = abs(shear) * height / 2
    if edge_px > SHEAR_EDGE_PX:
        rows = np.arange(height, dtype=np.float64) - (height - 1) / 2
        detail = shift_rows(detail, shear * rows, fill=0.0)
    else:
        shear, edge_px = 0.0, 0.0
    bands = _Bands.over(fixed, detail, start, lean_px=edge_px)
    if bands is None:
        return "overlaps too little"
    position = bands.refined(start)
    if position is None:
        return "does not match"
    state = bands.compare(position)
    noise = noise_sigma(picture)
    problem = state.problem(noise)
    if problem:
        return problem
    gain, modulation = bands.contrast(position, noise)
    if modulation < SHARP_SHARE:
        return f"blurred: {100 * modulation:.0f} % of the frame's fine modulation"
    lean = position[2] if abs(position[2]) * height / 2 > SHEAR_EDGE_PX else 0.0
    return Alignment(
        # The bands lie in the frame's rows; the displacement is that of the picture's own.
        float(position[0] + lean * position[1]),
        float(position[1]),
        float(shear + lean),
        state.error_px(),
        state.score,
        gain,
    )


@dataclass(frozen=True)
class _Bands:
    """Bands of rows of the frame's side of an overlap; rows are in the frame's coordinates."""

    fixed: Fixed
    detail: F32
    rows: tuple[slice, ...]
    cols: slice
    hessians: F64  # (bands, 2, 2)

    @classmethod
    def over(
        cls, fixed: Fixed, detail: F32, start: tuple[float, float], *, lean_px: float
    ) -> _Bands | None:
        """Bands spread over the overlap at `start`; None where it is too small."""
        height, width = fixed.shape
        dx, dy = round(start[0]), round(start[1])
        inset = reach_px(COARSE_PX) + SEARCH_PX + 3
        top, bottom = max(0, dy) + inset, min(height, height + dy) - inset
        left, right = max(0, dx) + inset, min(width, width + dx) - inset
        left, right = left + int(np.ceil(lean_px)), right - int(np.ceil(lean_px))
        if min(bottom - top, right - left) < MIN_OVERLAP_PX:
            return None
        count = min(BANDS, (bottom - top) // 12)
        tall = min(BAND_ROWS, (bottom - top) // count)
        starts = np.linspace(top, bottom - tall, count).round().astype(int)
        rows = tuple(slice(int(y), int(y) + tall) for y in starts)
        cols = slice(left, right)
        hessians = np.empty((count, 2, 2))
        for k, part in enumerate(rows):
            gx, gy = fixed.along_x[part, cols], fixed.along_y[part, cols]
            hessians[k] = [[_dot(gx, gx), _dot(gx, gy)], [_dot(gx, gy), _dot(gy, gy)]]
        return cls(fixed, detail, rows, cols, hessians)

    def middles(self) -> F64:
        """Distance in px of each band's middle from the frame's middle line."""
        half = (self.fixed.shape[0] - 1) / 2
        return np.array([(part.start + part.stop - 1) / 2 - half for part in self.rows])

    def moving(self, part: slice, dx: float, dy: float, pad: int = 0) -> F32:
        """The picture's smoothed values on a band at displacement (dx, dy), `pad` px wider."""
        right, down = round(dx), round(dy)
        edge = REACH_PX + pad
        source = self.detail[
            part.start - down - edge : part.stop - down + edge,
            self.cols.start - right - edge : self.cols.stop - right + edge,
        ]
        smooth = separable(
            source, gaussian_kernel(SMOOTH_PX, dx - right), gaussian_kernel(SMOOTH_PX, dy - down)
        )
        return smooth[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]

    def best_whole(self, start: tuple[float, float]) -> tuple[int, int]:
        """The whole-pixel displacement around `start` where the bands correlate best."""
        dx, dy = round(start[0]), round(start[1])
        reach = range(-SEARCH_PX, SEARCH_PX + 1)
        both = np.zeros((len(reach), len(reach)))
        power = np.zeros_like(both)
        for part in self.rows:
            wide = self.moving(part, dx, dy, SEARCH_PX)
            # Every third row is plenty to find the pixel.
            value = np.ascontiguousarray(self.fixed.value[part, self.cols][::3])
            height, width = part.stop - part.start, value.shape[1]
            for i, sy in enumerate(reach):
                lines = wide[SEARCH_PX - sy : SEARCH_PX - sy + height : 3]
                for j, sx in enumerate(reach):
                    other = lines[:, SEARCH_PX - sx : SEARCH_PX - sx + width]
                    both[i, j] += _dot(value, other)
                    power[i, j] += _dot(other, other)
        best_y, best_x = divmod(int(np.argmax(both / np.sqrt(power + 1e-12))), len(reach))
        return dx + reach[best_x], dy + reach[best_y]

    def refined(self, start: tuple[float, float]) -> F64 | None:
        """(dx, dy, shear) where the bands match best; None where the steps run away."""
        position = np.array([*self.best_whole(start), 0.0])
        begin = position.copy()
        for _ in range(STEPS):
            step = self.compare(position).step()
            position = position - step
            if np.abs(position - begin)[:2].max() > 1.5:
                return None
            if np.abs(step * (1, 1, self.fixed.shape[0] / 2)).max() < 3e-3:
                break
        return position

    def compare(self, position: F64) -> _Compared:
        """How the bands differ at a position (dx, dy, shear)."""
        middles = self.middles()
        sums, forces = np.empty((len(self.rows), 6)), np.empty((len(self.rows), 2))
        pairs = []
        for k, part in enumerate(self.rows):
            value = self.fixed.value[part, self.cols]
            other = self.moving(part, position[0] + position[2] * middles[k], position[1])
            pairs.append((value, other))
            sums[k] = _moments(value, other)
        whole = sums.sum(axis=0)
        mean_f, mean_m, var_f, var_m, _ = _statistics(whole)
        gain = np.sqrt(var_f / max(var_m, 1e-12))
        for k, (part, (value, other)) in enumerate(zip(self.rows, pairs, strict=True)):
            left = value - np.float32(gain) * other + np.float32(gain * mean_m - mean_f)
            gx, gy = self.fixed.along_x[part, self.cols], self.fixed.along_y[part, self.cols]
            forces[k] = _dot(gx, left), _dot(gy, left)
        return _Compared(sums, forces, self.hessians, middles, self.fixed.noise)

    def contrast(self, position: F64, noise: float) -> tuple[float, float]:
        """(gain to the frame's contrast, share of its fine modulation) of the picture.

        Both from variances, less those of the noise, of what the wider Gaussian leaves and of
        what lies between the two; at whole pixels, so that nothing is interpolated. Medians
        over the bands that show enough: a spoilt spot must not count.
        """
        power = np.empty((len(self.rows), 2, 2))  # band x (frame, picture) x (coarse, fine)
        narrow, wide = gaussian_kernel(SMOOTH_PX), gaussian_kernel(COARSE_PX)
        edge = reach_px(COARSE_PX)
        for k, (part, middle) in enumerate(zip(self.rows, self.middles(), strict=True)):
            right, down = round(position[0] + position[2] * middle), round(position[1])
            source = self.detail[
                part.start - down - edge : part.stop - down + edge,
                self.cols.start - right - edge : self.cols.stop - right + edge,
            ]
            inside = slice(edge, -edge), slice(edge, -edge)
            coarse = separable(source, wide, wide)[inside]
            fine = separable(source, narrow, narrow)[inside] - coarse
            own_fine = self.fixed.fine[part, self.cols]
            own_coarse = self.fixed.value[part, self.cols] - own_fine
            values = ((own_coarse, own_fine), (coarse, fine))
            power[k] = [[_dot(v, v) / v.size for v in pair] for pair in values]
        shares = np.array(noise_shares(SMOOTH_PX, COARSE_PX)[1:])
        level = np.array([[self.fixed.noise], [noise]]) ** 2 * shares
        structure = np.maximum(power - level, 0.05 * power)
        frame, moving = structure.sum(axis=2).T
        shown = frame >= 0.5 * np.median(frame)
        coarse_ratio, fine_ratio = (structure[shown, 1] / structure[shown, 0]).T
        modulation = np.sqrt(np.median(fine_ratio / coarse_ratio))
        return float(np.sqrt(np.median(frame[shown] / moving[shown]))), float(modulation)


@dataclass(frozen=True)
class _Compared:
    """What `compare` found: moments (bands, 6), forces and second derivatives per band."""

    sums: F64
    forces: F64
    hessians: F64
    middles: F64
    noise: float

    @property
    def score(self) -> float:
        """Normalised correlation of the whole overlap."""
        _, _, var_f, var_m, cov = _statistics(self.sums.sum(axis=0))
        return float(cov / np.sqrt(max(var_f * var_m, 1e-24)))

    def scores(self) -> F64:
        """Normalised correlation of each band."""
        each = np.array([_statistics(one) for one in self.sums])
        return np.asarray(each[:, 4] / np.sqrt(np.maximum(each[:, 2] * each[:, 3], 1e-24)))

    def structure(self) -> F64:
        """`hessians` less what the noise adds, var_noise / (2 s^2) a pixel; at least a tenth."""
        _, _, var_f, _, _ = _statistics(self.sums.sum(axis=0))
        noise = max(0.0, 1 - self.score) * var_f / (2 * SMOOTH_PX**2)
        values, vectors = np.linalg.eigh(self.hessians)
        kept = np.maximum(values - noise * self.sums[:, 5:], 0.1 * values)
        return np.asarray(np.einsum("kij,kj,klj->kil", vectors, kept, vectors))

    def step(self) -> F64:
        """The Gauss-Newton step (dx, dy, shear), at most a pixel."""
        normal, force = np.zeros((3, 3)), np.zeros(3)
        scores = self.scores()
        # Bands that show something else (a torn picture) must not pull the others away.
        agree = np.flatnonzero(scores >= MATCH_SHARE * scores.max())
        structure = self.structure()
        for k in agree:
            own, pull, y = structure[k], self.forces[k], self.middles[k]
            design = np.array([[1.0, 0.0, y], [0.0, 1.0, 0.0]])
            normal += design.T @ own @ design
            force += design.T @ pull
        # Stripes do not say where they lie along themselves: there the start stands.
        scale = np.array([1.0, 1.0, max(1.0, float(np.abs(self.middles).max()))])
        normal += np.diag((1e-3 * np.trace(normal[:2, :2]) + 1e-9) * scale**2)
        delta = np.linalg.solve(normal, force)
        return np.asarray(np.clip(delta * scale, -1, 1) / scale)

    def slips(self) -> tuple[F64, F64]:
        """Displacement (bands, 2) px of each band against the whole, and its noise (bands,) px.

        0 along directions in which a band cannot tell.
        """
        values, vectors = np.linalg.eigh(self.structure())
        known = values > 0.05 * values.max(axis=1).mean()
        along = np.einsum("kij,ki->kj", vectors, self.forces)
        slips = np.einsum("kij,kj->ki", vectors, np.where(known, along / (values + 1e-9), 0.0))
        _, _, var_f, _, _ = _statistics(self.sums.sum(axis=0))
        # What differs is noise smoothed twice over: 2 pi s^2 px hold one independent value.
        left = 2 * var_f * (1 - self.score) * 2 * np.pi * SMOOTH_PX**2
        least = np.where(known, values, np.inf).min(axis=1)
        return np.asarray(slips), np.asarray(np.sqrt(left / (least + 1e-9)))

    def error_px(self) -> float:
        """Standard error of the displacement, from how the bands scatter."""
        slips, _ = self.slips()
        return float(np.sqrt(np.var(slips, axis=0, ddof=1).sum() / len(slips)))

    def problem(self, noise: float) -> str:
        """Why the picture does not show the frame's place in full; "" where it does."""
        var_f, var_m = np.array([_statistics(one)[2:4] for one in self.sums]).T
        scores = self.scores()
        share = noise_shares(SMOOTH_PX, COARSE_PX)[0]
        clean_f = np.maximum(1 - self.noise**2 * share / np.maximum(var_f, 1e-12), 0)
        clean_m = np.maximum(1 - noise**2 * share / np.maximum(var_m, 1e-12), 0)
        expected = np.sqrt(clean_f * np.maximum(clean_m, 0.25 * clean_f))
        known = expected > KNOWN_SCORE
        # Smoothing leaves one independent value in 4 pi s^2 pixels.
        independent = self.sums[:, 5].sum() / (4 * np.pi * SMOOTH_PX**2)
        if not known.any() or self.score * np.sqrt(independent) < 7:
            return "does not match"
        bad = (scores < MATCH_SHARE * expected) & known
        slips, noise_px = self.slips()
        bad |= (np.abs(slips).max(axis=1) > np.maximum(BAND_SLIP_PX, 5 * noise_px)) & known
        if not bad.any():
            return ""
        if (bad & known).sum() > 0.8 * known.sum():
            return "does not match"
        return f"torn or damaged: {bad.sum()} of {known.sum()} parts do not match"


def _moments(first: F32, second: F32) -> list[float]:
    """Sums of both, their squares and product, and the number of pixels."""
    sums = [float(cv2.sumElems(v)[0]) for v in (first, second)]
    products = _dot(first, first), _dot(second, second), _dot(first, second)
    return [*sums, *products, float(first.size)]


def _statistics(sums: F64) -> tuple[float, float, float, float, float]:
    """(mean, mean, variance, variance, covariance) from sums of `_moments`."""
    n = sums[5]
    mean_f, mean_m = sums[0] / n, sums[1] / n
    var_f, var_m = sums[2] / n - mean_f**2, sums[3] / n - mean_m**2
    return mean_f, mean_m, var_f, var_m, sums[4] / n - mean_f * mean_m


def _dot(first: F32, second: F32) -> float:
    return float(np.einsum("ij,ij->", first, second))
