"""The ledger: which items of a stage are finished, and for which parameters and inputs.

One append-only file per stage, ``ledger/<stage>.jsonl``. Its first line holds the digest of
everything the stage depends on; each further line one finished item with its small JSON
result. A line is written after the item's pixels are stored, so a killed run loses at most
the items in flight. A digest that differs starts the stage (and all that follow) anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cemi_dask import __version__
from cemi_dask.errors import ResourceError, StoreError
from cemi_dask.store import storing

FORMAT = 4


def canonical(value: Any) -> str:
    """JSON text of `value` that is the same for equal values (sorted keys, exact floats)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest_of(stage: str, parameters: Any, inputs: Any, upstream: list[str]) -> str:
    """SHA-256 (hex) of a stage's parameters, its inputs and the digests it builds on."""
    text = canonical([FORMAT, __version__, stage, parameters, inputs, upstream])
    return hashlib.sha256(text.encode()).hexdigest()


class StageLedger:
    """Finished items of one stage under one digest; opened by `Ledger.stage`."""

    def __init__(self, path: Path, stage: str, digest: str) -> None:
        self.path = path
        self.stage = stage
        self.digest = digest
        self.finished: dict[str, Any] = {}
        self.complete = False
        self.summary: dict[str, Any] = {}
        self.was_reset = self._load()

    def _load(self) -> bool:
        """Read what an earlier run finished; True when the stage has to start anew."""
        header = {"stage": self.stage, "digest": self.digest, "format": FORMAT}
        lines, good_bytes = read_lines(self.path)
        if not lines or lines[0] != header:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with storing(self.path), open(self.path, "w", encoding="utf-8") as file:
                file.write(canonical(header) + "\n")
                file.flush()
                os.fsync(file.fileno())
            return True
        # A kill may leave half a line at the end: cut it, or the next line would join it.
        if self.path.stat().st_size > good_bytes:
            os.truncate(self.path, good_bytes)
        for line in lines[1:]:
            if "item" in line:
                self.finished[line["item"]] = line["result"]
            elif "complete" in line:
                self.complete, self.summary = True, line["complete"]
        return False

    def record(self, item: str, result: Any) -> None:
        """Remember `item` as finished with its JSON-able `result` (safe against a kill)."""
        self._append({"item": item, "result": result})
        self.finished[item] = result

    def finish(self, summary: dict[str, Any] | None = None) -> None:
        """Mark the stage as complete."""
        if not self.complete:
            self.summary = summary or {}
            self._append({"complete": self.summary})
            self.complete = True

    def _append(self, line: dict[str, Any]) -> None:
        with storing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(canonical(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Ledger:
    """The ledger folder of one run; one process at a time may hold it (`locked`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, stage: str, digest: str) -> StageLedger:
        """The ledger of `stage` under `digest`, emptied where the digest differs."""
        return StageLedger(self.folder / f"{stage}.jsonl", stage, digest)

    def held(self) -> bool:
        """Whether a process is running in this run folder."""
        try:
            with open(self.folder / "lock") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder; raises ResourceError when another process holds it."""
        with storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(self.folder / "lock", "w")  # noqa: SIM115 - held for the run
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ResourceError(
                    f"Another process is running in {self.folder.parent}. Wait for it, stop it, "
                    "or give another --out."
                ) from error
            yield
        finally:
            handle.close()


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(whole JSON lines of a ledger file, bytes they take); a torn end is left out."""
    lines: list[dict[str, Any]] = []
    good = 0
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return lines, good
    for raw in data.splitlines(keepends=True):
        if not raw.endswith(b"\n"):
            break
        try:
            line = json.loads(raw)
        except ValueError as error:
            raise StoreError(
                f"{path} is damaged at byte {good}: {error}. Run again with --fresh."
            ) from error
        lines.append(line)
        good += len(raw)
    return lines, good
