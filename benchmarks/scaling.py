"""How cost and memory grow with an ingot, and what a second process gains.

The ingots and the run are those of benchmarks/full_scale.py (and its folder): per frame the CPU
milliseconds of each stage, the whole run's wall seconds, and the largest worker and client.

    python benchmarks/scaling.py --out DIR --sizes 4x25 8x50 12x133 18x217
    python benchmarks/scaling.py --out DIR --sizes 8x50 --workers 1 2 --repeat 3
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from full_scale import ANALYSIS, STITCHING, measured, simulated
from measure import show

STAGES = (*STITCHING, *ANALYSIS)


def main() -> None:
    """Run every size with every number of workers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for videos and results")
    parser.add_argument("--sizes", nargs="+", default=["4x25", "8x50"], help="ROWSxFRAMES")
    parser.add_argument("--workers", nargs="+", type=int, default=[2], help="processes")
    parser.add_argument("--repeat", type=int, default=1, help="turns, of which the median counts")
    parser.add_argument("--looks", type=int, default=2, help="recorded frames per pitch")
    parser.add_argument("--codec", default="mjpeg", help="ffv1, mjpeg, h264 or mpeg4")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    given = parser.parse_args()
    turns: dict[tuple[str, int], list[list[float]]] = {}
    for _ in range(given.repeat):
        for size in given.sizes:
            for workers in given.workers:
                row = measure(given, size, workers)
                turns.setdefault((size, workers), []).append(row)
    header = ["size", "workers", "frames", *(f"{s} ms" for s in STAGES), "all ms", "wall s"]
    rows = [
        [*key, *(statistics.median(column) for column in zip(*found, strict=True))]
        for key, found in turns.items()
    ]
    print()
    show([*header, "largest worker MiB", "client MiB"], rows)


def measure(given: argparse.Namespace, size: str, workers: int) -> list[float]:
    """Frames, CPU ms of a frame by stage and in all, wall seconds, MiB of worker and client."""
    rows, frames = (int(part) for part in size.split("x"))
    spent = measured(simulated(given, rows, frames), workers, until=STAGES[-1])
    count = rows * frames
    cpu = [1e3 * spent[stage][0]["cpu_s"] / count for stage in STAGES]
    wall = sum(spent[stage][0]["wall_s"] for stage in STAGES)
    worker, client = (max(sizes[k] for _, sizes in spent.values()) for k in (2, 3))
    return [count, *cpu, sum(cpu), wall, round(worker), round(client)]


if __name__ == "__main__":
    main()
