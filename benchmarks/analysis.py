"""What segmenting and measuring a mosaic of about 100 Mpx costs: CPU seconds per Mpx, memory.

A simulated window of 2048 px is repeated until the mosaic has the size asked for, recorded with
noise, written as OME-Zarr, and given to the job of `cemi analyse` on two workers.

    python benchmarks/analysis.py --mpx 100
"""

from __future__ import annotations

import argparse
import tempfile
from multiprocessing import get_context
from pathlib import Path

import dask.array as da
import numpy as np
import numpy.typing as npt
from measure import show

from cemi_dask import store
from cemi_dask.pipeline.single import analyse_mosaic
from cemi_dask.simulate import Specimen

WINDOW_PX = 2048
PIXEL_UM = 0.222
NOISE = 6.0


def main() -> None:
    """Run the job and print CPU seconds and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mpx", type=float, default=100.0, help="size of the mosaic")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    side = max(1, round((given.mpx * 1e6) ** 0.5 / WINDOW_PX))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: the memory of the job's client is not to contain it.
        child = get_context("spawn").Process(target=write, args=(side, folder / "mosaic.ome.zarr"))
        child.start()
        child.join()
        result = analyse_mosaic(
            folder / "mosaic.ome.zarr",
            folder / "out",
            options={"grid": {"cell_px": [413, 508]}},
            cluster=None,
        )
        mpx = (side * WINDOW_PX) ** 2 / 1e6
        stages = result.summary["stages"]
        rows = [
            [stage, found["items"], found["cpu_s"], found["cpu_s"] / mpx, found["wall_s"]]
            for stage, found in stages.items()
        ]
        print(f"{mpx:.0f} Mpx\n")
        show(["stage", "items", "CPU s", "CPU s per Mpx", "wall s"], rows)
        print()
        peaks = result.summary["memory"]["peak_rss_bytes"]
        show(["process", "peak MiB"], [[k, round(v / 2**20)] for k, v in peaks.items()])


def write(side: int, path: Path) -> None:
    """Write the mosaic as OME-Zarr."""
    store.write_mosaic(mosaic(side), path, pixel_um=PIXEL_UM)


def mosaic(side: int) -> da.Array:
    """The repeated window (y, x), uint8, `side` times each way."""
    clean = Specimen(seed=1).image(0, 30_000, (WINDOW_PX, WINDOW_PX), psf_sigma_px=0.7)

    def tile(block_id: tuple[int, int] = (0, 0)) -> npt.NDArray[np.uint8]:
        noise = np.random.default_rng(block_id).normal(0, NOISE, clean.shape)
        return np.clip(np.rint(clean + noise), 1, 255).astype(np.uint8)

    chunks = ((WINDOW_PX,) * side,) * 2
    return da.map_blocks(tile, chunks=chunks, dtype=np.uint8).rechunk(4096)


if __name__ == "__main__":
    main()
