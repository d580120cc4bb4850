"""Microstructure of a picture that exists already: labels, cells, profile, hardness."""

import argparse
from pathlib import Path

import dask.array as da
import pandas as pd

from cemi_dask.analyse import AnalyseOptions, GridOptions, LamellaWidth, analyse, correlate, profile
from cemi_dask.segment import Bradley, segment
from cemi_dask.simulate import Specimen


def main() -> None:
    """Measure a simulated picture on a grid; put your own array in its place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the tables")
    parser.add_argument("--width", type=int, default=2048, help="of the picture, px")
    given = parser.parse_args()
    specimen = Specimen(width_px=given.width, seed=1)
    picture = specimen.image(0, 0, (512, given.width), psf_sigma_px=0.6).round().astype("uint8")

    mosaic = da.from_array(picture, chunks=(256, 512))  # or open_mosaic(...).levels[0]
    labels = {
        "lamellar": segment(mosaic, method="coherence"),
        "bcc": segment(mosaic, method=Bradley(window_px=63, percent=15)),
    }
    grid = GridOptions(cell_px=(256, 256))
    cells = analyse(mosaic, labels, grid=grid, pixel_um=specimen.pixel_um)
    along_x = profile(cells)
    print(along_x[["x_um", "bcc_fraction", "lamellar_fraction", "lamella_width_um"]])

    paper = AnalyseOptions(measures=(LamellaWidth(variant="paper"),))
    counted = analyse(mosaic, labels, grid=grid, options=paper, pixel_um=specimen.pixel_um)
    print("by the paper's count:", counted["lamella_width_um"].mean(), "um")

    given.out.mkdir(parents=True, exist_ok=True)
    hardness = pd.DataFrame({"x_um": along_x["x_um"], "hardness": 300 + 0.1 * along_x["x_um"]})
    hardness.to_csv(given.out / "hardness.csv", index=False)
    print(correlate(along_x, given.out / "hardness.csv"))
    cells.to_csv(given.out / "cells.csv", index=False)


if __name__ == "__main__":
    main()
