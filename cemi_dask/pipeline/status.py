"""How far a run is, read from its folder alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.pipeline.config import STAGES
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.ledger import Ledger, read_lines
from cemi_dask.pipeline.monitor.facts import read_facts
from cemi_dask.pipeline.quality import counts_line


@dataclass(frozen=True)
class StageStatus:
    """One stage: its state, items finished and known of (None: not told), wall seconds (None:
    unknown), and speed and time left as text."""

    stage: str
    state: str
    done: int
    total: int | None = None
    wall_s: float | None = None
    speed: str = ""
    left: str = ""


@dataclass(frozen=True)
class Status:
    """Name and state of a run, its stages, notes, and seconds since it last told something."""

    name: str
    state: str
    stages: tuple[StageStatus, ...]
    notes: tuple[str, ...]
    told_s_ago: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


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
    facts, running = read_facts(folder.ledger), Ledger(folder.ledger).held()
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
        now = facts.get(stage) if lines else None
        if now is None:
            rows.append(StageStatus(stage, state, items, None, wall))
            continue
        if state == "begun" and (running or now.state in ("failed", "interrupted")):
            state = now.state
        left = now.left() if running else ""
        rows.append(StageStatus(stage, state, items, now.total, wall, now.speed(), left))
    whole = rows[-1].state == "done" and {row.state for row in rows} <= {"done", "not begun"}
    state = "finished" if whole else "unfinished; run the same command to go on"
    if whole and "error" in summary:  # a limit that an older run kept
        state = "failed"
    state = "running" if running else state
    peak = summary.get("memory", {}).get("largest")
    told = (
        counts_line(summary),
        f"Largest process: {peak}." if peak else "",
        summary.get("error", ""),
        *summary.get("warnings", []),
    )
    notes = tuple(note for note in told if note)
    ago = round(time.time() - max(f.at for f in facts.values()), 1) if facts else None
    return Status(summary.get("name", str(out)), state, tuple(rows), notes, ago)


def read_statuses(out: str | Path) -> list[Status]:
    """The status of the run in `out`, or of every run in the folder of a batch, by name.

    Raises ConfigError for a folder that is neither.
    """
    folder = Path(out)
    if (folder / ".batch").is_dir() and not (folder / "ledger").is_dir():
        return [read_status(run) for run in sorted(folder.iterdir()) if (run / "ledger").is_dir()]
    return [read_status(folder)]
