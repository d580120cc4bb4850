"""The `cemi` command. Exit status: 0 done, 1 the run failed, 2 the command or config is wrong."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from cemi_dask import __version__
from cemi_dask.cli_batch import batch
from cemi_dask.cli_evaluate import evaluate
from cemi_dask.cli_export import export
from cemi_dask.cli_options import crop_option, limits, pair, tile_options
from cemi_dask.cli_train import train
from cemi_dask.cli_view import view
from cemi_dask.errors import CemiError, ConfigError, RunError

# Everything heavy (dask, zarr, torch, matplotlib) is imported inside the commands, so that
# `cemi --help` answers at once.


class _Commands(TyperGroup):
    """The commands; an interrupt ends them as an error with a message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise RunError(
                "Interrupted. Finished items are kept: run the same command again to go on."
            ) from error


app = typer.Typer(
    name="cemi",
    cls=_Commands,
    help="Electron-microscope videos or tiles to one mosaic, and to numbers about it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(train)
app.add_typer(evaluate)
app.command()(batch)
app.command()(view)
app.command()(export)
console = Console()

ConfigFile = Annotated[Path, typer.Argument(help="YAML file, see configs/", metavar="CONFIG.yaml")]
Out = Annotated[Path | None, typer.Option("--out", help="run folder")]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="local, slurm, pbs, sge, lsf, kubernetes or a scheduler's address"
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume/--fresh", help="keep finished items, or delete the old run first")
]
Pattern = Annotated[
    str | None, typer.Option("--pattern", help="tile names, such as 'tile_r{row}_c{col}.tif'")
]
Positions = Annotated[
    Path | None,
    typer.Option("--positions", help="CSV of stage positions, or tags: the files' metadata"),
]
PositionUnit = Annotated[
    str | None, typer.Option("--position-unit", help="px or um, where the CSV states no unit")
]
PixelSize = Annotated[float | None, typer.Option("--pixel-size", help="um per pixel")]


def _version(value: bool) -> None:
    if value:
        print(f"cemi_dask {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    del version, debug  # handled by the callback, and by `main` before parsing


@app.command()
def run(
    config: ConfigFile,
    out: Out = None,
    cluster: ClusterName = None,
    resume: Resume = True,
    until: Annotated[str, typer.Option(help="last stage to run")] = "report",
) -> None:
    """Do the whole job that CONFIG.yaml describes; run again to resume."""
    from cemi_dask.pipeline import run as run_job

    result = run_job(config, out=out, cluster=cluster, fresh=not resume, until=until)
    _say_result(result.out, until)


@app.command()
def plan(config: ConfigFile, out: Out = None, cluster: ClusterName = None) -> None:
    """Say what a run would do, read, write and need; refuse what cannot fit."""
    from cemi_dask.pipeline.plan import make_plan

    made = make_plan(config, out=out, cluster=cluster)
    table = Table("stage", "items", "finished", "writes", "memory per worker", title=str(made.out))
    for row in made.rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for note in made.notes:
        print(note)
    made.refuse_if_it_cannot_fit()


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder for the videos or tiles and the truth")],
    rows: Annotated[int, typer.Option(min=1)] = 3,
    frames_per_row: Annotated[int, typer.Option(min=2)] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    noise: Annotated[float, typer.Option(min=0, help="noise sigma, grey levels of 255")] = 25.0,
    tiles: Annotated[bool, typer.Option("--tiles", help="TIFF tiles instead of videos")] = False,
    codec: Annotated[str, typer.Option(help="ffv1, mjpeg, h264 or mpeg4")] = "ffv1",
    frame_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT, px")] = "1024x690",
    blank: Annotated[float, typer.Option(min=0, max=1, help="fraction of blank frames")] = 0.0,
    scan_frames: Annotated[
        float | None,
        typer.Option(min=0.5, help="recorded frames per scan; the video is torn and sheared"),
    ] = None,
    serpentine: Annotated[
        bool, typer.Option("--serpentine", help="every other row runs from right to left")
    ] = False,
    data_bar: Annotated[int, typer.Option(min=0, help="height of a data bar below, px")] = 0,
    cluster: ClusterName = None,
) -> None:
    """Make a synthetic ingot with known truth, and the config ingot.yaml that runs it."""
    from cemi_dask.pipeline.simulation import simulate_ingot

    width, height = pair(frame_size, "--frame-size")
    options = {
        "rows": rows,
        "frames_per_row": frames_per_row,
        "seed": seed,
        "noise_sigma": noise,
        "codec": codec,
        "frame_shape": (height, width),
        "blank_fraction": blank,
        "recording": {"scan_frames": scan_frames},
        "serpentine": serpentine,
        "data_bar_px": data_bar,
    }
    config = simulate_ingot(out, options, tiles=tiles, cluster=cluster)
    print(f"Simulated ingot in {out}. Run it with: cemi run {config}")


