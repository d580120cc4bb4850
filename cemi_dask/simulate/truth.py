"""Truth of a simulated measurement as tables: positions, grid cells, profile, hardness."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from cemi_dask.errors import InputError
from cemi_dask.geometry import ChunkGrid
from cemi_dask.simulate.lattice import Float64
from cemi_dask.simulate.options import SimulateOptions
from cemi_dask.simulate.specimen import Scene
from cemi_dask.simulate.stage import ScanPath

TRUTH_COLUMNS = (
    "file",
    "source_index",
    "row",
    "x_px",
    "y_px",
    "blank",
    "gain",
    "refresh_px",
    "scan",
    "shear",
    "steady",
)
CELL_COLUMNS = (
    "row",
    "col",
    "x_um",
    "y_um",
    "width_um",
    "height_um",
    "bcc_fraction",
    "lamellar_fraction",
    "lamella_width_um",
    "period_um",
    "bcc_width_um",
    "valid_fraction",
)
MEASURES = ("bcc_fraction", "lamellar_fraction", "lamella_width_um", "period_um", "bcc_width_um")


def frame_table(paths: list[ScanPath], files: list[list[str]]) -> pd.DataFrame:
    """Truth of every recorded frame: file, place in it, row, subpixel corner in specimen px.

    `files` names, row by row, the file of each frame; a frame's `source_index` counts the
    frames of its file; where a path has fewer pictures than files, each was recorded several
    times. The last four columns are those of `ScanPath`: where a frame shows two scans
    (refresh_px > 0), its corner, shear and gain are those of the lower one.
    """
    rows: list[dict[str, Any]] = []
    for row, (path, names) in enumerate(zip(paths, files, strict=True)):
        seen: dict[str, int] = {}
        repeats = len(names) // len(path)
        for n, name in enumerate(names):
            k = n // repeats
            index = seen.setdefault(name, 0)
            seen[name] += 1
            rows.append(
                {
                    "file": name,
                    "source_index": index,
                    "row": row,
                    "x_px": float(path.x_px[k]),
                    "y_px": float(path.y_px[k]),
                    "blank": bool(path.blank[k]),
                    "gain": float(path.gain[k]),
                    "refresh_px": int(path.refresh_px[k]),
                    "scan": int(path.scan[k]),
                    "shear": float(path.shear[k]),
                    "steady": bool(path.steady[k]),
                }
            )
    return pd.DataFrame(rows, columns=list(TRUTH_COLUMNS))


def mosaic_extent(
    paths: list[ScanPath], frame_shape: tuple[int, int]
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Origin (y, x) in specimen px and shape (h, w) of the mosaic of all recorded frames.

    The origin is the smallest y and the smallest x of all corners.
    """
    y = np.concatenate([p.y_px for p in paths])
    x = np.concatenate([p.x_px for p in paths])
    shape = (
        int(np.ceil(np.ptp(y))) + frame_shape[0],
        int(np.ceil(np.ptp(x))) + frame_shape[1],
    )
    return (float(y.min()), float(x.min())), shape


def measure_cell_row(
    scene: Scene, origin: tuple[float, float], grid: ChunkGrid, row: int
) -> list[list[float | None]]:
    """Truth of one row of grid cells: a list per cell in the order of `CELL_COLUMNS`.

    Averages run over valid pixels: bcc_fraction and lamellar_fraction over all of them,
    period_um, lamella_width_um (half the period) and bcc_width_um (period times local dark
    fraction: the mean thickness of the dark lamellae) over the lamellar ones. None (NaN in
    the table) where there are none. Places are the cells' centres in the mosaic.
    """
    cells: list[list[float | None]] = []
    for col in range(grid.count[1]):
        box = grid.box(row, col)
        height, width = box.shape
        truth = scene.truth_at(origin[0] + box.y0, origin[1] + box.x0, (height, width))
        valid, lamellar = truth["valid"], truth["lamellar"]
        um = scene.pixel_um
        period = _mean(truth["period_px"], lamellar)
        thick = _mean(truth["bcc"] * truth["period_px"], lamellar)
        cells.append(
            [
                row,
                col,
                um * (box.x0 + (width - 1) / 2),
                um * (box.y0 + (height - 1) / 2),
                um * width,
                um * height,
                _mean(truth["bcc"], valid),
                _mean(lamellar, valid),
                None if period is None else um * period / 2,
                None if period is None else um * period,
                None if thick is None else um * thick,
                float(valid.mean()),
            ]
        )
    return cells


