"""`StageFacts`: how far one stage of one run is. Everything that is shown comes from here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cemi_dask.errors import StoreError

TOPIC = "cemi"  # of the events, see `distributed.Client.get_events`
State = Literal["running", "done", "failed", "interrupted"]
Unit = Literal["items", "frames", "px"]
_SURE_PART = 0.01  # of a stage, before which the time left is not guessed


@dataclass(frozen=True)
class StageFacts:
    """One stage of the run `run` (its name) in the folder `out`, `at` a time (Unix, s).

    `done` of `total` items are finished, `reused` of them by an earlier run; `size` is what the
    whole stage works through, in `unit`; `elapsed_s` is since the stage began.
    """

    run: str
    out: str
    stage: str
    state: State
    done: int
    total: int
    reused: int
    elapsed_s: float
    size: int
    unit: Unit
    at: float
    error: str = ""

    @property
    def part(self) -> float:
        """The part of the items that is finished, 0..1; 1 for a stage without any that is done."""
        if not self.total:
            return 1.0 if self.state == "done" else 0.0
        return self.done / self.total

    @property
    def rate(self) -> float:
        """`unit` per second that this run has done; 0 before the first."""
        fresh = (self.done - self.reused) / self.total if self.total else 0.0
        return self.size * fresh / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go if items take as long as so far; None where that cannot be told."""
        if self.state != "running" or not self.total:
            return None
        fresh = self.done - self.reused
        if fresh < max(1.0, _SURE_PART * (self.total - self.reused)):
            return None
        return self.elapsed_s * (self.total - self.done) / fresh

    def speed(self) -> str:
        """The rate as text, such as "12.3 frames/s" or "4.5 Mpx/s"; empty where there is none."""
        if not self.rate:
            return ""
        if self.unit == "px":
            return f"{self.rate / 1e6:.3g} Mpx/s"
        return f"{self.rate:.3g} {self.unit}/s"

    def left(self) -> str:
        """The time left as text, such as "3 min 20 s"; empty where it cannot be told."""
        return "" if self.left_s is None else duration(self.left_s)

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StageFacts:
        """The facts that `as_json` gave; keys of later versions are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in value.items() if k in known})


def duration(seconds: float) -> str:
    """Seconds as people say them: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def facts_file(ledger: Path) -> Path:
    """Where a run keeps its facts, beside its ledger."""
    return ledger / "facts.json"


def read_facts(ledger: Path) -> dict[str, StageFacts]:
    """The facts of a run by stage, from its ledger folder; none where it has told none.

    Raises StoreError where the file is damaged.
    """
    file = facts_file(ledger)
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return {value["stage"]: StageFacts.from_json(value) for value in told}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{file} is damaged ({error}). It only tells how far the run is: delete it."
        ) from error
