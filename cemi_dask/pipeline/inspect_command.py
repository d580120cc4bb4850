"""What `cemi inspect` prints and writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.explain import explain
from cemi_dask.frames import InputOptions, SelectionOptions
from cemi_dask.pipeline.inspect import Inspection, inspect_files, write_inspection
from cemi_dask.pipeline.inspect_text import entry_rows, overview_row, run_text

Model = TypeVar("Model", bound=BaseModel)

MOST_DETAILED = 6  # files whose facts are all told
RED = {"CANNOT BE USED", "left out", "missing"}


def inspect_command(
    options: dict[str, Any], overlap: str, out: Path, *, as_json: bool, cluster: str | None
) -> None:
    """Inspect, write the PNG, print the tables (or JSON alone).

    Raises ConfigError for a wrong option; InputError, after everything was shown, where a run
    would refuse some of the files.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out} must end in .png: the figure is written there.")
    given = _checked(InputOptions, options)
    selection = _checked(SelectionOptions, _bounds(overlap))
    errors = Console(stderr=True)
    found = inspect_files(
        given,
        selection,
        cluster=cluster,
        say=lambda text: errors.print(text, markup=False, highlight=False),
    )
    write_inspection(found, out, selection)
    if as_json:
        json.dump(found.as_json(out), sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        show(found, Console())
        print(f"The figure is {out}")
    if found.failures:
        raise InputError(
            f"A run would refuse {len(found.failures)} of these: {' '.join(found.failures)}"
        )


def _bounds(overlap: str) -> dict[str, float]:
    try:
        least, most = (float(part) for part in overlap.split(","))
    except ValueError as error:
        raise ConfigError(f"--overlap {overlap!r} is not two numbers such as 0.3,0.6.") from error
    return {"overlap_min": least, "overlap_max": most}


def _checked(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise ConfigError(f"cemi inspect: {explain(error, given=values)}") from error


def show(found: Inspection, console: Console) -> None:
    """Print the facts: one table per file, or one line per file where they are many."""
    if len(found.entries) > MOST_DETAILED:
        _show_overview(found.entries, console)
    else:
        for entry in found.entries:
            table = Table(
                title=escape(entry["name"]),
                title_justify="left",
                show_header=False,
                box=None,
                pad_edge=False,
            )
            table.add_column(style="bold", no_wrap=True)
            table.add_column(overflow="fold")
            for name, text in entry_rows(entry):
                style = "red" if name in RED else "yellow" if name == "warning" else None
                table.add_row(name, escape(text), style=style)
            console.print(table)
            console.print()
    console.print(run_text(found.run, found.failures), style="bold", highlight=False)


def _show_overview(entries: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table("file", "frames taken", "px/s", "scan s", "overlap", "noise sigma")
    for entry in entries:
        table.add_row(*map(escape, overview_row(entry)))
    console.print(table)
    for entry in entries:
        told = [(name, text) for name, text in entry_rows(entry) if name in {*RED, "warning"}]
        for name, text in told:
            console.print(f"{entry['name']}: {name}: {text}", markup=False, highlight=False)
