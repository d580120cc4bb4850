"""Tiles with stage positions to a mosaic and its microstructure: one call, a run folder."""

import argparse
from pathlib import Path

import pandas as pd

import cemi_dask
from cemi_dask.pipeline import parse_config
from cemi_dask.simulate import SimulateOptions, compare_positions


def main() -> None:
    """Simulate sharp tiles, run the job on them, compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the tiles and the run")
    parser.add_argument("--cols", type=int, default=5, help="tiles per row")
    given = parser.parse_args()
    size = {"rows": 2, "frames_per_row": given.cols, "frame_shape": (320, 480), "noise_sigma": 4.5}
    ingot = cemi_dask.simulate_tiles(given.out, SimulateOptions(**size))

    # The same keys as in a YAML file; load_config("tiles.yaml") reads one.
    config = parse_config(
        {
            "name": "tiles",
            "input": {
                "paths": [str(given.out / "tiles")],
                "pixel_um": 0.222,
                "tiles": {"positions": str(given.out / "positions.csv")},
            },
            "analyse": {"grid": {"cell_px": [200, 200]}},
        }
    )
    result = cemi_dask.run(config, out=given.out / "run")
    positions = pd.read_csv(result.tables / "positions.csv")
    print(compare_positions(positions, ingot.table("truth")))
    print(pd.read_csv(result.tables / "profile.csv")[["x_um", "bcc_fraction", "lamella_width_um"]])
    print(cemi_dask.open_mosaic(result.mosaic).shape, result.report)


if __name__ == "__main__":  # needed: workers are processes that import this file
    main()
