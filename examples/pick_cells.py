"""Where to look next: the cells of a run that stand out, each cut out of the mosaic as a TIFF."""

import argparse
from pathlib import Path

import numpy as np
import tifffile

import cemi_dask
from cemi_dask.geometry import Box
from cemi_dask.pipeline import parse_config
from cemi_dask.simulate import SimulateOptions
from cemi_dask.store import read_table


def main() -> None:
    """Run a small simulated ingot, or take a run that is there, and cut out its extremes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the crops")
    parser.add_argument("--run", type=Path, help="run folder; without it one is made")
    parser.add_argument("--measure", default="lamella_width_um", help="column of cells.csv")
    given = parser.parse_args()
    run = given.run or small_run(given.out)

    cells = read_table(run / "tables", "cells").dropna(subset=[given.measure])
    picture = cemi_dask.open_mosaic(run / "mosaic.ome.zarr").levels[0]
    order = cells.sort_values(given.measure)
    for name, cell in (("lowest", order.iloc[0]), ("highest", order.iloc[-1])):
        half = np.array([cell["height_px"], cell["width_px"]]) / 2
        y, x = np.round(np.array([cell["y_px"], cell["x_px"]]) - half + 0.5).astype(int)
        box = Box(y, x, y + int(cell["height_px"]), x + int(cell["width_px"]))
        tifffile.imwrite(given.out / f"{name}.tif", picture[box.slices].compute())
        place = f"x {cell['x_um']:.0f} um, y {cell['y_um']:.0f} um"
        print(f"{name} {given.measure}: {cell[given.measure]:.3f} at {place}")


def small_run(out: Path) -> Path:
    """The run folder of a simulated ingot of two rows."""
    size = SimulateOptions(rows=2, frames_per_row=4, frame_shape=(320, 480), noise_sigma=8.0)
    videos = [str(path) for path in cemi_dask.simulate_videos(out / "ingot", size).files]
    keys = {"input": {"paths": videos, "pixel_um": 0.222}, "denoise": None}
    keys["analyse"] = {"grid": {"cell_px": [160, 160]}}
    return cemi_dask.run(parse_config(keys), out=out / "run", until="analyse").out


if __name__ == "__main__":  # needed: workers are processes that import this file
    main()
