"""The commands `cemi evaluate ...`: how good a method is, against a truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

from cemi_dask.errors import ConfigError

if TYPE_CHECKING:
    from cemi_dask.pipeline.evaluate import Evaluation

evaluate = typer.Typer(
    name="evaluate", help="Measure how good a method is, against a truth.", no_args_is_help=True
)

# Column of the summary -> (heading, decimals).
COLUMNS = {
    "psnr_db": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "lpips": ("LPIPS", 3),
    "noise_levels": ("noise est.", 1),
    "residual_levels": ("noise left", 1),
    "edge_width_ratio": ("edge width", 2),
    "lamella_power": ("lam. power", 2),
    "modulation": ("modu- lation", 3),
    "unexplained_pct": ("unex- plained %", 1),
    "made_up_pct": ("made up %", 2),
    "made_up_count": ("places", 1),
    "lost_pct": ("lost %", 2),
    "bcc_error_points": ("BCC points", 2),
    "cpu_s": ("CPU s", 2),
}
# Heading -> column of the table of segmenters.
SCORES = {
    "IoU": "iou",
    "Dice": "dice",
    "boundary F1": "boundary_f1",
    "fraction, points": "fraction_error_points",
    "CPU s a Mpx": "cpu_s_per_mpx",
}
MIN_WIDTH = 140  # characters: narrower, digits would be cut off


@evaluate.callback()
def _evaluate() -> None:
    """Keeps `evaluate` a group, however many commands it holds."""


@evaluate.command("denoise")
def evaluate_denoise(
    noisy: Annotated[
        Path | None, typer.Argument(help="noisy picture or folder", metavar="LD")
    ] = None,
    sharp: Annotated[
        Path | None, typer.Argument(help="sharp picture or folder with equal names", metavar="HD")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="name or YAML mapping; may be repeated")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for metrics.csv and strips/")] = Path(
        "evaluation"
    ),
    aligned: Annotated[
        bool, typer.Option("--aligned", help="the pictures lie on one grid already")
    ] = False,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="simulated frames instead of files")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="how many simulated frames")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="of the simulated specimen")] = 0,
    noise: Annotated[
        float, typer.Option(min=0, help="noise sigma of simulated frames, of 255")
    ] = 25.0,
    lpips_weights: Annotated[
        Path | None, typer.Option(help="folder with the weights that LPIPS needs")
    ] = None,
) -> None:
    """Denoise noisy pictures and compare with sharp ones of the same fields, or a known truth."""
    if simulated == (noisy is not None) or (noisy is None) != (sharp is None):
        raise ConfigError("Give LD and HD, two pictures or folders, or --simulated alone.")
    from cemi_dask.pipeline import evaluate as pipeline
    from cemi_dask.pipeline.evaluate_fields import paired_fields, simulated_fields

    methods, left_out = pipeline.parse_methods(method or [])
    if noisy is not None and sharp is not None:
        fields = paired_fields(noisy, sharp, aligned=aligned)
    else:
        fields = simulated_fields(frames, shape=(690, 1024), noise_sigma=noise, seed=seed)
    found = pipeline.evaluate_denoise(fields, methods, out, lpips_weights=lpips_weights)
    _show(found, left_out)
    print(f"Table: {out / 'metrics.csv'}. Pictures: {out / 'strips'}")


@evaluate.command("segment")
def evaluate_segment(
    pictures: Annotated[
        Path | None, typer.Argument(help="picture or folder", metavar="PICTURES")
    ] = None,
    masks: Annotated[
        Path | None, typer.Argument(help="mask or folder with equal names", metavar="MASKS")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="name or YAML mapping; may be repeated")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for metrics.csv and overlays/")] = Path(
        "evaluation"
    ),
    simulated: Annotated[
        bool, typer.Option("--simulated", help="simulated pictures instead of files")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="how many simulated pictures")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="of the simulated specimen")] = 0,
    noise: Annotated[
        float, typer.Option(min=0, help="noise sigma of simulated pictures, of 255")
    ] = 25.0,
) -> None:
    """Find lamellar regions and compare with masks, or with a known truth."""
    if simulated == (pictures is not None) or (pictures is None) != (masks is None):
        raise ConfigError("Give PICTURES and MASKS, two files or folders, or --simulated alone.")
    from cemi_dask.pipeline import evaluate_segment as pipeline

    methods = pipeline.parse_segmenters(method or [])
    if pictures is not None and masks is not None:
        judged = pipeline.labelled_files(pictures, masks)
    else:
        judged = pipeline.simulated_pictures(
            frames, shape=(690, 1024), noise_sigma=noise, seed=seed
        )
    found = pipeline.evaluate_segment(judged, methods, out)
    table = Table("method", *SCORES, title=f"Mean of {found['picture'].nunique()} picture(s)")
    for label, row in found.drop(columns="picture").groupby("method", sort=False).mean().iterrows():
        table.add_row(str(label), *(f"{row[name]:.3f}" for name in SCORES.values()))
    Console(width=max(Console().width, MIN_WIDTH)).print(table)
    print(f"Table: {out / 'metrics.csv'}. Pictures: {out / 'overlays'}")


def _show(found: Evaluation, left_out: list[str]) -> None:
    console = Console(width=max(Console().width, MIN_WIDTH))
    pictures = found.rows["picture"].nunique()
    table = Table(
        Column("method", overflow="fold", min_width=10),
        title=f"Mean of {pictures} picture(s)",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    for label, row in found.summary().iterrows():
        cells = [f"{row[name]:.{digits}f}" for name, (_, digits) in COLUMNS.items()]
        table.add_row(str(label), *(cell if cell != "nan" else "-" for cell in cells))
    console.print(table)
    for note in (*left_out, *found.notes):
        print(note)
