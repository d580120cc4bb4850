"""A run folder like one that a run leaves, made quickly and from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd

from cemi_dask import store
from cemi_dask.analyse import fit_models
from cemi_dask.geometry import ChunkGrid
from cemi_dask.simulate import Specimen

STAGES = ("frames", "register", "solve", "denoise", "blend", "pyramid", "segment", "analyse")
CONFIG_YAML = "name: <strip>\ninput:\n  paths: [row_*.avi]\n  pixel_um: 0.222\n"


@dataclass(frozen=True)
class FakeRun:
    """How large the fake run is, and what is odd about it."""

    shape: tuple[int, int] = (420, 2600)
    frame: tuple[int, int] = (230, 341)
    grid: tuple[int, int] = (4, 24)
    pixel_um: float | None = 0.222
    islands: int = 1
    seed: int = 5
    shard_px: int = 512

    @property
    def um(self) -> float:
        return self.pixel_um or float("nan")


def write_fake_run(
    out: Path, fake: FakeRun, *, until: str = "analyse", points: bool = True
) -> Path:
    """Everything the stages up to `until` leave in the run folder `out`."""
    done = STAGES[: STAGES.index(until) + 1]
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(fake.seed)
    frames = frames_table(fake, rng)
    store.write_table(frames, out / "tables", "frames")
    specimen = Specimen(width_px=fake.shape[1], height_px=fake.shape[0], seed=fake.seed)
    write_frame_store(out, fake, specimen, rng, denoised="denoise" in done)
    if "solve" in done:
        positions = positions_table(fake, frames, rng)
        store.write_table(pairs_table(fake, positions, rng), out / "tables", "pairs")
        store.write_table(positions, out / "tables", "positions")
    if "blend" in done:
        write_mosaic(out, fake, specimen, done)
    if "analyse" in done:
        cells = cells_table(fake, rng)
        store.write_table(cells, out / "tables", "cells")
        profile = profile_table(cells)
        store.write_table(profile, out / "tables", "profile")
        write_correlation(out, profile, rng, points=points)
    (out / "run.json").write_text(json.dumps(run_json(fake, frames, done)), encoding="utf-8")
    return out


def grid_of_frames(fake: FakeRun) -> tuple[int, int]:
    """(rows, columns) of frames that cover the mosaic with about 40 % overlap."""
    (height, width), (tall, wide) = fake.shape, fake.frame
    rows = max(1, round((height - tall) / (0.75 * tall)) + 1)
    return rows, max(2, round((width - wide) / (0.6 * wide)) + 1)


def frames_table(fake: FakeRun, rng: np.random.Generator) -> pd.DataFrame:
    rows, cols = grid_of_frames(fake)
    row, col = (a.ravel() for a in np.mgrid[0:rows, 0:cols])
    n = rows * cols
    table = pd.DataFrame(
        {
            "frame": np.arange(n),
            "file": [f"row_{r:02d}.avi" for r in row],
            "source_index": col * 7,
            "row": row,
            "time_s": col * 2.7,
            "sharpness": rng.uniform(0.8, 1.2, n),
            "used": True,
            "reason": "",
        }
    )
    blank = rng.choice(n, max(2, n // 20), replace=False)
    table.loc[blank, "used"] = False
    table.loc[blank, "reason"] = "blank"
    table.loc[blank[0], "reason"] = "torn <b>scan</b>"
    return table


REASONS = {"ok": "", "ambiguous": "rival_peak", "rejected": "low_score", "empty": "no_texture"}


def pairs_table(fake: FakeRun, positions: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Neighbours to the right, below, and both, measured to some hundredths of a px."""
    rows, cols = grid_of_frames(fake)
    place = positions[["x_px", "y_px"]].to_numpy()
    records = []
    for i in range(rows * cols):
        right, below = (i + 1) % cols > 0, i + cols < rows * cols
        for j in [i + 1] * right + [i + cols] * below + [i + cols + 1] * (right and below):
            status = rng.choice(list(REASONS), p=[0.9, 0.04, 0.03, 0.03])
            miss = rng.normal(0, 0.03, 2) if status == "ok" else np.full(2, np.nan)
            residual = float(np.hypot(*miss))
            step = rng.normal(0, 0.4) if status == "ok" else np.nan
            measured = place[j] - place[i] + miss
            ratio = np.exp(rng.normal(0, 0.02)) if status == "ok" else np.nan
            reason = REASONS[status]
            records.append((i, j, *measured, 0.8, status, residual, reason, step, ratio))
    names = ["i", "j", "dx_px", "dy_px", "score", "status", "residual_px", "reason"]
    return pd.DataFrame(records, columns=[*names, "grey_step", "contrast_ratio"])


