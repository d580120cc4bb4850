"""The reference ingot from videos to its map, stage by stage, beside the least it could cost.

Simulates (once, kept in `--out`) 18 videos whose frames form a mosaic of about 124 000 x 8 100 px,
runs the whole job without a denoiser, each stage in workers of its own, and prints wall and CPU
seconds, bytes, and the largest process. Then, in as many processes, the floor: every frame
taken decoded once, and all levels of the mosaic written once with the same settings, and no other
work; and for the analysis, the mosaic read once and box-filtered once.

    python benchmarks/full_scale.py --out DIR
    python benchmarks/full_scale.py --out DIR --rows 6 --frames 67     # 402 frames
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import psutil
import yaml
from measure import show

from cemi_dask import open_mosaic
from cemi_dask.geometry import Box, ChunkGrid
from cemi_dask.pipeline import STAGES, run
from cemi_dask.pipeline.progress import Lines
from cemi_dask.pipeline.simulation import simulate_ingot
from cemi_dask.simulate import compare_positions
from cemi_dask.store.arrays import open_array, read_region, write_region
from cemi_dask.store.mosaic import disk_spec, options_of

STITCHING = ("frames", "register", "solve", "blend", "pyramid")
ANALYSIS = ("segment", "analyse")
BOX_PX = 63  # of the filter that stands for the least an analysis does
EVERY_S = 0.2
Spent = tuple[float, float]  # CPU and wall seconds


def main() -> None:
    """Simulate, run, measure the floor and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for videos and results")
    parser.add_argument("--rows", type=int, default=18)
    parser.add_argument("--frames", type=int, default=217, help="frames per row at one pitch")
    parser.add_argument("--looks", type=int, default=2, help="recorded frames per pitch")
    parser.add_argument("--codec", default="mjpeg", help="ffv1, mjpeg, h264 or mpeg4")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    given = parser.parse_args()
    ingot = simulated(given, given.rows, given.frames)
    out = run_folder(ingot, given.workers)
    spent = measured(ingot, given.workers, given.until)
    report(ingot, out, spent, floor(out, given.workers))


def simulated(given: argparse.Namespace, rows: int, frames: int) -> Path:
    """The folder of an ingot under ``given.out``, simulated if it is not there."""
    ingot: Path = given.out / f"{rows}x{frames}-{given.codec}"
    if not (ingot / "ingot.yaml").is_file():
        options = {"rows": rows, "frames_per_row": frames, "looks": given.looks}
        options |= {"codec": given.codec, "noise_sigma": given.noise, "seed": 1}
        simulate_ingot(ingot, options)
    return ingot


def run_folder(ingot: Path, workers: int) -> Path:
    """Where the run of an ingot with so many workers goes."""
    return ingot.with_name(f"{ingot.name}-run-{workers}")


