"""How well the width of lamellae of known period is measured: RMS errors by period.

Straight and curved lamellae (arcs of 400 px radius) are drawn by supersampling, each pixel the mean
of its area, blurred by a Gaussian of 0.7 px, with white noise, as uint8, in cells of 413 x 508 px.
A coarse patch of both phases stands in a cell beside them, as primary grains do in an ingot: where
the lamellae are so thin that blur hides how thick each phase is, that comes from the phases' grey
levels (`--alone` leaves that cell out). `> 5 %`: share of the area where spectrum and chords
disagree by more than 5 %.

    python benchmarks/widths.py
    python benchmarks/widths.py --noise 30
    python benchmarks/widths.py --alone
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import cv2
import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from measure import show

from cemi_dask.analyse import AnalyseOptions, GridOptions, analyse

PERIODS = (2.7, 3.5, 4.0, 5.4, 8.0, 20.0, 40.0)
DEGREES = (0.0, 38.1, 128.6)
DUTIES = (0.25, 0.4, 0.75)
NOISES = (0.0, 10.0, 30.0)
SHAPE = (413, 508)
DARK, BRIGHT = 90.0, 150.0
RADIUS_PX = 400.0
STRIP_PX = 59  # 7 strips: the supersampled picture takes little memory
HEADS = (
    "period px",
    "n",
    "measured",
    "period",
    "worst",
    "chords",
    "paper",
    "dark",
    "bright",
    "> 5 %",
)
Picture = npt.NDArray[np.float32]


def main() -> None:
    """Print one row per period."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--periods", type=float, nargs="+", default=PERIODS, help="px")
    parser.add_argument("--noise", type=float, nargs="+", default=NOISES, help="sigma")
    parser.add_argument("--alone", action="store_true", help="no cell with coarse phases beside")
    given = parser.parse_args()
    for curved in (False, True):
        print(f"\n{'curved' if curved else 'straight'}: RMS error in per cent (bias in brackets)\n")
        rows = [row(p, given.noise, curved, alone=given.alone) for p in given.periods]
        show(HEADS, rows)


def row(period: float, noises: list[float], curved: bool, *, alone: bool) -> list[Any]:
    """Errors over all angles, duties and noises."""
    found: list[list[float]] = []
    for number, (degrees, duty, noise) in enumerate(product(DEGREES, DUTIES, noises)):
        if noise == noises[0]:
            clean = lamellae(period, degrees, duty, curved=curved)
        cell = measured(recorded(clean, noise, seed=number), noise, alone=alone)
        widths = (
            ("period_px", period),
            ("period_chord_px", period),
            ("lamella_width_paper_px", period / 2),
            ("dark_width_px", duty * period),
            ("bright_width_px", (1 - duty) * period),
        )
        errors = [100 * (cell.get(name, np.nan) / true - 1) for name, true in widths]
        found.append([*errors, cell.get("width_flagged_fraction", np.nan)])
    table = np.array(found)
    period_error, chord, paper, dark, bright = table[:, :5].T
    worst = float(np.nanmax(np.abs(period_error)))
    told = [told_of(v) for v in (period_error, chord, paper, dark, bright)]
    known = f"{np.isfinite(period_error).sum()}/{len(table)}"
    flagged = f"{100 * np.nanmean(table[:, 5]):.0f} %" if np.isfinite(table[:, 5]).any() else "-"
    return [period, len(table), known, told[0], f"{worst:.2f}", *told[1:], flagged]


def told_of(errors: npt.NDArray[np.float64]) -> str:
    """RMS, bias and, where some are missing, how many were measured."""
    known = errors[np.isfinite(errors)]
    if not len(known):
        return "-"
    text = f"{np.sqrt(np.mean(known**2)):.2f} ({np.mean(known):+.2f})"
    return text if len(known) == len(errors) else f"{text}, n = {len(known)}"


def lamellae(period: float, degrees: float, duty: float, *, curved: bool) -> Picture:
    """Noise-free grey levels of a cell, each pixel the mean over its area."""
    sub = 6 if period < 10 else 3
    picture = np.empty(SHAPE, np.float32)
    angle = np.deg2rad(degrees)
    for top in range(0, SHAPE[0], STRIP_PX):
        rows = min(STRIP_PX, SHAPE[0] - top)
        y = (top + (np.arange(rows * sub, dtype=np.float64) + 0.5) / sub)[:, None]
        x = ((np.arange(SHAPE[1] * sub, dtype=np.float64) + 0.5) / sub)[None, :]
        if curved:
            cy, cx = SHAPE[0] / 2, SHAPE[1] / 2
            away = np.hypot(y - cy + RADIUS_PX * np.sin(angle), x - cx + RADIUS_PX * np.cos(angle))
        else:
            away = x * np.cos(angle) + y * np.sin(angle)
        dark = (np.mod(away / period, 1.0) < duty).astype(np.float32)
        small = cv2.resize(dark, (SHAPE[1], rows), interpolation=cv2.INTER_AREA)
        picture[top : top + rows] = BRIGHT + (DARK - BRIGHT) * small
    return picture


def recorded(clean: Picture, noise: float, *, seed: int) -> npt.NDArray[np.uint8]:
    """The picture blurred, noisy, as a microscope stores it."""
    blurred = cv2.GaussianBlur(clean, (0, 0), 0.7)
    noisy = blurred + np.random.default_rng(seed).normal(0, noise, clean.shape)
    return np.clip(np.rint(noisy), 1, 255).astype(np.uint8)


def measured(cell: npt.NDArray[np.uint8], noise: float, *, alone: bool) -> dict[str, float]:
    """What the default finds in a cell, beside one with coarse phases or alone."""
    lamellar = np.ones(cell.shape, np.uint8)
    picture = cell
    if not alone:
        coarse = np.where(np.arange(SHAPE[1]) // 24 % 2, DARK, BRIGHT).astype(np.float32)
        beside = recorded(np.tile(coarse, (SHAPE[0], 1)), noise, seed=10**6)
        picture = np.hstack([cell, beside])
        lamellar = np.hstack([lamellar, np.zeros(cell.shape, np.uint8)])
    options = AnalyseOptions(measures=["bcc_fraction", "lamella_width"])
    with dask.config.set(scheduler="synchronous"):
        table = analyse(
            da.from_array(picture, chunks=-1),
            {"lamellar": da.from_array(lamellar, chunks=-1)},
            grid=GridOptions(cell_px=SHAPE),
            options=options,
        )
    return {str(k): float(v) for k, v in table.iloc[0].items()}


if __name__ == "__main__":
    main()