def positions_table(fake: FakeRun, frames: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows, cols = grid_of_frames(fake)
    (height, width), (tall, wide) = fake.shape, fake.frame
    n = rows * cols
    row, col = np.arange(n) // cols, np.arange(n) % cols
    y = row * (height - tall) / max(1, rows - 1) + rng.normal(0, 2, n)
    x = col * (width - wide) / max(1, cols - 1) + rng.normal(0, 3, n)
    table = frames[["frame", "file", "source_index", "row"]].copy()
    table["x_px"] = np.clip(x, 0, width - wide)
    table["y_px"] = np.clip(y, 0, height - tall)
    table["sigma_x_px"] = 0.02 + 0.0004 * np.abs(col - cols / 2) + rng.uniform(0, 0.004, n)
    table["sigma_y_px"] = 0.02 + 0.01 * row / max(1, rows)
    table["component"] = (col * fake.islands) // cols
    table["gain"], table["offset"] = 1.0, 0.0
    return table


def write_frame_store(
    out: Path, fake: FakeRun, specimen: Specimen, rng: np.random.Generator, *, denoised: bool
) -> None:
    clean = specimen.image(40, 300, fake.frame)
    for kind, sigma in (("raw", 25.0), ("denoised", 3.0))[: 2 if denoised else 1]:
        with store.FrameWriter(out / "frames.zarr", f"{kind}/000_row-000") as writer:
            for _ in range(3):
                noisy = clean + rng.normal(0, sigma, fake.frame)
                writer.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def write_mosaic(out: Path, fake: FakeRun, specimen: Specimen, done: tuple[str, ...]) -> None:
    options = store.MosaicOptions(shard_px=fake.shard_px, chunk_px=fake.shard_px // 2)
    chunks = ChunkGrid(fake.shape, (fake.shard_px, fake.shard_px)).dask_chunks

    def block(block_info: Any = None) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"]
        grey = np.clip(np.rint(specimen.image(y0, x0, (y1 - y0, x1 - x0))), 1, 255)
        grey[: max(0, 14 - y0)] = 0  # ragged upper border without frames
        return grey.astype(np.uint8)

    picture = da.map_blocks(block, chunks=chunks, dtype=np.uint8)
    path = out / "mosaic.ome.zarr"
    store.write_mosaic(picture, path, pixel_um=fake.pixel_um, options=options)
    if "pyramid" in done:
        store.write_pyramid(path)
    if "segment" in done:
        truth = specimen.truth_at(0, 0, fake.shape)
        for name, mask in (("bcc", truth["bcc"] > 0.5), ("lamellar", truth["lamellar"])):
            store.write_label(da.from_array(mask.astype(np.uint8), chunks=chunks), path, name)
            if "pyramid" in done:
                store.write_pyramid(path, label=name)


def cells_table(fake: FakeRun, rng: np.random.Generator) -> pd.DataFrame:
    rows, cols = fake.grid
    row, col = (a.ravel() for a in np.mgrid[0:rows, 0:cols])
    n, t = rows * cols, col / max(1, cols - 1)
    high, wide = fake.shape[0] / rows * fake.um, fake.shape[1] / cols * fake.um
    width_px = 2.7 - 1.2 * t * (1 - t) + rng.normal(0, 0.06, n)
    lamellar = np.clip(0.92 - 0.3 * t**2 + rng.normal(0, 0.05, n), 0, 1)
    table = pd.DataFrame(
        {
            "row": row,
            "col": col,
            "x_um": (col + 0.5) * wide,
            "y_um": (row + 0.5) * high,
            "width_um": wide,
            "height_um": high,
            "x_px": (col + 0.5) * fake.shape[1] / cols,
            "y_px": (row + 0.5) * fake.shape[0] / rows,
            "width_px": fake.shape[1] / cols,
            "height_px": fake.shape[0] / rows,
            "bcc_fraction": 0.33 + 0.02 * t + rng.normal(0, 0.008, n),
            "bcc_fraction_se": rng.uniform(0.004, 0.008, n),
            "lamellar_fraction": lamellar,
            "lamellar_fraction_se": rng.uniform(0.02, 0.04, n),
            "lamella_width_um": width_px * fake.um,
            "lamella_width_um_se": 0.01,
            "lamella_width_px": width_px,
            "lamella_width_px_se": 0.05,
            "valid_fraction": 1.0,
        }
    )
    lost = rng.choice(n, max(1, n // 30), replace=False)
    measures = [c for c in table.columns if c.startswith(("bcc", "lam"))]
    table.loc[lost, measures] = np.nan
    table.loc[lost, "valid_fraction"] = 0.0
    return table


def profile_table(cells: pd.DataFrame) -> pd.DataFrame:
    groups = cells.groupby("col", sort=True)
    out = pd.DataFrame({"x_um": groups["x_um"].first(), "x_px": groups["x_px"].first()})
    for name in ("bcc_fraction", "lamellar_fraction", "lamella_width_um", "lamella_width_px"):
        out[name] = groups[name].mean()
        out[f"{name}_se"] = groups[name].std() / np.sqrt(groups[name].count())
    return out.reset_index(drop=True)


def write_correlation(
    out: Path, profile: pd.DataFrame, rng: np.random.Generator, *, points: bool
) -> None:
    measures = ["bcc_fraction", "lamellar_fraction", "lamella_width_um"]
    table = pd.DataFrame(
        {
            "measure": measures,
            "n": len(profile),
            "pearson_r": [0.42, -0.61, -0.83],
            "p_value": [0.06, 0.004, 1e-7],
            "ci_low": [0.02, -0.82, -0.93],
            "ci_high": [0.7, -0.27, -0.64],
            "n_effective": [20.3, 11.0, 17.8],
        }
    )
    store.write_table(table, out / "tables", "correlation")
    if points:
        scatter = profile[["x_um", *measures]].copy()
        width = scatter["lamella_width_um"].fillna(scatter["lamella_width_um"].mean())
        scatter["hardness"] = 480 - 400 * width + rng.normal(0, 8, len(scatter))
        store.write_table(
            scatter, out / "tables", "correlation_points", columns=("x_um", "hardness")
        )
        models = fit_models(scatter, measures)
        store.write_table(models, out / "tables", "models", columns=("model", "measures"))


def run_json(fake: FakeRun, frames: pd.DataFrame, done: tuple[str, ...]) -> dict[str, Any]:
    used = int(frames["used"].sum())
    return {
        "cemi_dask": "0.1.0",
        "state": "finished",
        "name": "ingot-<7>",
        "started": "2026-03-01T12:00:00+00:00",
        "finished": "2026-03-01T12:14:00+00:00",
        "versions": {"python": "3.11.9", "numpy": "2.4.6", "dask": "2026.8.0"},
        "config": {"denoise": {"method": "fourier"}, "analyse": {"hardness": None}},
        "config_yaml": CONFIG_YAML,
        "blender": {"method": "feather", "width_px": 64.0, "keeps_noise": False},
        "pixel_um": fake.pixel_um,
        "mosaic_shape": list(fake.shape),
        "frames": {"taken": len(frames), "used": used, "rejected": len(frames) - used},
        "stages": {
            name: {"items": 10 * k + 3, "skipped": k, "wall_s": 3.0 + 17.3 * k, "cpu_s": 30.0 * k}
            for k, name in enumerate(done)
        },
        "memory": {"peak_rss_bytes": {"client": 412_000_000, "worker 127.0.0.1:1234": 1.2e9}},
        "warnings": ["row_02.avi: 3 frames <unreadable> after 812; the rest is used."],
        "dashboard": "http://127.0.0.1:8787/status",
    }
