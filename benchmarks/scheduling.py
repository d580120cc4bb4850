"""What a run costs besides its pixels: client, scheduler, ledger and solver, by stage.

The stages make their real items (names, graphs, what each carries) for so many frames; a real
`LedgerCompute` packs them, a real scheduler hands them to real workers, and the real ledger
records them. Only the kernels are left out: a worker unpacks its item and gives back a result
of the size that measured ones have. No pixel is stored or read.

    python benchmarks/scheduling.py --frames 3902
    python benchmarks/scheduling.py --frames 400000 --stages denoise --sample 3000
    python benchmarks/scheduling.py --frames 10000 --stages solve

With `--sample` only so many items of each stage are done; seconds are then scaled to all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
from distributed import Client, Future
from measure import peak_mib, show

from cemi_dask import blend, register, segment, solve, store
from cemi_dask.compute import named_task
from cemi_dask.frameset import Frames
from cemi_dask.geometry import Box, Layout
from cemi_dask.overlap import LocalShifts, OverlapGraph, PairShift, Peak
from cemi_dask.pipeline.execute import LedgerCompute, pack
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Lines
from cemi_dask.pipeline.stages import DENOISE_BLOCK, denoise_and_store, import_source
from cemi_dask.register.batch import Request
from cemi_dask.segment import Bradley, Coherence
from cemi_dask.store import mosaic as mosaic_on_disk
from cemi_dask.store import pyramid as pyramid_on_disk
from cemi_dask.store.arrays import make_array, open_array
from cemi_dask.store.framestore import _FINISHED, _frame_spec

# The reference ingot: 18 rows of 217 frames.
SHAPE, PITCH_X, PITCH_Y, ROW = (690, 1024), 570, 436, 217
STAGES = ("frames", "register", "solve", "denoise", "blend", "pyramid", "segment")
RECORDED_PER_FRAME = 4  # records of a scan, of which one is taken


# ---------------------------------------------------------------- results without pixels


def dry_pair(request: Request, shift: tuple[float, float] | None = None) -> dict[str, Any]:
    """The result of a pair as registration gives it: six peaks, 16 parts.

    Where it was expected, or at a true `shift` (px) with a scatter of 0.003 px.
    """
    rng = np.random.default_rng([request.i, request.j])
    search = request.searches[0]
    if shift is None:
        shift = (search.x_min + search.x_max) / 2, (search.y_min + search.y_max) / 2
    dx, dy = shift[0] + rng.normal(0, 0.003), shift[1] + rng.normal(0, 0.003)
    others = tuple(Peak(dx + 7.3 * k, dy - 4.1 * k, 0.3 - 0.01 * k) for k in range(1, 6))
    parts = np.tile([[dx, dy]], (16, 1)) + rng.normal(0, 0.02, (16, 2))
    information = np.tile(np.eye(2) / 0.02**2, (16, 1, 1))
    box = Box(0, 0, SHAPE[0] - round(abs(dy)), SHAPE[1] - round(abs(dx)))
    return PairShift(
        request.i,
        request.j,
        peaks=(Peak(dx, dy, 0.97, (1e-5, 0.0, 1e-5)), *others),
        grey=(126.1, 126.3, 40.1, 40.2),
        overlap_px=box.shape[0] * box.shape[1],
        local=LocalShifts.pack(box, (4, 4), parts, information),
    ).to_json()


def dry_scan(row: int) -> dict[str, Any]:
    """The result of a row's scan: a record for each recorded frame looked at."""
    record = {
        "col": -1,
        "file": f"/data/ingot/videos/row_{row:03d}.avi",
        "key_pts": 0,
        "looks": 1,
        "pts": 1200,
        "reason": "",
        "row": row,
        "sharpness": 836.7586737350928,
        "shear": 0.0,
        "source_index": 12,
        "taken": True,
        "time_s": 1.2345678,
        "upper": None,
        "used": True,
        "x_nominal_px": 6840.12345678,
        "y_nominal_px": 1.23456789,
    }
    motion = [[0.1 * k, k, 47.5 * k, 1.9] for k in range(RECORDED_PER_FRAME * ROW)]
    return {"records": [record] * ROW, "motion": motion, "warnings": [], "notes": []}


def dry_result(kind: str, name: str, task: Any) -> Any:
    """What an item of this kind would give back."""
    if kind == "register-pair":
        return [dry_pair(request) for request in requests_of(task)]
    if kind == "read-frames":
        return dry_scan(int(name.rpartition("/")[2]))
    return {"frames": DENOISE_BLOCK, "bytes": DENOISE_BLOCK * SHAPE[0] * SHAPE[1]}


def requests_of(value: Any) -> Iterator[Request]:
    """The pairs that an item of registration is to measure."""
    if isinstance(value, Request):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from requests_of(part)
    elif hasattr(value, "args"):
        yield from requests_of(value.args)


def run_dry(packed: bytes, name: str) -> tuple[Any, float]:
    """What `execute.run_inline` does, but for the kernels."""
    start = time.thread_time()
    graph, key = cloudpickle.loads(packed)
    result = dry_result(name.partition("/")[0], name, graph[key])
    return result, time.thread_time() - start