@app.command()
def inspect(
    inputs: Annotated[
        list[str], typer.Argument(help="videos, tiles, folders or globs", metavar="FILE...")
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG to write")] = Path("inspect.png"),
    crop: Annotated[str, typer.Option(help="auto, none, or px: top,bottom,left,right")] = "auto",
    pixel_size: PixelSize = None,
    pattern: Pattern = None,
    positions: Positions = None,
    position_unit: PositionUnit = None,
    overlap: Annotated[str, typer.Option(help="overlap of frames: min,max")] = "0.3,0.6",
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
    cluster: ClusterName = None,
) -> None:
    """Say what is understood of videos or tiles, and draw it, before a long run."""
    from cemi_dask.pipeline.inspect_command import inspect_command

    tiles = tile_options(pattern, positions, position_unit)
    options = {"paths": inputs, "crop": crop_option(crop), "pixel_um": pixel_size, "tiles": tiles}
    inspect_command(options, overlap, out, as_json=as_json, cluster=cluster)


@app.command()
def stitch(
    inputs: Annotated[list[str], typer.Argument(help="videos, tiles, folders or globs")],
    out: Annotated[Path, typer.Option("--out", help="run folder")],
    pixel_size: PixelSize = None,
    pattern: Pattern = None,
    positions: Positions = None,
    position_unit: PositionUnit = None,
    crop: Annotated[str, typer.Option(help="auto, none, or px: top,bottom,left,right")] = "auto",
    blender: Annotated[str, typer.Option("--blend", help="blending method")] = "linear",
    fail_if: Annotated[
        list[str] | None, typer.Option(help="limit such as islands=1, see stitch.fail_if")
    ] = None,
    cluster: ClusterName = None,
    resume: Resume = True,
) -> None:
    """Stitch videos or tiles into a mosaic, without denoising or analysis."""
    from cemi_dask.pipeline import parse_config, run_name
    from cemi_dask.pipeline import run as run_job

    values = {
        "name": run_name(out, "mosaic"),
        "input": {
            "paths": [str(Path(path).absolute()) for path in inputs],
            "pixel_um": pixel_size,
            "crop": crop_option(crop),
            "tiles": tile_options(pattern, positions, position_unit),
        },
        "stitch": {"fail_if": limits(fail_if or [])},
        "blend": {"method": blender},
        "segment": None,
        "analyse": None,
    }
    config = parse_config(values, origin="cemi stitch")
    result = run_job(config, out=out, cluster=cluster, fresh=not resume)
    _say_result(result.out, "report")


@app.command()
def denoise(
    source: Annotated[str, typer.Argument(help="picture, video or folder", metavar="IN")],
    target: Annotated[Path, typer.Argument(help="picture or folder", metavar="OUT")],
    method: Annotated[str, typer.Option(help="denoising method")] = "network",
    cluster: ClusterName = None,
) -> None:
    """Denoise a picture into a picture, or a video or folder into a folder of TIFFs."""
    from cemi_dask.pipeline.single import denoise_files

    written = denoise_files(source, target, method=method, cluster=cluster)
    print(f"{written} denoised frame(s) in {target}")


@app.command()
def analyse(
    mosaic: Annotated[Path, typer.Argument(help="OME-Zarr, run folder or picture")],
    out: Annotated[Path, typer.Option("--out", help="folder for tables, figures and report")],
    grid: Annotated[str | None, typer.Option(help="ROWSxCOLS, such as 19x243")] = None,
    cell: Annotated[str | None, typer.Option(help="cell WIDTHxHEIGHT in px")] = None,
    pixel_size: PixelSize = None,
    hardness: Annotated[Path | None, typer.Option(help="CSV: x_um, hardness")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the keys segment and analyse, see configs/pictures"),
    ] = None,
    lamellar: Annotated[
        str | None, typer.Option(help="method that finds lamellar regions: name or YAML mapping")
    ] = None,
    cluster: ClusterName = None,
    resume: Resume = True,
) -> None:
    """Measure the microstructure of an existing mosaic on a grid."""
    from cemi_dask.pipeline.evaluate import yaml_option
    from cemi_dask.pipeline.single import analyse_mosaic

    options: dict[str, Any] = {}
    if grid:
        rows, cols = pair(grid, "--grid")
        options["grid"] = {"rows": rows, "cols": cols}
    if cell:
        width, height = pair(cell, "--cell")
        options["grid"] = {"cell_px": (height, width)}
    if hardness:
        options["hardness"] = {"file": str(hardness.resolve())}
    analyse_mosaic(
        mosaic,
        out,
        options=options,
        settings=config,
        lamellar=None if lamellar is None else yaml_option(lamellar, "--lamellar"),
        pixel_um=pixel_size,
        cluster=cluster,
        fresh=not resume,
    )
    _say_result(out, "report")


@app.command()
def status(
    out: Annotated[Path, typer.Argument(help="run folder, or folder of a batch")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """Say how far a run or a batch is, from its folder alone."""
    import json

    from cemi_dask.pipeline.status import read_statuses

    found = read_statuses(out)
    if as_json:
        print(json.dumps([state.as_json() for state in found], indent=2))
        return
    for state in found:
        ago = "" if state.told_s_ago is None else f", last news {state.told_s_ago:.0f} s ago"
        table = Table(
            *("stage", "state", "items finished", "wall s", "speed", "left"),
            title=f"{state.name}: {state.state}{ago if state.state == 'running' else ''}",
        )
        for row in state.stages:
            items = str(row.done) if row.total is None else f"{row.done} of {row.total}"
            wall = "" if row.wall_s is None else f"{row.wall_s:.1f}"
            table.add_row(*map(escape, (row.stage, row.state, items, wall, row.speed, row.left)))
        console.print(table)
        for note in state.notes:
            print(note)


@app.command()
def report(out: Annotated[Path, typer.Argument(help="run folder")]) -> None:
    """Make the figures and report.html of a run folder again."""
    from cemi_dask.report import write_report

    print(f"The report is {write_report(out)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from cemi_dask.pipeline import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def doctor() -> None:
    """Say what this installation can do."""
    from cemi_dask.pipeline.doctor import examine

    table = Table("what", "state", "detail", title=f"cemi_dask {__version__}")
    for row in examine():
        table.add_row(*map(escape, row))
    console.print(table)


def _say_result(out: Path, until: str) -> None:
    if until == "report":
        print(f"The report is {out / 'report.html'}")
    else:
        print(f"Stopped after stage {until!r}; run again without --until to go on. Folder: {out}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    # --debug is taken wherever it stands, so that it can be added at the end of a line.
    given = [argument for argument in given if argument != "--debug"]
    try:
        with _terminated_like_interrupted():
            app(given, prog_name="cemi")
    except CemiError as error:
        if debug:
            raise
        print(f"cemi: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        if debug:
            raise
        print(f"cemi: {error}. Check that path and the disk, then run again.", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            raise
        print(
            f"cemi: unexpected {type(error).__name__}: {error}. Finished items are kept. This is a "
            "fault of cemi_dask: please report it with what the same command prints with --debug.",
            file=sys.stderr,
        )
        return 1
    except SystemExit as end:  # how the command-line library ends, also after a usage error
        return end.code if isinstance(end.code, int) else 1
    return 0


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM (a batch system's, a container's) ends the run as Ctrl-C does: workers and all."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
