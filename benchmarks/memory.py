"""Whether memory grows with the mosaic: the demo's job at N and at 2 N frames per row.

Each stage runs in workers of its own, so that their peak resident memory (from run.json) is
that of the stage. It should stay where it is when the mosaic doubles, because no process ever
holds the mosaic. Peaks of one and the same run scatter by some 10 %.

    python benchmarks/memory.py --rows 3 --frames 24
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measure import show

from cemi_dask import open_mosaic
from cemi_dask.pipeline import STAGES, run
from cemi_dask.pipeline.progress import Lines
from cemi_dask.pipeline.simulation import simulate_ingot


def main() -> None:
    """Run the job at both sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24, help="frames per row of the smaller run")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    given = parser.parse_args()
    found = [measure(given.rows, n * given.frames, given.noise) for n in (1, 2)]
    print()
    header = [f"mosaic of {width} x {height} px, MiB" for (height, width), _ in found]
    show(
        ["largest worker", *header], zip(found[0][1], *(f[1].values() for f in found), strict=True)
    )


def measure(rows: int, frames: int, noise: float) -> tuple[tuple[int, int], dict[str, int]]:
    """(mosaic shape, largest worker's peak MiB by stage) of one run, and the client's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"rows": rows, "frames_per_row": frames, "noise_sigma": noise, "seed": 1}
        config = simulate_ingot(folder / "ingot", options)
        peaks: dict[str, int] = {}
        for stage in STAGES:
            result = run(config, out=folder / "run", until=stage, progress=Lines(60))
            found = result.summary["memory"]["peak_rss_bytes"]
            largest = max(peak for process, peak in found.items() if process != "client")
            peaks[stage] = round(largest / 2**20)
            peaks["(client, all stages)"] = round(found["client"] / 2**20)
        return open_mosaic(result.mosaic).shape, peaks


if __name__ == "__main__":
    main()
