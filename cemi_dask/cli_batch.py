"""`cemi batch`: many ingots on one cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cemi_dask.errors import RunError


def batch(
    ingots: Annotated[
        str,
        typer.Argument(
            help="table with a row per ingot, or folder of configs or ingots", metavar="CSV|DIR"
        ),
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file for all ingots")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the run folders; default NAME-batch")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="local, slurm, pbs, sge, lsf, kubernetes or a scheduler's address"
        ),
    ] = None,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, help="ingots that run side by side")
    ] = 3,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="keep finished items, or delete old runs first")
    ] = True,
) -> None:
    """Run many ingots on one cluster; run again to resume. One that fails stops no other."""
    from cemi_dask.pipeline import run_many

    result = run_many(
        ingots, config=config, out=out, cluster=cluster, at_once=at_once, fresh=not resume
    )
    print(f"The overview is {result.page}")
    if result.failed:
        names = ", ".join(entry.name for entry in result.failed)
        raise RunError(
            f"{len(result.failed)} of {len(result.entries)} ingots failed: {names}. "
            f"{result.failed[0].name}: {result.failed[0].error} The reason of each is in "
            f"{result.table}. What is finished is kept: run the same command again to go on."
        )
