"""Commands about methods that are learned or compared: the groups that `cemi` takes in."""

from __future__ import annotations

import typer

evaluate = typer.Typer(
    name="evaluate", help="Measure how good a method is, against a truth.", no_args_is_help=True
)


@evaluate.callback()
def _evaluate() -> None:
    """Keeps `evaluate` a group, however many commands it holds."""
