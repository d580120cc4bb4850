"""Ingots one after the other against all of them at once: CPU and wall time.

python benchmarks/batch.py [--ingots 3] [--rows 3] [--frames-per-row 24] [--workers 2] [--rounds 3]

Simulates ingots of different seeds, then runs, each in a process of its own, `cemi run` on one
after the other and `cemi batch` on all of them, in turn. CPU is that of all processes, children
included; the best of all rounds counts. Prints a Markdown table, and whether tables and mosaics
are the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from cemi_dask.pipeline.simulation import simulate_ingot


def cemi(*arguments: object) -> None:
    """Run the command, quietly."""
    command = [sys.executable, "-m", "cemi_dask.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of the processes that `work` starts."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    cpu, wall = spent(), time.perf_counter()
    work()
    return spent() - cpu, time.perf_counter() - wall


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of the mosaic's and the tables' files."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for part in ("mosaic.ome.zarr", "tables")
        for file in sorted((folder / part).rglob("*"))
        if file.is_file()
    }


def main() -> None:
    """Simulate, run both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (
        ("ingots", 3),
        ("rows", 3),
        ("frames-per-row", 24),
        ("workers", 2),
        ("rounds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cemi-batch-"))
    ingots = [f"ingot-{number}" for number in range(asked.ingots)]
    for seed, name in enumerate(ingots):
        options = {"rows": asked.rows, "frames_per_row": asked.frames_per_row, "seed": seed}
        config = simulate_ingot(folder / "in" / name, options)
        values = yaml.safe_load(config.read_text())
        values["cluster"] = {"workers": asked.workers, "dashboard": None}
        config.write_text(yaml.safe_dump(values))
    single, batch = folder / "single", folder / "batch"

    def one_by_one() -> None:
        for name in ingots:
            cemi("run", folder / "in" / name / "ingot.yaml", "--out", single / name)

    def at_once() -> None:
        cemi("batch", folder / "in", "--out", batch, "--at-once", len(ingots))

    rows = []
    for _ in range(asked.rounds):
        for path in (single, batch):
            shutil.rmtree(path, ignore_errors=True)
        rows.append((*measured(one_by_one), *measured(at_once)))
    best = [min(column) for column in zip(*rows, strict=True)]
    same = all(results(single / name) == results(batch / name) for name in ingots)
    print("| | CPU s | wall s |\n| --- | --- | --- |")
    print(f"| one after the other | {best[0]:.1f} | {best[1]:.1f} |")
    print(f"| at once | {best[2]:.1f} | {best[3]:.1f} |")
    print(f"| ratio | {best[2] / best[0]:.2f} | {best[3] / best[1]:.2f} |")
    print(f"\nMosaics and tables are {'the same bytes' if same else 'DIFFERENT'}.")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
