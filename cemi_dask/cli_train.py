"""`cemi train`: networks from the user's own data, or from simulated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Argument(help="YAML file, see configs/train_*.yaml", metavar="CONFIG.yaml")
]
Out = Annotated[Path | None, typer.Option("--out", help="folder of the training")]
Resume = Annotated[
    bool, typer.Option("--resume/--fresh", help="go on, or delete the old training first")
]

train = typer.Typer(name="train", help="Train networks.", no_args_is_help=True)


@train.callback()
def _train() -> None:
    """Train networks."""


@train.command()
def denoise(
    config: Config,
    out: Out = None,
    resume: Resume = True,
) -> None:
    """Train a denoising network; run again to go on from the last checkpoint."""
    from cemi_dask.pipeline.train import train_denoiser

    model = train_denoiser(config, out=out, fresh=not resume)
    print(f"The trained weights are {model}")


@train.command()
def segment(config: Config, out: Out = None, resume: Resume = True) -> None:
    """Train a segmenting network from labelled pictures; run again to go on."""
    from cemi_dask.pipeline.train_segment import train_segmenter

    model = train_segmenter(config, out=out, fresh=not resume)
    print(f"The trained weights are {model}")
    print(f"The report is {model.with_name('report.html')}")