class DryCompute(LedgerCompute):
    """The run's own `Compute`, whose workers unpack their items and do nothing with them."""

    packed_bytes = 0
    limit: int | None = None
    # CPU seconds and time when the first items were there.
    built: tuple[float, float] | None = None

    def __call__(self, items: Any, /) -> dict[str, Any]:
        """As in a run, over the first `limit` items."""
        self.built = self.built or (time.process_time(), time.perf_counter())
        names = list(islice(items, self.limit))
        self.asked = len(items)
        if len(names) < len(items):
            super().__call__({name: items[name] for name in names})
            raise Sampled
        return super().__call__(items)

    def _submit(self, name: str, item: Any) -> Future[Any]:
        packed = pack(item)
        self.packed_bytes += len(packed)
        return self.client.submit(
            run_dry,
            packed,
            name,
            key=f"{name.partition('/')[0]}-{self.token}-{name}",
            pure=False,
            retries=self.retries,
        )


class Sampled(Exception):
    """A stage of which only some items were to be done."""


# ---------------------------------------------------------------- the cluster


@dataclass
class Processes:
    """A scheduler and workers, each a process of its own, and a client in this one."""

    client: Client
    scheduler: psutil.Process
    workers: list[psutil.Process]

    def cpu_s(self) -> tuple[float, float, float]:
        """CPU seconds so far of client, scheduler, workers."""

        def spent(process: psutil.Process) -> float:
            times = process.cpu_times()
            return float(times.user + times.system)

        return (
            time.process_time(),
            spent(self.scheduler),
            sum(spent(worker) for worker in self.workers),
        )

    def scheduler_mib(self) -> float:
        """Resident memory of the scheduler, MiB."""
        return float(self.scheduler.memory_info().rss / 2**20)


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Processes]:
    """A scheduler of its own process with so many workers of one thread."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    env = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.5"}
    commands = [
        [*dask, "scheduler", "--port", "0", *common],
        *[[*dask, "worker", "--nthreads", "1", "--no-nanny", *common] for _ in range(workers)],
    ]
    with ExitStack() as stack:
        log = stack.enter_context(open(folder / "dask.log", "w"))
        started = []
        for command in commands:
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder))
            stack.callback(started[-1].terminate)
            while not file.exists():
                time.sleep(0.1)
        client = stack.enter_context(Client(scheduler_file=str(file), timeout=60))
        client.wait_for_workers(workers, timeout=120)
        found = [psutil.Process(process.pid) for process in started]
        yield Processes(client, found[0], found[1:])


# ---------------------------------------------------------------- the stages


class Ingot:
    """Frames, places and a layout of so many frames, none of which has pixels."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.rows = -(-count // ROW)
        self.keys = [f"raw/{row:05d}" for row in range(self.rows)]
        left = count
        for key in self.keys:
            here = min(ROW, left)
            make_array(folder / key, _frame_spec(here, SHAPE, np.dtype("uint8")))
            open_array(folder / key, "write").attrs["cemi"] = _FINISHED
            left -= here
        rng = np.random.default_rng(1)
        number = np.arange(count)
        # Ingots lie side by side, 18 rows each, so that many frames make no endless column.
        row, ingot = number // ROW % 18, number // ROW // 18
        self.x = (number % ROW) * PITCH_X + ingot * ROW * PITCH_X + rng.normal(0, 6, count)
        self.y = row * PITCH_Y + rng.normal(0, 3, count)
        self.x -= self.x.min()
        self.y -= self.y.min()
        self.frames = Frames.from_array(
            store.open_frame_store(folder, self.keys),
            x_nominal_px=self.x,
            y_nominal_px=self.y,
            pixel_um=0.222,
        )

    def layout(self) -> Layout:
        """The true places."""
        n = self.count
        return Layout(
            x_px=self.x,
            y_px=self.y,
            frame_shape=SHAPE,
            sigma_x_px=np.full(n, 0.01),
            sigma_y_px=np.full(n, 0.01),
            component=np.zeros(n, int),
            gain=np.ones(n),
            offset=np.zeros(n),
            used=np.ones(n, bool),
            shear=np.zeros(n),
            distortion=None,
        ).to_origin()

    def graph(self) -> OverlapGraph:
        """The overlap graph that `register` would give."""
        x, y = self.x, self.y

        def collect(items: Any, /) -> dict[str, Any]:
            out = {}
            for name, item in items.items():
                task = dict(item.__dask_graph__().layers[item.key])[item.key]
                out[name] = [
                    dry_pair(r, (float(x[r.j] - x[r.i]), float(y[r.j] - y[r.i])))
                    for r in requests_of(task)
                ]
            return out

        return register.register(self.frames, compute=collect)


def import_all() -> None:
    """What a worker of a run has imported before its first item."""
    import cemi_dask.pipeline  # noqa: F401


