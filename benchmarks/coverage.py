"""Whether 95 % intervals (1.96 standard errors) cover the truth of simulated cells.

Windows of simulated ingots are recorded with a blur of 0.7 px and noise, segmented and measured
as `cemi run` does it; each cell's values are compared with the truth of that very cell. `ratio`
is the root mean square of the errors over that of the standard errors.

    python benchmarks/coverage.py --windows 12
"""

from __future__ import annotations

import argparse
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
from measure import show

from cemi_dask.analyse import AnalyseOptions, GridOptions, analyse, make_grid
from cemi_dask.segment import segment
from cemi_dask.simulate import Microscope, Specimen

SHAPE = (1239, 1524)
GRID = GridOptions(cell_px=(413, 508))
PLACES = (0, 30_000, 60_000, 100_000)  # along the ingot: its gradients
MEASURES = ("bcc_fraction", "lamellar_fraction", "lamella_width_px", "dark_width_px")
FIRST_SEED = 100  # the errors' constants were found on seeds 20 to 27


def main() -> None:
    """Print one row per noise and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=12, help="of nine cells each")
    parser.add_argument("--noise", type=float, nargs="+", default=[4.5, 15.0], help="sigma")
    given = parser.parse_args()
    rows: list[list[Any]] = []
    for noise in given.noise:
        seeds = range(FIRST_SEED, FIRST_SEED + given.windows)
        cells = pd.concat([measured(seed, noise) for seed in seeds])
        rows += [[noise, *row(cells, name)] for name in MEASURES]
    show(["noise", "measure", "cells", "bias", "rms error", "ratio", "covered"], rows)


def measured(seed: int, noise: float) -> pd.DataFrame:
    """Cells of one window: what was measured, and in `NAME_true` what is true."""
    left = PLACES[seed % len(PLACES)]
    specimen = Specimen(seed=seed)
    clean = specimen.image(0, left, SHAPE, psf_sigma_px=0.7)
    noisy = Microscope(noise_sigma=noise)._noisy(clean, np.random.default_rng(seed))
    grey = np.clip(np.rint(noisy), 1, 255).astype(np.uint8)
    options = AnalyseOptions(measures=["bcc_fraction", "lamellar_fraction", "lamella_width"])
    with dask.config.set(scheduler="synchronous"):
        lamellar = segment(grey, method="coherence")
        cells = analyse(da.from_array(grey), {"lamellar": lamellar}, grid=GRID, options=options)
    truth = specimen.truth_at(0, left, SHAPE)
    true = []
    for _, _, box in make_grid(SHAPE, GRID):
        part = {name: array[box.slices] for name, array in truth.items()}
        valid, lamellae = part["valid"], part["lamellar"]
        thick = part["bcc"] * part["period_px"]
        true.append(
            {
                "bcc_fraction_true": part["bcc"][valid].mean(dtype=float),
                "lamellar_fraction_true": lamellae[valid].mean(),
                "lamella_width_px_true": np.mean(part["period_px"][lamellae], dtype=float) / 2,
                "dark_width_px_true": np.mean(thick[lamellae], dtype=float),
            }
        )
    return cells.join(pd.DataFrame(true))


def row(cells: pd.DataFrame, name: str) -> list[Any]:
    """Bias, errors and coverage of one measure."""
    known = cells.dropna(subset=[name, f"{name}_se", f"{name}_true"])
    error, stated = known[name] - known[f"{name}_true"], known[f"{name}_se"]
    rms = float(np.sqrt((error**2).mean()))
    covered = float((error.abs() <= 1.96 * stated + 1e-5).mean())
    ratio = rms / float(np.sqrt((stated**2).mean()))
    return [name, len(known), float(error.mean()), rms, ratio, f"{100 * covered:.0f} %"]


if __name__ == "__main__":
    main()