def _mean(values: Any, where: Any) -> float | None:
    return float(values[where].mean(dtype=np.float64)) if where.any() else None


def cell_table(rows: list[list[list[float | None]]]) -> pd.DataFrame:
    """The cells of all rows as one table with `CELL_COLUMNS`."""
    table = pd.DataFrame([cell for row in rows for cell in row], columns=list(CELL_COLUMNS))
    return table.astype({name: float for name in CELL_COLUMNS[2:]})


def profile_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Each measure averaged along y, per column of cells.

    Weights are the valid areas, and for the three lengths the lamellar areas.
    """
    area = cells["width_um"] * cells["height_um"] * cells["valid_fraction"]
    rows = []
    for _, part in cells.groupby("col", sort=True):
        entry: dict[str, float] = {"x_um": float(part["x_um"].mean())}
        for name in MEASURES:
            weight = area.loc[part.index].to_numpy()
            if name.endswith("_um"):
                weight = weight * part["lamellar_fraction"].fillna(0.0).to_numpy()
            value = part[name].to_numpy()
            known = np.isfinite(value) & (weight > 0)
            entry[name] = (
                float(np.average(value[known], weights=weight[known])) if known.any() else np.nan
            )
        rows.append(entry)
    return pd.DataFrame(rows, columns=["x_um", *MEASURES])


def hardness_table(profile: pd.DataFrame, options: SimulateOptions) -> pd.DataFrame:
    """Indentation hardness at the profile's places: linear in the dark fraction, plus noise.

    hardness = base + per_bcc * (bcc_fraction - 0.34) + noise, five indentations averaged.
    """
    rng = np.random.default_rng([options.seed, 3])
    known = profile[np.isfinite(profile["bcc_fraction"])]
    fraction = known["bcc_fraction"].to_numpy()
    mean: Float64 = options.hardness_base + options.hardness_per_bcc * (fraction - 0.34)
    tests = mean[:, None] + options.hardness_noise * rng.standard_normal((len(mean), 5))
    return pd.DataFrame(
        {
            "x_um": known["x_um"].to_numpy(),
            "hardness": tests.mean(axis=1),
            "error": tests.std(axis=1, ddof=1) / np.sqrt(5),
        }
    )


def compare_positions(positions: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """How far measured positions are from the truth, after removing one common translation.

    Both tables have file, source_index, x_px, y_px and are matched on the file's base name
    and the source index; rows of `positions` with NaN places are left out. Returns rms_px and
    max_px of the 2-D distances and n, the number of frames compared. Raises InputError where
    no frame matches.
    """
    left = positions.assign(file=[PurePath(str(f)).name for f in positions["file"]])
    right = truth.assign(file=[PurePath(str(f)).name for f in truth["file"]])
    keys = ["file", "source_index"]
    both = left[[*keys, "x_px", "y_px"]].merge(
        right[[*keys, "x_px", "y_px"]], on=keys, suffixes=("", "_true")
    )
    both = both[np.isfinite(both["x_px"]) & np.isfinite(both["y_px"])]
    if both.empty:
        raise InputError(
            f"None of {len(left)} positions matches one of {len(right)} frames of the truth by "
            f"file name and source_index: files {sorted(set(left['file']))[:3]} against "
            f"{sorted(set(right['file']))[:3]}. Compare the tables of one and the same measurement."
        )
    dx = (both["x_px"] - both["x_px_true"]).to_numpy()
    dy = (both["y_px"] - both["y_px_true"]).to_numpy()
    away = np.hypot(dx - dx.mean(), dy - dy.mean())
    return {
        "rms_px": float(np.sqrt(np.mean(away**2))),
        "max_px": float(away.max()),
        "n": len(both),
    }