def do_stage(name: str, ingot: Ingot, compute: DryCompute) -> None:
    """All items of one stage, through `compute`."""
    folder, frames = ingot.folder, ingot.frames
    mosaic = folder / "mosaic.ome.zarr"
    # Shards are not written, so they are not looked for.
    mosaic_on_disk.check_shards = lambda *_: None
    pyramid_on_disk.check_shards = lambda *_: None
    if name == "frames":
        compute(
            {
                f"read-frames/{row}": named_task(
                    "read-frames", import_source, row, None, str(folder)
                )
                for row in range(ingot.rows)
            }
        )
    elif name == "register":
        register.register(frames, compute=compute)
    elif name == "denoise":
        blocks, items, first = frames.delayed(), {}, 0
        for key in ingot.keys:
            count = store.frame_count(folder, key)
            for start in range(0, count, DENOISE_BLOCK):
                place = first + start
                part = blocks[place : place + min(DENOISE_BLOCK, count - start)]
                where = str(folder), key.replace("raw", "denoised"), start
                items[f"denoise/{Path(key).name}-{start:05d}"] = named_task(
                    "denoise", denoise_and_store, part, None, place, where
                )
            first += count
        compute(items)
    elif name == "blend":
        array = blend.blend(frames, ingot.layout(), shard_px=4096)
        store.write_mosaic(array, mosaic, pixel_um=0.222, compute=compute, overwrite=True)
    elif name == "pyramid":
        store.write_pyramid(mosaic, compute=compute)
    elif name == "segment":
        opened = store.open_mosaic(mosaic)
        for label, method in (("lamellar", Coherence()), ("bcc", Bradley())):
            array = segment.segment(opened.levels[0], method=method, pixel_um=0.222)
            store.write_label(array, mosaic, label, compute=compute, overwrite=True)
    else:
        raise SystemExit(f"no stage {name!r}; there are {', '.join(STAGES)}")


def do_solve(ingot: Ingot) -> list[Any]:
    """Seconds and memory of the solver and its tables; nothing of it runs on the cluster."""
    graph = ingot.graph()
    before, begun = time.process_time(), time.perf_counter()
    calibration = solve.calibrate(graph)
    calibrated = time.process_time() - before
    layout = solve.solve(graph, calibration=calibration)
    pairs = solve.pairs_table(graph, layout)
    solve.positions_table(layout, ingot.frames.table)
    spent = time.process_time() - before
    wall = time.perf_counter() - begun
    return [ingot.count, len(pairs), calibrated, spent, wall, peak_mib()]


def main() -> None:
    """Measure the stages asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3902)
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated")
    parser.add_argument("--sample", type=int, help="items to do of each stage; default all")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    names = given.stages.split(",")
    header = ["stage", "items", "done", "client ms", "scheduler ms", "worker ms", "wall ms"]
    header += ["build s", "all: CPU s", "wall s", "kB each", "ledger MB", "reread s"]
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        begun = time.process_time()
        ingot = Ingot(folder, given.frames)
        print(f"{given.frames} frames described in {time.process_time() - begun:.1f} CPU s")
        if "solve" in names:
            solved = do_solve(ingot)
            show(["frames", "pairs", "calibrate s", "CPU s", "wall s", "peak MiB"], [solved])
        staged = [name for name in names if name != "solve"]
        if not staged:
            return
        with cluster(folder, given.workers) as processes:
            processes.client.run(import_all)
            for name in staged:
                rows.append(measure(name, ingot, processes, given))
                print(json.dumps(rows[-1]), flush=True)
            memory = [peak_mib(), processes.scheduler_mib()]
    print()
    show(header, rows)
    print(f"memory: client {memory[0]:.0f} MiB at most, scheduler {memory[1]:.0f} MiB")
    print(f"sum: CPU {sum(r[8] for r in rows):.1f} s, wall {sum(r[9] for r in rows):.1f} s")


def measure(name: str, ingot: Ingot, processes: Processes, given: argparse.Namespace) -> list[Any]:
    """A row of the table: one stage."""
    ledger = Ledger(ingot.folder / "ledger").stage(name, "0" * 64)
    compute = DryCompute(processes.client, ledger, Lines(every_s=60))
    compute.limit = given.sample
    before = processes.cpu_s()
    try:
        do_stage(name, ingot, compute)
        items = compute.items
    except Sampled:
        items = compute.asked
    assert compute.built is not None
    building = compute.built[0] - before[0]
    wall = time.perf_counter() - compute.built[1]
    spent = np.subtract(processes.cpu_s(), before) - (building, 0, 0)
    done = compute.items
    scale = items / done
    size = ledger.path.stat().st_size * scale / 1e6
    again = time.process_time()
    Ledger(ingot.folder / "ledger").stage(name, "0" * 64)
    again = (time.process_time() - again) * scale
    each = [1000 * float(s) / done for s in spent]
    return [
        *(name, items, done, *each, 1000 * wall / done),
        *(building, building + float(spent.sum()) * scale, wall * scale),
        *(compute.packed_bytes / done / 1e3, size, again),
    ]


if __name__ == "__main__":
    main()