def measured(
    ingot: Path, workers: int, until: str = STAGES[-1]
) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Of each stage its record and, in MiB, bytes read and written, the largest worker, and this
    process. The run starts afresh."""
    config, out = ingot / "ingot.yaml", run_folder(ingot, workers)
    shutil.rmtree(out, ignore_errors=True)
    plain = yaml.safe_load(config.read_text())
    plain |= {"denoise": None}
    plain |= {"cluster": {"kind": "local", "workers": workers, "dashboard": None}}
    settings = config.with_name(f"plain-{workers}.yaml")
    settings.write_text(yaml.safe_dump(plain))
    found = {}
    for stage in (s for s in STAGES[: STAGES.index(until) + 1] if s != "train"):
        with Watch() as seen:
            result = run(settings, out=out, until=stage, progress=Lines(60))
        record = result.summary["stages"][stage]
        found[stage] = record, [v / 2**20 for v in (*seen.bytes(), seen.peak, seen.own_peak)]
    return found


class Watch:
    """What the processes below this one read, write and hold, looked at five times a second."""

    def __enter__(self) -> Watch:
        self._counts: dict[int, tuple[int, int]] = {}
        self.peak = self.own_peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(EVERY_S):
            for process in me.children(recursive=True):
                try:
                    io = process.io_counters()
                    self._counts[process.pid] = io.read_chars, io.write_chars
                    self.peak = max(self.peak, process.memory_info().rss)
                except psutil.Error:
                    continue  # it ended meanwhile
            self.own_peak = max(self.own_peak, me.memory_info().rss)

    def bytes(self) -> tuple[int, int]:
        """Read and written by all processes so far."""
        read, written = zip(*self._counts.values(), strict=True) if self._counts else ((0,), (0,))
        return sum(read), sum(written)


def floor(out: Path, workers: int) -> dict[str, Spent]:
    """CPU seconds, and wall seconds of the busiest process, of the least that must be done."""
    frames = pd.read_csv(out / "tables" / "frames.csv")
    videos = sorted(frames["file"].unique())
    mosaic = out / "mosaic.ome.zarr"
    scratch = out / "floor.zarr"
    with multiprocessing.get_context("spawn").Pool(workers, initializer=one_thread) as pool:
        decoded = pool.map(decode, videos, chunksize=1)
        spent = {"decode": shared(decoded, workers)}
        recorded = sum(count for *_, count in decoded)
        part = len(frames) / recorded
        spent["decode"] = tuple(part * s for s in spent["decode"])  # type: ignore[assignment]
        writes, reads = [], []
        for level, array in enumerate(open_mosaic(mosaic).levels):
            source, target = str(mosaic / str(level)), str(scratch / str(level))
            spec = disk_spec(array.shape, array.dtype.name, options_of(mosaic))
            spec.create(target)
            boxes = [box for *_, box in ChunkGrid(array.shape, spec.shards)]
            writes += pool.map(partial(write, source, target), boxes, chunksize=1)
            if level == 0:
                reads = pool.map(partial(read_and_filter, source), boxes, chunksize=1)
        spent["write"] = shared(writes, workers)
        spent["read and filter"] = shared(reads, workers)
    return spent


def shared(parts: Iterable[tuple[float, ...]], workers: int) -> Spent:
    """CPU seconds of all parts, and wall seconds if they are spread evenly."""
    table = np.array([part[:2] for part in parts])
    return float(table[:, 0].sum()), float(table[:, 1].sum() / workers)


def one_thread() -> None:
    """As in our workers: one thread for each process."""
    cv2.setNumThreads(1)


def timed(work: Callable[[], Any]) -> Spent:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def decode(path: str) -> tuple[float, float, int]:
    """CPU and wall seconds of decoding a video once with one thread, and its frames."""
    count = 0

    def work() -> None:
        nonlocal count
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            count = sum(1 for _ in container.decode(stream))

    return *timed(work), count


def write(source: str, target: str, box: Box) -> Spent:
    """Seconds of writing one shard that was read before."""
    values = read_region(source, box.slices)
    return timed(partial(write_region, target, box.slices, values))


def read_and_filter(source: str, box: Box) -> Spent:
    """Seconds of reading one shard and filtering it once by a box."""

    def work() -> None:
        pixels = open_array(source, "read")[box.slices]
        cv2.boxFilter(pixels, cv2.CV_32F, (BOX_PX, BOX_PX))

    return timed(work)


def report(
    ingot: Path,
    out: Path,
    spent: dict[str, tuple[dict[str, Any], list[float]]],
    least: dict[str, Spent],
) -> None:
    """Print stages, floor, ratios and errors as tables."""
    header = ["stage", "items", "CPU s", "wall s", "read MiB", "written MiB", "largest worker MiB"]
    rows = [
        [stage, record["items"], record["cpu_s"], record["wall_s"], *map(round, sizes)]
        for stage, (record, sizes) in spent.items()
    ]
    print()
    show([*header, "client MiB"], rows)
    print()
    show(["floor", "CPU s", "wall s"], [[name, *values] for name, values in least.items()])
    print()
    groups = {
        "frames to pyramid": (STITCHING, ("decode", "write")),
        "analysis": (ANALYSIS, ("read and filter",)),
    }
    table = []
    for name, (stages, parts) in groups.items():
        done = [[spent[s][0][key] for s in stages if s in spent] for key in ("cpu_s", "wall_s")]
        base = [sum(least[p][k] for p in parts) for k in (0, 1)]
        ratios = [sum(values) / b for values, b in zip(done, base, strict=True)]
        table.append([name, sum(done[0]), base[0], ratios[0], sum(done[1]), base[1], ratios[1]])
    show(["", "CPU s", "floor", "ratio", "wall s", "floor", "ratio"], table)
    print()
    show(["frames", "islands", "rms px", "max px", "length error px"], [errors(ingot, out)])


def errors(ingot: Path, out: Path) -> list[Any]:
    """Frames, islands, rms and largest error of positions, and of the length from end to end."""
    places = pd.read_csv(out / "tables" / "positions.csv")
    truth = pd.read_csv(ingot / "truth.csv")
    found = compare_positions(places[places["used"]], truth[~truth["blank"]])
    key = ["file", "source_index"]
    both = places.assign(file=[Path(f).name for f in places["file"]]).merge(
        truth, on=key, suffixes=("", "_true")
    )
    off = both.set_index(["row", "source_index"])[["x_px"]].sub(
        both.set_index(["row", "source_index"])["x_px_true"], axis=0
    )["x_px"]
    ends = [row.sort_index().iloc[[0, -1]].to_numpy() for _, row in off.groupby(level="row")]
    length = max(abs(float(last - first)) for first, last in ends)
    islands = int(places.loc[places["used"], "component"].max()) + 1
    return [found["n"], islands, found["rms_px"], found["max_px"], length]


if __name__ == "__main__":
    main()
