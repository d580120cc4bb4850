"""Progress of stages: bars on a terminal and in a notebook, plain lines in a log."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """What a stage tells while it works."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def expect(self, items: int, *, done: int) -> None:
        """`items` more are known of, `done` of them finished in an earlier run."""

    def advance(self) -> None:
        """One item is finished."""

    def finish(self, note: str) -> None:
        """The stage has ended; `note` says with what."""

    def say(self, text: str) -> None:
        """A line for the user."""


class Lines:
    """Plain lines, at most one every few seconds, each after `label`: for logs and pipes."""

    def __init__(self, every_s: float = 5.0, stream: Any = None, *, label: str = "") -> None:
        self.label = label
        self.every_s = every_s
        self.stream = stream
        self.name, self.total, self.done, self.reused = "", 0, 0, 0
        self.begun = self.said = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, name: str) -> None:
        """A stage begins."""
        self.name, self.total, self.done, self.reused = name, 0, 0, 0
        self.begun = self.said = time.monotonic()

    def expect(self, items: int, *, done: int) -> None:
        """`items` more are known of, `done` of them finished in an earlier run."""
        self.total += items
        self.done += done
        self.reused += done

    def advance(self) -> None:
        """One item is finished."""
        self.done += 1
        now = time.monotonic()
        if now - self.said >= self.every_s:
            self.said = now
            spent = now - self.begun
            new = self.done - self.reused
            left = f", {spent * (self.total - self.done) / new:.0f} s left" if new else ""
            self.say(f"{self.name}: {self.done} of {self.total} items, {spent:.0f} s{left}")

    def finish(self, note: str) -> None:
        """The stage has ended; `note` says with what."""
        self.say(f"{self.name}: {note}")

    def say(self, text: str) -> None:
        """A line for the user."""
        print(f"{self.label}{text}", file=self.stream or sys.stdout, flush=True)


class Bars:
    """A rich progress bar per stage, for terminals and notebooks."""

    def __init__(self, console: Console) -> None:
        self.rich = RichProgress(
            TextColumn("[bold]{task.description:<9}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.task = TaskID(0)

    def __enter__(self) -> Bars:
        self.rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rich.stop()

    def stage(self, name: str) -> None:
        """A stage begins."""
        self.task = self.rich.add_task(name, total=None, note="")

    def expect(self, items: int, *, done: int) -> None:
        """`items` more are known of, `done` of them finished in an earlier run."""
        known = self.rich.tasks[self.rich.task_ids.index(self.task)].total or 0
        self.rich.update(self.task, total=known + items, advance=done)

    def advance(self) -> None:
        """One item is finished."""
        self.rich.advance(self.task)

    def finish(self, note: str) -> None:
        """The stage has ended; `note` says with what."""
        task = self.rich.tasks[self.rich.task_ids.index(self.task)]
        self.rich.update(self.task, total=task.total or 1, completed=task.total or 1, note=note)

    def say(self, text: str) -> None:
        """A line for the user."""
        self.rich.console.print(text, highlight=False, markup=False)


def choose_progress(console: Console | None = None) -> Lines | Bars:
    """Bars where the output is a terminal or a notebook, lines where it is neither.

    Also lines in a notebook without ipywidgets, with which rich changes what a cell shows.
    """
    console = console or Console()
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    return Bars(console) if console.is_terminal or in_notebook else Lines()
