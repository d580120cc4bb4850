"""What the viewer and the exports cost on a mosaic of the paper's size (123 672 x 7 848 px).

Makes such a mosaic from one simulated patch, repeated (about 20 s of CPU, 1.3 GB). Then `cemi view`
in a process of its own: peak memory and CPU time per tile while clients ask for random tiles of all
levels, each for its own; the time from opening the page to the whole mosaic drawn, in Chromium
where playwright is there. With --export, `cemi export` per format: time, size, peak memory.

    python benchmarks/viewing.py --out DIR
    python benchmarks/viewing.py --out DIR --export tiff png
"""

from __future__ import annotations

import argparse
import http.client
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
from measure import show

from cemi_dask import store
from cemi_dask.geometry import ChunkGrid
from cemi_dask.simulate import Specimen
from cemi_dask.view import open_source
from cemi_dask.view.tiles import TILE_PX, TileReader

SHAPE = (7848, 123_672)
PATCH_PX = 1024
ENDINGS = {"tiff": "tif", "ome-tiff": "ome.tif", "png": "png", "dzi": "dzi"}


def main() -> None:
    """Print one table per question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for mosaic and exports")
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--export", nargs="*", default=[], choices=list(ENDINGS))
    given = parser.parse_args()
    path = given.out / "mosaic.ome.zarr"
    if not path.exists():
        make_mosaic(path)
    serving(path, given.tiles, given.clients)
    for name in given.export:
        exporting(path, name, given.out)


def make_mosaic(path: Path) -> None:
    """A mosaic of SHAPE with its pyramid; brightness rises along x, so that no two tiles agree."""
    specimen = Specimen(width_px=PATCH_PX, height_px=PATCH_PX, seed=0)
    patch = specimen.image(0, 0, (PATCH_PX, PATCH_PX)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 4, patch.shape).astype(np.float32)

    def block(block_info: dict) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"]
        rows, cols = np.arange(y0, y1) % PATCH_PX, np.arange(x0, x1) % PATCH_PX
        light = 0.7 + 0.3 * np.arange(x0, x1, dtype=np.float32) / SHAPE[1]
        return np.clip((patch + noise)[np.ix_(rows, cols)] * light, 1, 255).astype(np.uint8)

    options = store.MosaicOptions()
    chunks = ChunkGrid(SHAPE, options.shard_shape(SHAPE)).dask_chunks
    picture = da.map_blocks(block, chunks=chunks, dtype=np.uint8)
    store.write_mosaic(picture, path, pixel_um=0.222, options=options)
    store.write_pyramid(path)


def addresses(path: Path, count: int) -> list[str]:
    """Tiles of random levels and places; a level is as likely as it has tiles, but at least 2 %."""
    tiles = TileReader(open_source(path))
    chance = random.Random(0)
    grids = [tiles.grid(level) for level in range(tiles.level_count())]
    weights = [max(rows * cols, sum(r * c for r, c in grids) / 50) for rows, cols in grids]
    found = []
    for level in chance.choices(range(len(grids)), weights, k=count):
        row, col = (chance.randrange(n) for n in grids[level])
        found.append(f"/tile/mosaic/{level}/{row}/{col}.png?low=20&high=180")
    return found


@contextmanager
def server(path: Path) -> Iterator[tuple[psutil.Process, int, str]]:
    """`cemi view` as a process: itself, its port, its address."""
    command = [sys.executable, "-m", "cemi_dask.cli", "view", str(path), "--no-browser"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().split()[-1]
        yield psutil.Process(running.pid), int(url.rstrip("/").rpartition(":")[2]), url
    finally:
        running.terminate()
        running.wait(20)


def serving(path: Path, count: int, clients: int) -> None:
    """Memory, CPU time per tile and waiting times while clients ask; the first paint."""
    wanted = addresses(path, count)
    with server(path) as (process, port, url):
        idle = process.memory_info().rss
        before = sum(process.cpu_times()[:2])
        peak, waits = [idle], []

        def client(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            for address in wanted[number::clients]:
                begun = time.perf_counter()
                connection.request("GET", address)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                waits.append(time.perf_counter() - begun)
                peak.append(process.memory_info().rss)

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))
        spent = sum(process.cpu_times()[:2]) - before
        paint = first_paint(url)
    alone = cpu_of_each(path, wanted[:400])
    rows = [
        ["memory before, MB", idle / 1e6],
        ["memory, most, MB", max(peak) / 1e6],
        ["CPU per tile, mean, ms", 1e3 * spent / count],
        ["CPU per tile alone, 95 %, ms", 1e3 * float(np.percentile(alone, 95))],
        [f"wait with {clients} clients, median, ms", 1e3 * float(np.median(waits))],
        [f"wait with {clients} clients, 95 %, ms", 1e3 * float(np.percentile(waits, 95))],
        ["whole mosaic drawn after, s", paint],
    ]
    show([f"{count} tiles of {TILE_PX} px", "measured"], rows)


def cpu_of_each(path: Path, wanted: list[str]) -> list[float]:
    """CPU seconds of all threads for each tile, one after the other, none from the cache."""
    source = open_source(path)
    tiles = TileReader(source)
    window, spent = tiles.window(), []
    for address in dict.fromkeys(wanted):
        level, row, col = (int(n) for n in address.split(".png")[0].split("/")[3:])
        begun = time.process_time()
        tiles.picture(level, row, col, window)
        spent.append(time.process_time() - begun)
    return spent


def first_paint(url: str) -> float:
    """Seconds from opening the page to the last tile of the whole view; NaN without Chromium."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        return float("nan")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        begun = time.perf_counter()
        page.goto(url)
        ready = "document.documentElement.dataset.ready === 'yes' && cemi.view.loaded()"
        while not page.evaluate(ready):
            page.wait_for_timeout(10)
        taken = time.perf_counter() - begun
        browser.close()
    return taken


def exporting(path: Path, name: str, out: Path) -> None:
    """`cemi export` in a process of its own: time, size of the file, peak memory."""
    target = out / f"export.{ENDINGS[name]}"
    command = [sys.executable, "-m", "cemi_dask.cli", "export", str(path), "--format", name]
    command += ["--out", str(target), *(["--level", "0"] if name == "png" else [])]
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    wall = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = [target, *target.parent.glob(f"{target.stem}_files/*/*")]
    size = sum(file.stat().st_size for file in files)
    rows = [[name, wall, size / 1e6, used.ru_maxrss / 1e3]]
    # ru_maxrss is that of the largest child so far: an upper bound.
    show(["format", "wall s", "MB", "peak memory, at most, MB"], rows)


if __name__ == "__main__":
    main()
