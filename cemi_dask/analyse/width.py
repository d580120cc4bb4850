"""Width of lamellae: from the local spectrum, and as the paper counted it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
from pydantic import Field

from cemi_dask.analyse.cell import (
    Analyser,
    CellView,
    Measured,
    weighted_median,
    weighted_standard_error,
)

NAN = float("nan")
# Relative to the cell's median period: what is nearer always counts, what is farther never.
LEAST_APART, MOST_APART = 0.1, 0.25
MIN_PEAK = 30.0  # power of a peak over the mean power of the band


class LamellaWidth(Analyser):
    """Mean lamella width in a cell: half the period of the lamellae.

    A lamella is one layer of either phase, so a period (one dark and one bright layer) holds
    two: lamellae "about 600 nm wide" at 0.222 um per px repeat every 5.4 px. The width is
    apparent, as cut by the polished surface.

    `variant` chooses what goes into the column ``lamella_width_px``: ``spectral``, half the
    period at the peak of the local spectrum (tapered patches, parabola through the logarithm
    of the peak), area-weighted over patches that are lamellar; or ``paper``, the length of
    a line across the minimum-area rectangle of each lamellar region, perpendicular to the
    lamellae, divided by the number of lamellae it crosses (Lang et al.). The paper's value is
    always given in ``lamella_width_paper_px`` as well, and the period in ``period_px``.
    NaN where the cell holds no lamellar patch (or region). Needs the label ``lamellar``; uses
    the label ``bcc`` for the paper's count where there is one.
    """

    measures: ClassVar[tuple[str, ...]] = ("lamella_width_px",)
    extras: ClassVar[tuple[str, ...]] = ("period_px", "lamella_width_paper_px")

    method: Literal["lamella_width"] = "lamella_width"
    variant: Literal["spectral", "paper"] = "spectral"
    patch_px: int = Field(default=128, ge=32, le=1024, description="Side of a patch, px.")
    min_period_px: float = Field(default=2.5, ge=2.0, description="Shortest period, px.")
    max_period_px: float = Field(default=40.0, gt=2.0, description="Longest period, px.")
    min_lamellar: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Least lamellar share of a patch."
    )
    min_region_px: int = Field(
        default=400, ge=16, description="Least area of a region for the paper's variant, px."
    )

    def __call__(self, view: CellView) -> Measured:
        """Width with its standard error, period, and the paper's width, all px."""
        lamellar = view.label("lamellar")
        periods, areas = self._patch_periods(view.grey, lamellar)
        result = self.nothing()
        if len(periods):
            result["period_px"] = float(np.average(periods, weights=areas))
        widths, sizes = self._paper_widths(view, lamellar)
        if len(widths):
            result["lamella_width_paper_px"] = float(np.average(widths, weights=sizes))
        if self.variant == "paper":
            result["lamella_width_px"] = result["lamella_width_paper_px"]
            result["lamella_width_px_se"] = weighted_standard_error(widths, sizes)
        else:
            result["lamella_width_px"] = result["period_px"] / 2
            result["lamella_width_px_se"] = weighted_standard_error(periods, areas) / 2
        return result

    def _patch_periods(
        self, grey: npt.NDArray[Any], lamellar: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(periods in px, lamellar areas in px) of the patches that show one, without outliers."""
        found = []
        for ys in _patches(grey.shape[0], self.patch_px):
            for xs in _patches(grey.shape[1], self.patch_px):
                inside = lamellar[ys, xs]
                if inside.mean() >= self.min_lamellar:
                    period = self._period(grey[ys, xs], inside)
                    if np.isfinite(period):
                        found.append((period, inside.sum()))
        periods, areas = np.array(found, np.float64).reshape(-1, 2).T
        if not len(periods):
            return periods, areas
        # A patch on a colony border, a scratch or the arms of a dendrite may peak elsewhere. It
        # is left out, also where such patches are so many that they widen the spread.
        middle = weighted_median(periods, areas)
        apart = np.abs(periods - middle)
        keep = apart <= np.clip(5.0 * np.median(apart), LEAST_APART * middle, MOST_APART * middle)
        return periods[keep], areas[keep]

    def _period(self, grey: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> float:
        longest = min(self.max_period_px, min(grey.shape) / 3)
        return spectral_period(grey, inside, shortest_px=self.min_period_px, longest_px=longest)

    def _paper_widths(
        self, view: CellView, lamellar: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(widths in px, areas in px) of the lamellar regions, one line across each."""
        count, regions, stats, _ = cv2.connectedComponentsWithStats(lamellar.astype(np.uint8))
        grey = np.where(view.valid, view.grey, 0).astype(np.float32)
        bcc = view.label("bcc") if "bcc" in view.labels else None
        found = []
        for region in range(1, count):
            area = int(stats[region, cv2.CC_STAT_AREA])
            if area >= self.min_region_px:
                width = paper_width(grey, bcc, np.asarray(regions == region))
                if np.isfinite(width):
                    found.append((width, area))
        widths, areas = np.array(found, np.float64).reshape(-1, 2).T
        return widths, areas


def _patches(length: int, patch_px: int) -> list[slice]:
    """Slices of at most `patch_px` that cover `length`, evenly spread."""
    size = min(length, patch_px)
    count = -(-length // size)
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    return [slice(start, start + size) for start in starts]


def spectral_period(
    grey: npt.NDArray[Any],
    inside: npt.NDArray[np.bool_],
    *,
    shortest_px: float,
    longest_px: float,
) -> float:
    """Period in px of the strongest wave in a patch (y, x), NaN where none stands out.

    The patch, less its mean over `inside`, is tapered with a Hann window and zero-padded to
    twice its size; a parabola through the logarithm of the power at the peak and its
    neighbours gives the frequency to about a hundredth of a cycle.
    """
    height, width = grey.shape
    weight = np.outer(_hann(height), _hann(width)) * inside
    value = np.where(inside, grey, 0).astype(np.float64)
    tapered = (value - (value * weight).sum() / weight.sum()) * weight
    size = [scipy.fft.next_fast_len(2 * n, real=True) for n in grey.shape]
    power = np.abs(scipy.fft.rfft2(tapered, s=size)) ** 2
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    radius = np.hypot(fy, fx)
    band = np.where((radius >= 1 / longest_px) & (radius <= 1 / shortest_px), power, -1.0)
    row, col = divmod(int(np.argmax(band)), band.shape[1])
    # Power of noise is exponential: the largest of 10^4 is about 10 times its mean, and twice
    # that where blur favours its low frequencies.
    background = np.mean(band[band >= 0])
    if not power[row, col] > MIN_PEAK * background:
        return NAN
    peak_y = fy[row, 0] + _vertex(power, row, col, axis=0) / size[0]
    peak_x = fx[0, col] + _vertex(power, row, col, axis=1) / size[1]
    return float(1.0 / np.hypot(peak_y, peak_x))


def _hann(length: int) -> npt.NDArray[np.float64]:
    # Without the zeros at both ends: every pixel counts.
    return np.asarray(np.hanning(length + 2)[1:-1])


def _vertex(power: npt.NDArray[np.float64], row: int, col: int, *, axis: int) -> float:
    """Offset in bins, -0.5..0.5, of the vertex of a parabola through log power at (row, col)."""
    height, width = power.shape
    if axis == 0:
        line = [power[(row + k) % height, col] for k in (-1, 0, 1)]
    else:
        # Column 0 mirrors: power at -fx equals power at +fx and -fy.
        left = power[row, col - 1] if col else power[-row % height, 1]
        right = power[row, col + 1] if col + 1 < width else power[-row % height, col - 1]
        line = [left, power[row, col], right]
    a, b, c = np.log(np.maximum(line, np.finfo(np.float64).tiny))
    curvature = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def paper_width(
    grey: npt.NDArray[np.float32],
    bcc: npt.NDArray[np.bool_] | None,
    region: npt.NDArray[np.bool_],
) -> float:
    """Lamella width in px of one lamellar region (y, x), as the paper measured it.

    A line through the centre of the region's minimum-area rectangle runs along the mean
    normal of the lamellae from side to side; its length is divided by the number of lamellae
    (of both phases) met on it. Phases are told apart by `bcc`, or, without it, by the line's
    mean grey level. NaN where the line meets fewer than three lamellae. Lang et al., CEMI.
    """
    points = cv2.findNonZero(region.astype(np.uint8))
    (cx, cy), (width, height), angle = cv2.minAreaRect(points)
    normal = _normal_angle(grey, region)
    turned = normal - np.deg2rad(angle)
    reach = min(
        width / 2 / max(abs(np.cos(turned)), 1e-9), height / 2 / max(abs(np.sin(turned)), 1e-9)
    )
    t = np.linspace(-reach, reach, max(2, round(8 * reach)))
    y, x = cy + t * np.sin(normal), cx + t * np.cos(normal)
    on = (y >= 0) & (x >= 0) & (y <= grey.shape[0] - 1) & (x <= grey.shape[1] - 1)
    if np.count_nonzero(on) < 2:
        return NAN
    y, x = y[on], x[on]
    if bcc is None:
        line = scipy.ndimage.map_coordinates(grey, [y, x], order=1)
        dark = line < line.mean()
    else:
        dark = bcc[np.rint(y).astype(int), np.rint(x).astype(int)]
    lamellae = 1 + np.count_nonzero(dark[1:] != dark[:-1])
    length = float(np.hypot(y[-1] - y[0], x[-1] - x[0]))
    return length / lamellae if lamellae >= 3 else NAN


def _normal_angle(grey: npt.NDArray[np.float32], region: npt.NDArray[np.bool_]) -> float:
    """Direction (radians from x towards y) in which grey levels change most in the region."""
    inside = cv2.erode(region.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)[inside].astype(np.float64)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)[inside].astype(np.float64)
    return float(0.5 * np.arctan2(2 * np.sum(gx * gy), np.sum(gx * gx - gy * gy)))
