"""How far solved positions are from the truth, and what they cost.

Simulates rows of video (or tiles), runs the job up to `solve`, compares with the truth after
removing one translation. Blank frames take no part in the comparison.

    python benchmarks/positions.py --rows 6 --frames 40 --noise 25
    python benchmarks/positions.py --rows 6 --frames 40 --noise 25 --blank 0.1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from measure import show, stage_rows

from cemi_dask.pipeline import parse_config, run
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions
from cemi_dask.pipeline.progress import Lines
from cemi_dask.simulate import SimulateOptions, compare_positions, simulate_tiles, simulate_videos


def main() -> None:
    """Measure one or several simulated ingots and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24, help="frames per row at one pitch")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--blank", type=float, default=0.0, help="fraction of blank frames")
    parser.add_argument("--tiles", action="store_true", help="tiles with stage positions")
    parser.add_argument("--codec", default="ffv1", help="ffv1, mjpeg, h264 or mpeg4")
    parser.add_argument("--average", default="none", help="frames.average: none or motion")
    parser.add_argument("--seeds", type=int, default=1, help="number of ingots, seeds 0, 1, ...")
    given = parser.parse_args()
    found = [measure(given, seed) for seed in range(given.seeds)]
    print()
    header = ["seed", "frames", "refused", "islands", "pairs ok", "others", "rms px", "max px"]
    rows = [[seed, *result["row"]] for seed, result in enumerate(found)]
    if len(rows) > 1:
        rows.append(["median", *(statistics.median(c) for c in list(zip(*rows, strict=True))[1:])])
    show(header, rows)
    print()
    show(["stage (last seed)", "items", "CPU s", "wall s"], stage_rows(found[-1]["summary"]))
    print("largest process:", found[-1]["summary"]["memory"]["largest"])


def measure(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One simulated ingot: a row for the table and the run's summary."""
    options = SimulateOptions(
        rows=given.rows,
        frames_per_row=given.frames,
        noise_sigma=given.noise,
        blank_fraction=given.blank,
        codec=given.codec,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_client(LocalOptions(dashboard=None)):
            made = (simulate_tiles if given.tiles else simulate_videos)(folder, options)
        source: dict[str, Any] = {"paths": [str(file) for file in made.files]}
        if given.tiles:
            source |= {"pixel_um": options.specimen.pixel_um}
            source["tiles"] = {"positions": str(made.positions_csv)}
        config = parse_config(
            {"name": "positions", "input": source, "frames": {"average": given.average}}
        )
        summary = run(config, out=folder / "run", until="solve", progress=Lines(30)).summary
        positions = pd.read_csv(folder / "run" / "tables" / "positions.csv")
        truth = made.table("truth")
        result = compare_positions(positions[positions["used"]], truth[~truth["blank"]])
        pairs = summary["pairs"]
        taken = summary["frames"]
        row = [
            result["n"],
            taken["rejected"],
            int(positions.loc[positions["used"], "component"].max()) + 1,
            pairs.get("ok", 0),
            sum(n for status, n in pairs.items() if status != "ok"),
            result["rms_px"],
            result["max_px"],
        ]
    return {"row": row, "summary": summary}


if __name__ == "__main__":
    main()
