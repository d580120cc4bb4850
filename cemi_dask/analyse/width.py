"""Width of lamellae: from the local spectrum, by chords, and as the paper counted it."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cemi_dask.analyse.cell import (
    Analyser,
    CellView,
    Measured,
    weighted_standard_error,
)
from cemi_dask.analyse.crests import Crests, follow_crests
from cemi_dask.analyse.fractions import noise_doubt
from cemi_dask.analyse.paper_width import paper_width
from cemi_dask.analyse.thickness import combined, dark_share
from cemi_dask.analyse.waves import Patch, find_waves

NAN = float("nan")
Floats = npt.NDArray[np.float64]

DISAGREE = 0.05  # between spectrum and chords: such a patch is flagged
# A random section cuts lamellae askew; the harmonic mean of what it shows is 4 / pi too wide.
TRUE_SHARE = np.pi / 4
# How far the two ways to a phase's share of the period are off besides chance: real profiles
# are no blurred two-level waves, and levels are read to 1 % of the contrast (`noise_doubt` more).
PROFILE_ERROR, LEVEL_ERROR = 0.007, 0.006
MOST_NOISE = 0.25  # over the contrast: beyond, lamellae of one phase look like plateaus
# Patches cover the cell they speak for: the spread between them is mostly real, and their mean
# better known than that of a sample (by simulation, benchmarks/coverage.py).
COVERED = 0.7
PIXEL_SIGMA = 12**-0.5  # of a pixel's own width, px
SHARE_LIMITS = (0.03, 0.97)


class LamellaWidth(Analyser):
    """Mean lamella width in a cell: half the period of the lamellae.

    A lamella is one layer of either phase, so a period (one dark and one bright layer) holds
    two: lamellae "about 600 nm wide" at 0.222 um per px repeat every 5.4 px. All widths are
    apparent, as cut by the polished surface, but ``lamella_width_true_px``: pi / 4 times the
    harmonic mean, the mean width in space where lamellae have no preferred direction there
    (half the mean random spacing 1 / N_L; Underwood 1970, Quantitative Stereology; Vander Voort
    and Roosz 1984, Metallography 17). It means something for many colonies, not for one.

    `variant` chooses what goes into the column ``lamella_width_px``: ``spectral``, half the
    period at the peak of the local spectrum (tapered patches, parabola through the logarithm
    of the peak), area-weighted over patches that are lamellar; or ``paper``, the length of
    a line across the minimum-area rectangle of each lamellar region, perpendicular to the
    lamellae, divided by the number of lamellae it crosses (Lang et al.). The paper's value is
    always given in ``lamella_width_paper_px`` as well, and the period in ``period_px``.

    ``period_chord_px``: the period again, from chords along the local normal through grey
    values averaged along the lamellae; ``width_flagged_fraction``: share of the area measured
    where the two differ by more than 5 % or chords find nothing. ``lamella_width_spread_px``:
    standard deviation of the width between patches. ``dark_width_px``, ``bright_width_px``:
    mean thickness of the lamellae of each phase, from the mean profile of a period where
    it has three harmonics (periods above 6.3 px), and from the mean grey level between the levels
    of the two phases where `bcc_fraction` was measured before; blur hides it in thinner
    lamellae otherwise, and then it is NaN.

    NaN where the cell holds no lamellar patch (or region). Needs the label ``lamellar``; uses
    the label ``bcc`` for the paper's count where there is one.
    """

    measures: ClassVar[tuple[str, ...]] = ("lamella_width_px", "dark_width_px", "bright_width_px")
    extras: ClassVar[tuple[str, ...]] = (
        "period_px",
        "period_chord_px",
        "width_flagged_fraction",
        "lamella_width_spread_px",
        "lamella_width_true_px",
        "lamella_width_paper_px",
    )

    method: Literal["lamella_width"] = "lamella_width"
    variant: Literal["spectral", "paper"] = "spectral"
    patch_px: int = Field(
        default=128, ge=32, le=1024, description="Side of a patch, px; more for long periods."
    )
    min_period_px: float = Field(default=2.5, ge=2.0, description="Shortest period, px.")
    max_period_px: float = Field(default=40.0, gt=2.0, description="Longest period, px.")
    min_lamellar: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Least lamellar share of a patch."
    )
    psf_sigma_px: float | None = Field(
        default=None,
        ge=0.0,
        description="Blur of the picture, px, where it is known: then two harmonics tell the "
        "thickness of the phases (periods above 4.2 px).",
    )
    min_region_px: int = Field(
        default=400, ge=16, description="Least area of a region for the paper's variant, px."
    )

    def __call__(self, view: CellView) -> Measured:
        """Widths and periods, px; for `settle` the dark phase's share of a period."""
        lamellar = view.label("lamellar")
        patches = find_waves(
            view.grey,
            lamellar,
            patch_px=self.patch_px,
            min_lamellar=self.min_lamellar,
            band_px=(self.min_period_px, self.max_period_px),
        )
        result = self.nothing()
        if patches:
            result |= _from_spectrum(patches)
            result |= _from_chords(view, lamellar, patches, self.psf_sigma_px)
        widths, sizes = self._paper_widths(view, lamellar)
        if len(widths):
            result["lamella_width_paper_px"] = float(np.average(widths, weights=sizes))
        if self.variant == "paper":
            result["lamella_width_px"] = result["lamella_width_paper_px"]
            result["lamella_width_px_se"] = weighted_standard_error(widths, sizes)
        return result

    def settle(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Thickness of both phases, with the grey levels that `bcc_fraction` found."""
        if "_dark_share" not in cells:
            return cells
        names = ("_dark_share", "_dark_share_se", "_lamellar_mean", "period_px")
        share, error, mean, period = (cells[name].to_numpy(float) for name in names)
        by_level, level_error = np.full(len(cells), NAN), np.full(len(cells), LEVEL_ERROR)
        if {"dark_level", "bright_level", "_noise"} <= {*cells.columns}:
            dark, bright = (cells[f"{k}_level"].to_numpy(float) for k in ("dark", "bright"))
            with np.errstate(invalid="ignore", divide="ignore"):
                by_level = np.where(bright > dark, (bright - mean) / (bright - dark), NAN)
                noise = np.nan_to_num(cells["_noise"].to_numpy(float) / (bright - dark))
            level_error = np.hypot(level_error, noise_doubt(noise))
            by_level = np.where(noise < MOST_NOISE, by_level, NAN)
        possible = (by_level > SHARE_LIMITS[0]) & (by_level < SHARE_LIMITS[1])
        by_level = np.where(possible, by_level, NAN)
        share, error = combined((share, np.hypot(error, PROFILE_ERROR)), (by_level, level_error))
        relative = cells["lamella_width_px_se"].to_numpy(float) * 2 / period
        if self.variant == "paper":
            relative = np.zeros(len(cells))
        return cells.assign(
            dark_width_px=share * period,
            dark_width_px_se=period * np.hypot(error, share * relative),
            bright_width_px=(1 - share) * period,
            bright_width_px_se=period * np.hypot(error, (1 - share) * relative),
        )

    def _paper_widths(
        self, view: CellView, lamellar: npt.NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
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


def _from_spectrum(patches: list[Patch]) -> Measured:
    periods = np.array([p.wave.period_px for p in patches])
    areas = np.array([p.area_px for p in patches], np.float64)
    mean = float(np.average(periods, weights=areas))
    spread = float(np.sqrt(np.average((periods - mean) ** 2, weights=areas)))
    harmonic = 1 / float(np.average(1 / periods, weights=areas))
    return {
        "period_px": mean,
        "lamella_width_px": mean / 2,
        "lamella_width_px_se": COVERED * weighted_standard_error(periods, areas) / 2,
        "lamella_width_spread_px": spread / 2 if len(periods) > 1 else NAN,
        "lamella_width_true_px": TRUE_SHARE * harmonic / 2,
    }


def _from_chords(
    view: CellView,
    lamellar: npt.NDArray[np.bool_],
    patches: list[Patch],
    psf_sigma_px: float | None,
) -> Measured:
    followed = [follow_crests(view.grey[p.ys, p.xs], lamellar[p.ys, p.xs], p.wave) for p in patches]
    areas = np.array([p.area_px for p in patches], np.float64)
    chords = np.array([NAN if c is None else c.chord_period_px for c in followed])
    periods = np.array([p.wave.period_px for p in patches])
    agree = np.abs(chords / periods - 1) <= DISAGREE
    known = np.isfinite(chords)
    blur = None
    if psf_sigma_px is not None:
        blur = float(np.hypot(psf_sigma_px, PIXEL_SIGMA) / np.average(periods, weights=areas))
    share, error = _dark_share([c for c in followed if c is not None], blur)
    inside = view.grey[lamellar]
    return {
        "period_chord_px": float(np.average(chords[known], weights=areas[known]))
        if known.any()
        else NAN,
        "width_flagged_fraction": float(areas[~agree].sum() / areas.sum()),
        "_dark_share": share,
        "_dark_share_se": error,
        "_lamellar_mean": float(inside.mean(dtype=np.float64)),
    }


def _dark_share(followed: list[Crests], blur: float | None) -> tuple[float, float]:
    """(share of the dark phase in a period, its error) from the mean profile of all patches."""
    if not followed:
        return NAN, NAN
    count = min(len(c.harmonics) for c in followed)
    weights = np.array([1 / c.variance for c in followed])
    harmonics = np.average([c.harmonics[:count] for c in followed], axis=0, weights=weights)
    return dark_share(harmonics, np.full(count, 1 / weights.sum()), blur=blur)
