"""Our stitching beside that of other programs, on the same tiles and the same machine.

Simulates tiles with known places (once; a folder in `--out` is used again), stitches them with
`cemi stitch` and with every program in benchmarks/peers, one after the other, and compares:
distance of the places from the truth after one common translation, CPU seconds and peak memory of
all processes, wall seconds, tiles placed. Every program gets one thread a process by the usual
variables, the stage's nominal positions where it takes any, and its default settings. The
programs are no dependencies: each runs by a Python that has it, `--peers FOLDER` of virtual
environments named as the peers, or `--peers-python NAME=PYTHON`. "Work" leaves out starting Python
and imports: for the others all after the imports, for ours the stages up to the pyramid.

    python benchmarks/stitching.py --out DIR --peers ENVIRONMENTS --rows 10 --cols 10
    python benchmarks/stitching.py --out DIR --peers ENVIRONMENTS --rows 18 --cols 24
    python benchmarks/stitching.py --out DIR --hd --only cemi
    python benchmarks/stitching.py --out DIR --peers ENVIRONMENTS --real FOLDER...

A folder of `--real` has nominal.csv (file, row, col, x_px, y_px) and pairs.csv (file_i, file_j,
dx_px, dy_px) with known displacements of some pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from measure import show

from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions
from cemi_dask.simulate import SimulateOptions, compare_positions, simulate_tiles

RUNNERS = Path(__file__).with_name("peers")
PEERS = sorted(file.stem.removeprefix("run_") for file in RUNNERS.glob("run_*.py"))
OURS = "cemi"
NOISE = {"ld": 25.0, "hd": 5.0}
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
WORK = ("frames", "register", "solve", "blend", "pyramid")
EVERY_S = 0.2
HEADER = ["program", "version", "placed", "rms px", "max px", "CPU s, work"]
HEADER += ["CPU s, command", "wall s", "peak MiB"]


@dataclass(frozen=True)
class Tiles:
    """One set of tiles: nominal positions, and the truth or known displacements of pairs."""

    name: str
    nominal: Path
    truth: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None


@dataclass(frozen=True)
class Usage:
    """What a command took: CPU and wall seconds, peak memory of all its processes, how it ended."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    failure: str = ""


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for tiles and results")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--cols", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of specimen, scan and noise")
    parser.add_argument("--hd", action="store_true", help="sigma 5 instead of 25")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="folders, see above")
    parser.add_argument("--only", nargs="+", default=[OURS, *PEERS], choices=[OURS, *PEERS])
    parser.add_argument("--peers", type=Path, help="folder of virtual environments")
    parser.add_argument("--peers-python", nargs="+", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--limit", type=float, default=600.0, help="CPU seconds for a program")
    parser.add_argument("--repeat", type=int, default=1, help="turns; that of least CPU counts")
    parser.add_argument("--reuse", action="store_true", help="keep rows measured before")
    parser.add_argument("--plot", type=Path, help="picture of the table")
    return parser.parse_args()


def main() -> None:
    """Measure every program on every set and print the tables."""
    given = arguments()
    pythons = {name: given.peers / name / "bin/python" for name in PEERS if given.peers}
    pythons |= {name: Path(at) for name, at in (p.split("=", 1) for p in given.peers_python)}
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    sets = [real(folder) for folder in given.real] or [simulated(given)]
    for tiles in sets:
        rows = []
        for name in given.only:
            if name != OURS and not pythons.get(name, Path("-")).exists():
                rows.append([name, *["-"] * (len(HEADER) - 2), "not installed"])
                continue
            out = given.out / "runs" / tiles.name / name
            kept = out.with_suffix(".json")
            if given.reuse and kept.exists():
                rows.append(json.loads(kept.read_text()))
                continue
            line = command(name, tiles, out, pythons)
            turns = [measure(name, tiles, line, given.limit) for _ in range(given.repeat)]
            rows.append(min(turns, key=itemgetter(HEADER.index("CPU s, command"))))
            kept.write_text(json.dumps(rows[-1]))
            print(*rows[-1], flush=True)
        print(f"\n{tiles.name}\n")
        show(HEADER, rows)
        if given.plot:
            draw(rows, tiles.name, given.plot)


def simulated(given: argparse.Namespace) -> Tiles:
    """Tiles of the wanted size in `out`, simulated if they are not there yet."""
    kind = "hd" if given.hd else "ld"
    name = f"{kind}-{given.rows}x{given.cols}-{given.seed}"
    folder = given.out / "tiles" / name
    if not (folder / "truth.csv").exists():
        options = SimulateOptions(
            rows=given.rows,
            frames_per_row=given.cols,
            noise_sigma=NOISE[kind],
            seed=given.seed,
            position_unit="px",
        )
        with open_client(LocalOptions(dashboard=None)):
            simulate_tiles(folder, options)
    nominal = pd.read_csv(folder / "positions.csv")
    grid = nominal["file"].str.extract(r"tile_r(?P<row>\d+)_c(?P<col>\d+)").astype(int)
    nominal = pd.concat([nominal.assign(file="tiles/" + nominal["file"]), grid], axis=1)
    nominal.to_csv(folder / "nominal.csv", index=False)
    return Tiles(name, folder / "nominal.csv", truth=pd.read_csv(folder / "truth.csv"))


def real(folder: Path) -> Tiles:
    """Tiles of a folder with nominal.csv and pairs.csv."""
    return Tiles(folder.name, folder / "nominal.csv", pairs=pd.read_csv(folder / "pairs.csv"))


def command(name: str, tiles: Tiles, out: Path, pythons: dict[str, Path]) -> list[str]:
    """The command line that stitches the tiles into `out`."""
    if name != OURS:
        return [str(pythons[name]), str(RUNNERS / f"run_{name}.py"), str(tiles.nominal), str(out)]
    table = pd.read_csv(tiles.nominal)
    files = [str(tiles.nominal.parent / file) for file in table["file"]]
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = out.with_suffix(".csv")
    base = [Path(file).name for file in table["file"]]
    table[["x_px", "y_px"]].assign(file=base).to_csv(stage, index=False)
    cemi = [sys.executable, "-m", "cemi_dask.cli", "stitch", *files, "--positions", str(stage)]
    return [*cemi, "--out", str(out), "--fresh", "--crop", "none"]


def measure(name: str, tiles: Tiles, line: list[str], limit_s: float) -> list[Any]:
    """A row of the table: one program on one set."""
    out = Path(line[line.index("--out") + 1] if name == OURS else line[-1])
    used = spend(line, limit_s, out.with_suffix(".log"))
    costs = [used.cpu_s, used.wall_s, used.peak_mib]
    if used.failure:
        return [name, "-", "-", used.failure, "-", "-", *costs]
    if name == OURS:
        summary = json.loads((out / "run.json").read_text())
        version = summary["cemi_dask"]
        work = own_work(summary, used.cpu_s, tiles, out)
        places = pd.read_csv(out / "tables" / "positions.csv")
        places = places[places["used"]]
    else:
        done = json.loads((out / "work.json").read_text())
        version, work = done["version"], done["cpu_s"]
        places = pd.read_csv(out / "positions.csv").assign(source_index=0)
    total = len(pd.read_csv(tiles.nominal))
    error = errors(places, tiles)
    return [name, version, f"{len(places)} of {total}", *error, work, *costs]


def own_work(summary: dict[str, Any], cpu_s: float, tiles: Tiles, out: Path) -> float:
    """CPU seconds of our run without starting processes and without the report."""
    pair = out.with_name(f"{out.name}-two-tiles.csv")
    two = pd.read_csv(tiles.nominal).head(2)
    two.assign(file=[str(tiles.nominal.parent.resolve() / f) for f in two["file"]]).to_csv(pair)
    line = command(OURS, Tiles("two", pair), pair.with_suffix(""), {})
    started = spend(line, 600.0, pair.with_suffix(".log")).cpu_s
    short = json.loads((pair.with_suffix("") / "run.json").read_text())
    reports = summary["stages"]["report"]["cpu_s"] - short["stages"]["report"]["cpu_s"]
    counted = sum(summary["stages"][stage]["cpu_s"] for stage in WORK)
    return max(counted, cpu_s - started - reports)


def errors(places: pd.DataFrame, tiles: Tiles) -> tuple[float, float]:
    """Rms and largest distance from the truth, or from the known displacements of pairs, px."""
    if tiles.truth is not None:
        found = compare_positions(places, tiles.truth)
        return found["rms_px"], found["max_px"]
    assert tiles.pairs is not None
    at = places.set_index(places["file"].map(lambda file: Path(file).name))[["x_px", "y_px"]]
    i, j = (at.reindex(tiles.pairs[c]).to_numpy() for c in ("file_i", "file_j"))
    away = np.hypot(*(j - i - tiles.pairs[["dx_px", "dy_px"]].to_numpy()).T)
    if not np.isfinite(away).all():
        print(f"{np.isnan(away).sum()} of {len(away)} known pairs have a tile that is not placed")
    return float(np.sqrt(np.nanmean(away**2))), float(np.nanmax(away))


def spend(line: list[str], limit_s: float, log: Path) -> Usage:
    """Run a command to its end, or stop it at the limit, and say what it took."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun, peak, failure = time.perf_counter(), 0.0, ""
    with log.open("w") as text:
        environment = os.environ | dict.fromkeys(THREADS, "1")
        child = subprocess.Popen(
            line, stdout=text, stderr=text, env=environment, start_new_session=True
        )
        while child.poll() is None:
            resident, spent = family(child.pid)
            peak = max(peak, resident)
            if spent > limit_s:
                failure = f"over {limit_s:g} s"
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            time.sleep(EVERY_S)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if child.returncode and not failure:
        last = log.read_text().strip().splitlines()[-1:]
        failure = f"failed: {' '.join(last)[:90]}"
    return Usage(cpu, wall, peak, failure)


def family(pid: int) -> tuple[float, float]:
    """Resident MiB (shared pages count in each) and CPU seconds of a process and its children."""
    resident, spent = 0.0, 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                resident += process.memory_info().rss / 2**20
                spent += sum(process.cpu_times()[:4])
    return resident, spent


def draw(rows: list[list[Any]], title: str, path: Path) -> None:
    """Error against CPU seconds of the programs that gave a result, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    done = [row for row in rows if isinstance(row[5], float)]
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for row in done:
        at, colour = (row[5], row[3]), "C3" if row[0] == OURS else "C0"
        axes.loglog(*at, "o", color=colour)
        axes.plot([row[5], row[6]], [row[3]] * 2, "-|", color=colour, alpha=0.5)
        axes.annotate(row[0], at, xytext=(0, 7), textcoords="offset points", ha="center")
    axes.set(xlabel="CPU seconds: work (dot), whole command (bar)", title=title)
    axes.set(ylabel="rms error of positions, px")
    axes.margins(0.2)
    axes.grid(which="both", alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
