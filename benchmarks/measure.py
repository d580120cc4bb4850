"""What the benchmarks share: CPU seconds, peak memory, tables in Markdown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cemi_dask.pipeline.cluster import peak_rss_bytes


def cpu_seconds(function: Callable[[], Any], *, repeat: int) -> float:
    """Median CPU seconds of this process over `repeat` calls, after one that is not counted."""
    function()
    spent = []
    for _ in range(repeat):
        before = time.process_time()
        function()
        spent.append(time.process_time() - before)
    return statistics.median(spent)


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    return peak_rss_bytes() / 2**20


def show(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a Markdown table; floats with four significant digits."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(header), *cells]) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *cells]
    for line in lines:
        print("| " + " | ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)) + " |")


def stage_rows(summary: dict[str, Any]) -> list[list[Any]]:
    """(stage, items, CPU s, wall s) of a run, from its run.json."""
    return [
        [name, stage["items"], stage["cpu_s"], stage["wall_s"]]
        for name, stage in summary["stages"].items()
    ]
