"""`simulate_videos` and `simulate_tiles`: a simulated measurement written to a folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from cemi_dask.compute import Compute, compute_items, named_task
from cemi_dask.errors import ConfigError
from cemi_dask.geometry import ChunkGrid
from cemi_dask.simulate.options import SimulateOptions
from cemi_dask.simulate.recording import Recording
from cemi_dask.simulate.screen import record_pictures
from cemi_dask.simulate.stage import ScanPath, tile_path, video_path
from cemi_dask.simulate.truth import (
    cell_table,
    frame_table,
    hardness_table,
    measure_cell_row,
    mosaic_extent,
    profile_table,
)
from cemi_dask.simulate.video import video_suffix, write_video


@dataclass(frozen=True)
class SimulatedIngot:
    """A simulated measurement on disk.

    `files` are its videos, or its tiles in the order of the table `truth_csv`; `positions_csv`
    the stage positions of tiles (None for videos); `origin_px` the mosaic's pixel (0, 0) in
    specimen px (y, x) and `shape` the mosaic's size, both over all recorded frames.
    """

    folder: Path
    files: tuple[Path, ...]
    positions_csv: Path | None
    origin_px: tuple[float, float]
    shape: tuple[int, int]
    options: SimulateOptions

    @property
    def truth_csv(self) -> Path:
        """Subpixel corner of every recorded frame."""
        return self.folder / "truth.csv"

    @property
    def hardness_csv(self) -> Path:
        """Simulated indentation hardness along x."""
        return self.folder / "hardness.csv"

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables truth, truth_cells, truth_profile, hardness."""
        return pd.read_csv(self.folder / f"{name}.csv")


def simulate_videos(
    out: Path | str, options: SimulateOptions | None = None, *, compute: Compute = compute_items
) -> SimulatedIngot:
    """One video per row (row_000.mkv, ...) and the truth, written to the folder `out`.

    Each row is one item "simulate-row/003", each row of grid cells one "simulate-truth/000".
    A row holds one frame in memory at a time; its bytes depend on the options alone.
    """
    options = options or SimulateOptions()
    recording = options.recording
    if not options.microscope.distortion.even and (
        recording.scan_frames is not None or recording.blurred
    ):
        raise ConfigError(
            "microscope.distortion bends pictures that are taken at once: leave out "
            "recording.scan_frames and recording.blurred, or the distortion."
        )
    return _simulate(Path(out), options, tiles=False, compute=compute)


def simulate_tiles(
    out: Path | str, options: SimulateOptions | None = None, *, compute: Compute = compute_items
) -> SimulatedIngot:
    """Tiles (tiles/tile_r003_c012.tif), stage positions (positions.csv) and the truth in `out`.

    Items as in `simulate_videos`. The positions are the nominal ones, with the columns file
    and x_um, y_um (or x_px, y_px); the stage missed them by the microscope's stage error.
    """
    options = options or SimulateOptions()
    if options.recording != Recording():
        given = options.recording.model_dump(exclude_defaults=True)
        raise ConfigError(
            f"Tiles are taken one by one with the stage at rest: recording={given} is for videos. "
            "Leave it out, or simulate videos."
        )
    return _simulate(Path(out), options, tiles=True, compute=compute)


def _simulate(
    out: Path, options: SimulateOptions, *, tiles: bool, compute: Compute
) -> SimulatedIngot:
    options = options.resolved()
    out.mkdir(parents=True, exist_ok=True)
    if tiles:
        (out / "tiles").mkdir(exist_ok=True)
    walk = tile_path if tiles else video_path
    paths = [walk(options.plan, options.microscope, row) for row in range(options.rows)]
    origin, shape = mosaic_extent(paths, options.frame_shape)
    grid = ChunkGrid(shape, options.cell_px)
    record = record_tiles if tiles else record_row
    items = {
        f"simulate-row/{row:03d}": named_task("simulate-row", record, str(out), options, row)
        for row in range(options.rows)
    }
    for row in range(grid.count[0]):
        items[f"simulate-truth/{row:03d}"] = named_task(
            "simulate-truth", measure_cell_row, options.specimen, origin, grid, row
        )
    results = compute(items)
    names: list[list[str]] = [
        results[f"simulate-row/{row:03d}"]["files"] for row in range(options.rows)
    ]
    positions = _write_positions(out, options, paths, names) if tiles else None
    _write_csv(out / "truth.csv", frame_table(paths, names))
    cells = cell_table([results[f"simulate-truth/{row:03d}"] for row in range(grid.count[0])])
    profile = profile_table(cells)
    _write_csv(out / "truth_cells.csv", cells)
    _write_csv(out / "truth_profile.csv", profile)
    _write_csv(out / "hardness.csv", hardness_table(profile, options))
    _write_json(out / "truth.json", options, origin, shape)
    base = out / "tiles" if tiles else out
    files = dict.fromkeys(name for row_names in names for name in row_names)
    return SimulatedIngot(
        out, tuple(base / name for name in files), positions, origin, shape, options
    )


def record_row(out: str, options: SimulateOptions, row: int) -> dict[str, Any]:
    """Write the video of one row into the folder `out`; returns its name for every frame."""
    path = video_path(options.plan, options.microscope, row)
    name = f"row_{row:03d}{video_suffix(options.codec)}"
    part = Path(out) / f".part_{name}"
    repeats = options.recording.repeats
    recorded = (picture for picture in record_pictures(options, path, row) for _ in range(repeats))
    write_video(part, recorded, codec=options.codec, fps=options.fps)
    os.replace(part, Path(out) / name)
    return {"row": row, "files": [name] * (len(path) * repeats)}


def record_tiles(out: str, options: SimulateOptions, row: int) -> dict[str, Any]:
    """Write the tiles of one row into `out`/tiles; returns their names in recording order."""
    path = tile_path(options.plan, options.microscope, row)
    per_cm = 1e4 / options.specimen.pixel_um
    names = []
    for col, grey in zip(path.col, record_pictures(options, path, row), strict=True):
        name = f"tile_r{row:03d}_c{col:03d}.tif"
        part = Path(out) / "tiles" / f".part_{name}"
        tifffile.imwrite(
            part,
            grey,
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            metadata=None,
            software=False,
        )
        os.replace(part, part.with_name(name))
        names.append(name)
    return {"row": row, "files": names}


def _write_positions(
    out: Path, options: SimulateOptions, paths: list[ScanPath], names: list[list[str]]
) -> Path:
    unit = options.position_unit
    scale = options.specimen.pixel_um if unit == "um" else 1.0
    table = pd.DataFrame(
        {
            "file": [name for row in names for name in row],
            f"x_{unit}": scale * np.concatenate([p.nominal_x_px for p in paths]),
            f"y_{unit}": scale * np.concatenate([p.nominal_y_px for p in paths]),
        }
    )
    _write_csv(out / "positions.csv", table)
    return out / "positions.csv"


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    part = path.with_name(f".part_{path.name}")
    table.to_csv(part, index=False, float_format="%.9g", lineterminator="\n")
    os.replace(part, path)


def _write_json(
    path: Path, options: SimulateOptions, origin: tuple[float, float], shape: tuple[int, int]
) -> None:
    content = {
        "origin_px": {"x": origin[1], "y": origin[0]},
        "mosaic_shape_px": {"height": shape[0], "width": shape[1]},
        "pixel_um": options.specimen.pixel_um,
        "options": options.model_dump(mode="json"),
    }
    part = path.with_name(f".part_{path.name}")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)
