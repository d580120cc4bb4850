"""Where the pixels of a low-definition picture lie in the high-definition one of its field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.resample import MARGIN_PX, resample_rows, shift_rows

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Legendre degrees of the displacement: drift down the frame needs more than bending along lines.
DEGREE_Y, DEGREE_X = 8, 3
# Lines beyond the frame for which the map is worked out, so that the taps reach there.
_BEYOND_PX = 12


def terms() -> list[tuple[int, int]]:
    """Degrees (in y, in x) of the displacement's terms: those under the diagonal."""
    return [
        (i, j)
        for i in range(DEGREE_Y + 1)
        for j in range(DEGREE_X + 1)
        if i / (DEGREE_Y + 0.5) + j / (DEGREE_X + 0.5) <= 1
    ]


@dataclass(frozen=True)
class PairGeometry:
    """The map from the LD picture's pixels to the HD picture's, all in px.

    A pixel (y, x) of an LD picture of `shape` lies in the HD picture at y + Y(y, x) and
    x + X(y, x) + ld_lines[y] - hd_lines[v], where v is the HD line it falls on (linearly
    between two). X and Y are Legendre series over the LD frame (-1..1), with coefficients
    `field_x` and `field_y` of shape (DEGREE_Y + 1, DEGREE_X + 1): rotation, scale, shift, drift
    down the frame and bending along lines. `ld_lines` (h,) and `hd_lines` (H,) are what single
    lines jitter by beyond it: how far right of its place a line looked.
    """

    shape: tuple[int, int]
    field_x: Float64
    field_y: Float64
    ld_lines: Float64
    hd_lines: Float64

    @property
    def shift_px(self) -> tuple[float, float]:
        """Mean displacement (dx, dy) from LD to HD."""
        return float(self.field_x[0, 0]), float(self.field_y[0, 0])

    @property
    def rotation_deg(self) -> float:
        """Rotation of the HD picture's content against the LD picture's, from x towards y."""
        return float(np.degrees(np.arctan(2 * self.field_y[0, 1] / max(1, self.shape[1] - 1))))

    @property
    def scale_x(self) -> float:
        """How much longer the content is along x in the HD picture; 1 where alike."""
        return 1 + float(2 * self.field_x[0, 1] / max(1, self.shape[1] - 1))

    @property
    def scale_y(self) -> float:
        """How much longer the content is along y in the HD picture; 1 where alike."""
        return 1 + float(2 * self.field_y[1, 0] / max(1, self.shape[0] - 1))

    def positions(self) -> tuple[Float64, Float64]:
        """HD coordinates (y, x), each (h, w) float64, of every LD pixel."""
        y, x = self.smooth()
        x = x + self.ld_lines[:, None]
        if self.hd_lines.any():
            x -= np.interp(y, np.arange(len(self.hd_lines)), self.hd_lines)
        return y, x

    def smooth(self, beyond_px: int = 0) -> tuple[Float64, Float64]:
        """HD coordinates (y, x) without jitter, for the LD lines and some beyond the frame."""
        rows = np.arange(-beyond_px, self.shape[0] + beyond_px)
        cols = np.arange(self.shape[1])
        in_y = legendre(rows, self.shape[0], DEGREE_Y)
        in_x = legendre(cols, self.shape[1], DEGREE_X)
        return (
            rows[:, None] + in_y @ self.field_y @ in_x.T,
            cols[None, :] + in_y @ self.field_x @ in_x.T,
        )

    def resample(self, hd: npt.NDArray[np.generic]) -> Float32:
        """The HD picture on the LD grid, float32 (h, w), NaN where it has no pixels.

        Three passes of the filter of `cemi_dask.resample`, which is flat up to 0.40 cycles
        per px: along HD lines (jitter, then smooth map), along columns, along LD lines
        (Catmull and Smith 1980, two-pass transformations). Pixels that would be made of
        mirrored ones (within 8 px of the HD picture's border) are NaN too.
        """
        straight = shift_rows(hd, self.hd_lines) if self.hd_lines.any() else np.asarray(hd, "f4")
        y, x = self.smooth(_BEYOND_PX)
        own = slice(_BEYOND_PX, -_BEYOND_PX)
        # On HD line v, column x of the result shows the place where the map crosses v.
        lines = np.arange(len(straight), dtype=np.float64)
        columns = zip(y.T, x.T, strict=True)
        crossing = np.stack([np.interp(lines, v, u) for v, u in columns], axis=1)
        along = _filled(resample_rows(_filled(straight), crossing))
        upright = resample_rows(along.T, np.ascontiguousarray(y[own].T)).T
        out = shift_rows(_filled(upright), -self.ld_lines) if self.ld_lines.any() else upright
        out = np.array(out, np.float32)
        out[~self.covered(hd.shape)] = np.nan
        return out

    def covered(
        self, hd_shape: tuple[int, ...], margin_px: int = MARGIN_PX
    ) -> npt.NDArray[np.bool_]:
        """Where (h, w) the LD pixels lie in an HD picture, at least a margin from its border."""
        y, x = self.positions()
        inside_y = (y >= margin_px) & (y <= hd_shape[0] - 1 - margin_px)
        return np.asarray(inside_y & (x >= margin_px) & (x <= hd_shape[1] - 1 - margin_px))


def legendre(places: npt.NDArray[np.generic], size: int, degree: int) -> Float64:
    """Legendre polynomials 0..degree (n, degree + 1) at pixels of a side of `size` px."""
    along = 2 * np.asarray(places, np.float64) / max(1, size - 1) - 1
    return np.asarray(np.polynomial.legendre.legvander(along, degree), np.float64)


def _filled(plane: Float32) -> Float32:
    """NaN replaced by the mean, so that filters do not spread it; `covered` tells where."""
    known = np.isfinite(plane)
    mean = plane[known].mean(dtype=np.float64) if known.any() else 0.0
    return np.where(known, plane, np.float32(mean))
