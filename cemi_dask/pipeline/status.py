"""How far a run is, read from its folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.config import STAGES
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.ledger import read_lines


@dataclass(frozen=True)
class Status:
    """Name and state of a run, a row of text per stage, and notes."""

    name: str
    state: str
    rows: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


def read_status(out: str | Path) -> Status:
    """The status of the run in `out`; ConfigError where there is none."""
    folder = RunFolder(Path(out))
    if not folder.ledger.is_dir():
        raise ConfigError(f"{out} is no run folder: it has no ledger/. Give the --out of a run.")
    summary: dict[str, Any] = {}
    if folder.run_json.is_file():
        summary = json.loads(folder.run_json.read_text(encoding="utf-8"))
    rows = []
    for stage in STAGES:
        lines, _ = read_lines(folder.ledger / f"{stage}.jsonl")
        items = sum("item" in line for line in lines)
        complete = any("complete" in line for line in lines)
        state = "done" if complete else ("begun" if lines else "not begun")
        wall = summary.get("stages", {}).get(stage, {}).get("wall_s")
        rows.append((stage, state, str(items), "" if wall is None else f"{wall:.1f}"))
    state = "finished" if rows[-1][1] == "done" else "unfinished; run the same command to go on"
    notes = [*([summary["error"]] if "error" in summary else []), *summary.get("warnings", [])]
    return Status(summary.get("name", str(out)), state, tuple(rows), tuple(notes))
