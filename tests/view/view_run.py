"""A run folder with a large mosaic, made in seconds: one simulated patch, repeated."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import numpy as np

from cemi_dask import store
from cemi_dask.geometry import ChunkGrid
from cemi_dask.simulate import Specimen
from tests.report import fake_run

PATCH_PX = 1024
LARGE = fake_run.FakeRun(
    shape=(4000, 30_000), frame=(690, 1024), grid=(9, 59), pixel_um=0.222, shard_px=4096
)
SMALL = fake_run.FakeRun(shape=(700, 2600), grid=(3, 12), shard_px=512)


def write_view_run(out: Path, fake: fake_run.FakeRun) -> Path:
    """Mosaic, labels and tables of a finished run in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(fake.seed)
    frames = fake_run.frames_table(fake, rng)
    positions = fake_run.positions_table(fake, frames, rng)
    cells = fake_run.cells_table(fake, rng)
    # As a run writes them: (0, 0) is the middle of the first pixel.
    cells[["x_px", "y_px"]] -= 0.5
    cells[["x_um", "y_um"]] -= 0.5 * fake.um
    tables = {
        "frames": frames,
        "positions": positions,
        "pairs": fake_run.pairs_table(fake, positions, rng),
        "cells": cells,
        "profile": fake_run.profile_table(cells),
    }
    for name, table in tables.items():
        store.write_table(table, out / "tables", name)
    fake_run.write_correlation(out, tables["profile"].iloc[::4], rng, points=True)
    write_patched_mosaic(out / "mosaic.ome.zarr", fake)
    stages = {"blend": {"items": 1, "wall_s": 1.0}}
    run = {"name": "simulated ingot", "stages": stages, "pixel_um": fake.pixel_um}
    (out / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return out


def write_patched_mosaic(path: Path, fake: fake_run.FakeRun, *, labels: bool = True) -> None:
    """The mosaic with its pyramid and labels; brightness rises along x, a corner has no data."""
    specimen = Specimen(width_px=PATCH_PX, height_px=PATCH_PX, seed=fake.seed)
    patch = specimen.image(0, 0, (PATCH_PX, PATCH_PX)).astype(np.float32)
    truth = specimen.truth_at(0, 0, (PATCH_PX, PATCH_PX))
    options = store.MosaicOptions(shard_px=fake.shard_px, chunk_px=min(512, fake.shard_px))
    chunks = ChunkGrid(fake.shape, options.shard_shape(fake.shape)).dask_chunks

    def repeated(values: np.ndarray, place: list[tuple[int, int]]) -> np.ndarray:
        (y0, y1), (x0, x1) = place
        rows = np.take(values, np.arange(y0, y1) % PATCH_PX, axis=0)
        return np.take(rows, np.arange(x0, x1) % PATCH_PX, axis=1)

    def grey(block_info: dict) -> np.ndarray:
        place = block_info[None]["array-location"]
        (y0, _), (x0, x1) = place
        light = 0.8 + 0.2 * np.arange(x0, x1, dtype=np.float32) / fake.shape[1]
        picture = np.clip(repeated(patch, place) * light, 1, 255).astype(np.uint8)
        picture[: max(0, 40 - y0), : max(0, fake.shape[1] // 3 - x0)] = 0
        return picture

    def mask(block_info: dict, values: np.ndarray) -> np.ndarray:
        return repeated(values, block_info[None]["array-location"])

    store.write_mosaic(
        da.map_blocks(grey, chunks=chunks, dtype=np.uint8),
        path,
        pixel_um=fake.pixel_um,
        options=options,
    )
    store.write_pyramid(path)
    if not labels:
        return
    for name, wanted in (("bcc", truth["bcc"] > 0.5), ("lamellar", truth["lamellar"] > 0)):
        label = da.map_blocks(mask, values=wanted.astype(np.uint8), chunks=chunks, dtype=np.uint8)
        store.write_label(label, path, name)
        store.write_pyramid(path, label=name)
