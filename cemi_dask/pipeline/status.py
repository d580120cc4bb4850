"""How far a run is, read from its folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.pipeline.config import STAGES
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.ledger import Ledger, read_lines
from cemi_dask.pipeline.quality import counts_line


@dataclass(frozen=True)
class Status:
    """Name and state of a run, a row of text per stage, and notes."""

    name: str
    state: str
    rows: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


def _summary(run_json: Path) -> dict[str, Any]:
    """What run.json says; nothing where a run has not come to write it."""
    try:
        return dict(json.loads(run_json.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"{run_json} is damaged ({error}). Run the same command again to write it anew."
        ) from error


def read_status(out: str | Path) -> Status:
    """The status of the run in `out`; ConfigError where there is none."""
    folder = RunFolder(Path(out))
    if not folder.ledger.is_dir():
        raise ConfigError(f"{out} is no run folder: it has no ledger/. Give the --out of a run.")
    summary = _summary(folder.run_json)
    digests = summary.get("digests", {})
    rows = []
    for stage in (name for name in STAGES if name in digests or not digests):
        lines, _ = read_lines(folder.ledger / f"{stage}.jsonl")
        items = sum("item" in line for line in lines)
        complete = any("complete" in line for line in lines)
        state = "done" if complete else ("begun" if lines else "not begun")
        if lines and lines[0].get("digest") != digests.get(stage, lines[0].get("digest")):
            state = "outdated"  # its parameters, inputs or what came before have changed since
        wall = summary.get("stages", {}).get(stage, {}).get("wall_s")
        rows.append((stage, state, str(items), "" if wall is None else f"{wall:.1f}"))
    whole = rows[-1][1] == "done" and {row[1] for row in rows} <= {"done", "not begun"}
    state = "finished" if whole else "unfinished; run the same command to go on"
    if whole and "error" in summary:  # a limit that an older run kept
        state = "failed"
    if Ledger(folder.ledger).held():
        state = "running"
    told = (counts_line(summary), summary.get("error", ""), *summary.get("warnings", []))
    notes = [note for note in told if note]
    return Status(summary.get("name", str(out)), state, tuple(rows), tuple(notes))
