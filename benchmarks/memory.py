"""Whether memory grows with the mosaic: the demo's job at N and at 2 N frames per row.

Prints the peak resident memory of each process, from run.json. It should stay where it is
when the mosaic doubles, because no process ever holds the mosaic.

    python benchmarks/memory.py --rows 3 --frames 24
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from measure import show

from cemi_dask import open_mosaic
from cemi_dask.pipeline import run
from cemi_dask.pipeline.progress import Lines
from cemi_dask.pipeline.simulation import simulate_ingot


def main() -> None:
    """Run the job at both sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24, help="frames per row of the smaller run")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    given = parser.parse_args()
    sizes = [given.frames, 2 * given.frames]
    found = [measure(given.rows, frames, given.noise) for frames in sizes]
    print()
    processes = list(found[0]["peaks"])
    rows = [
        [n, f"{f['shape'][1]} x {f['shape'][0]}", f["wall_s"], *(f["peaks"][p] for p in processes)]
        for n, f in zip(sizes, found, strict=True)
    ]
    header = [f"{name}, MiB" for name in processes]
    show(["frames a row", "mosaic px", "wall s", *header], rows)


def measure(rows: int, frames: int, noise: float) -> dict[str, Any]:
    """Mosaic shape, wall seconds and peak MiB by process of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"rows": rows, "frames_per_row": frames, "noise_sigma": noise, "seed": 1}
        # `simulate_ingot` works in processes of its own; nothing of it counts here.
        config = simulate_ingot(folder / "ingot", options)
        result = run(config, out=folder / "run", progress=Lines(30))
        peaks = result.summary["memory"]["peak_rss_bytes"]
        return {
            "shape": open_mosaic(result.mosaic).shape,
            "wall_s": float(result.summary["wall_s"]),
            "peaks": {process: round(peak / 2**20) for process, peak in peaks.items()},
        }


if __name__ == "__main__":
    main()
