"""What the runners of other stitching programs share. Standard library only.

A runner stands alone: it is started by the Python of an environment that has the other program,
as `python run_NAME.py NOMINAL.csv OUT`. NOMINAL.csv has file, row, col, x_px, y_px, one line per
tile. A runner writes OUT/positions.csv (file, x_px, y_px of the tiles that it places), a mosaic in
OUT, and OUT/work.json: the program's version and the CPU seconds after its imports.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage


@dataclass(frozen=True)
class Tile:
    """A tile's file, its place in the grid and where the stage should have been, px."""

    file: Path
    row: int
    col: int
    x_px: float
    y_px: float


class Job:
    """The tiles of one measurement and where its results go. Make it after the imports."""

    def __init__(self, package: str) -> None:
        self.version = version(package)
        self.out = Path(sys.argv[2])
        self.out.mkdir(parents=True, exist_ok=True)
        self._begun = time.perf_counter(), _cpu_s()
        nominal = Path(sys.argv[1])
        with nominal.open(newline="") as lines:
            self.tiles = [
                Tile(
                    nominal.parent / line["file"],
                    int(line["row"]),
                    int(line["col"]),
                    float(line["x_px"]),
                    float(line["y_px"]),
                )
                for line in csv.DictReader(lines)
            ]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns; raises where a place of the grid has no tile."""
        rows, cols = (1 + max(getattr(t, a) for t in self.tiles) for a in ("row", "col"))
        if len(self.tiles) != rows * cols:
            raise SystemExit(f"{len(self.tiles)} tiles do not fill a grid of {rows} x {cols}")
        return rows, cols

    def finish(self, places: Iterable[tuple[Tile, float, float]]) -> None:
        """Write positions.csv of (tile, x px, y px) and work.json."""
        work = {
            "version": self.version,
            "wall_s": time.perf_counter() - self._begun[0],
            "cpu_s": _cpu_s() - self._begun[1],
        }
        with (self.out / "positions.csv").open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["file", "x_px", "y_px"])
            writer.writerows([tile.file.name, float(x), float(y)] for tile, x, y in places)
        (self.out / "work.json").write_text(json.dumps(work))


def _cpu_s() -> float:
    used = (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)
