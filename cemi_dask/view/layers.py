"""What lies on the mosaic: cells and their measures, profiles, frames, pairs, indents.

All places are in px of level 0 from the outer edge of its first pixel, all values plain JSON:
a number that is not known is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask.geometry import Box
from cemi_dask.measures import Measure, measures_of
from cemi_dask.view.source import ViewSource

MOST_FRAMES = 5000  # drawn at once
MOST_PAIRS = 20_000
MOST_FRAMES_HERE = 12  # listed for one place
FRAME_FACTS = ("file", "source_index", "row", "time_s", "sigma_x_px", "sigma_y_px", "component")

Floats: TypeAlias = npt.NDArray[np.float64]
Json: TypeAlias = dict[str, Any]


class Layers:
    """The tables of a run by place; every answer is bounded, however large the run is."""

    def __init__(self, source: ViewSource) -> None:
        self._pixel_um = source.mosaic.pixel_um
        self._shape = source.mosaic.shape
        self._cells = source.tables.get("cells", pd.DataFrame())
        self._profile = source.tables.get("profile", pd.DataFrame())
        self._indents = source.tables.get("correlation_points", pd.DataFrame())
        self.measures = measures_of(self._cells) if len(self._cells) else []
        self._frames = _placed(source.tables)
        self._corners = _columns(self._frames, ("x_px", "y_px"))
        self._size = self._frame_size()
        self._pairs = self._known_pairs(source.tables.get("pairs", pd.DataFrame()))
        self._step_high = self._largest_step()

    def counts(self) -> Json:
        """How much there is of each layer; 0 for what the run has not made."""
        status = self._pairs["status"] if len(self._pairs) else pd.Series(dtype=object)
        return {
            "cells": len(self._cells),
            "frames": len(self._frames),
            "doubtful_pairs": int((status != "ok").sum()),
            "seams": int(self._pairs["grey_step"].notna().sum()) if len(self._pairs) else 0,
            "indents": len(self._indents) if self._pixel_um else 0,
            "profile": len(self._profile),
        }

    def measure(self, column: str) -> Measure | None:
        """The measure of that column, None where the run has none."""
        return next((m for m in self.measures if m.column == column), None)

    def heat_map(self, measure: Measure) -> Json:
        """Values on the grid, row by row, the borders of its cells, limits of colours."""
        cells = self._cells
        rows, cols = np.asarray(cells["row"], int), np.asarray(cells["col"], int)
        grid = np.full((rows.max() + 1, cols.max() + 1), np.nan)
        grid[rows, cols] = measure.values(cells)
        known = grid[np.isfinite(grid)]
        low, high = (float(v) for v in np.percentile(known, [1, 99]))
        if high <= low:
            low, high = low - (abs(low) * 0.01 or 1.0), high + (abs(high) * 0.01 or 1.0)
        return {
            "column": measure.column,
            "title": measure.title,
            "unit": measure.unit,
            "x_edges": self._edges("col", "x", "width"),
            "y_edges": self._edges("row", "y", "height"),
            "values": [plain(line) for line in grid],
            "low": low,
            "high": high,
        }

    def profile(self) -> Json:
        """Each measure averaged along y, with its standard error, at places along x."""
        profile = self._profile
        if profile.empty:
            return {"x": [], "measures": []}
        known = [m for m in self.measures if m.column in profile.columns]
        return {
            "x": plain(self._px(profile, "x")),
            "measures": [
                {
                    "column": m.column,
                    "title": m.title,
                    "unit": m.unit,
                    "values": plain(m.values(profile)),
                    "errors": plain(m.errors(profile)),
                }
                for m in known
            ],
        }

    def indents(self) -> Json:
        """Where hardness was measured, and its values."""
        points = self._indents
        if points.empty or not self._pixel_um:
            return {"x": [], "values": [], "errors": []}
        unknown = pd.Series(np.nan, index=points.index)
        return {
            "x": plain(self._px(points[["x_um"]], "x")),
            "values": plain(np.asarray(points["hardness"], np.float64)),
            "errors": plain(np.asarray(points.get("hardness_error", unknown), np.float64)),
        }

    def frames(self, box: Box) -> Json:
        """Outlines of the frames that touch `box`; none, only their number, if too many."""
        here = np.flatnonzero(self._touching(self._corners, box))
        if len(here) > MOST_FRAMES:
            return {"total": len(here), "size": list(self._size), "frames": []}
        table = self._frames.iloc[here]
        sigma = np.hypot(*_columns(table, ("sigma_x_px", "sigma_y_px")).T)
        rows = zip(table["frame"].tolist(), self._corners[here].tolist(), plain(sigma), strict=True)
        return {
            "total": len(here),
            "size": list(self._size),
            "frames": [[int(n), x, y, s] for n, (x, y), s in rows],
        }

    def pairs(self, box: Box) -> Json:
        """Pairs that touch `box`: frames, both corners, status, grey step; doubtful ones first."""
        pairs = self._pairs
        if pairs.empty:
            return {"total": 0, "size": list(self._size), "step_high": 1.0, "pairs": []}
        first, second = _columns(pairs, ("xi", "yi")), _columns(pairs, ("xj", "yj"))
        here = np.flatnonzero(self._touching(first, box) | self._touching(second, box))
        kept = here[:MOST_PAIRS]
        table = pairs.iloc[kept]
        return {
            "total": len(here),
            "size": list(self._size),
            "step_high": self._step_high,
            "pairs": [
                [int(i), int(j), *ends, str(status), str(reason), step]
                for i, j, ends, status, reason, step in zip(
                    table["i"],
                    table["j"],
                    _columns(table, ("xi", "yi", "xj", "yj")).tolist(),
                    table["status"],
                    table["reason"],
                    plain(np.asarray(table["grey_step"], np.float64)),
                    strict=True,
                )
            ],
        }

    def at(self, x: float, y: float) -> Json:
        """The cell and the frames at a place (px): all that their tables say."""
        found: Json = {"cell": None, "frames": [], "frame_count": 0}
        if len(self._cells):
            left, top = self._px(self._cells, "x"), self._px(self._cells, "y")
            half_x = self._px(self._cells, "width") / 2
            half_y = self._px(self._cells, "height") / 2
            inside = (np.abs(left - x) <= half_x) & (np.abs(top - y) <= half_y)
            if inside.any():
                found["cell"] = self._cell(int(np.flatnonzero(inside)[0]))
        row, col = floor(y), floor(x)
        point = Box(row, col, row + 1, col + 1)
        here = np.flatnonzero(self._touching(self._corners, point))
        found["frame_count"] = len(here)
        found["frames"] = [self._frame(int(n)) for n in here[:MOST_FRAMES_HERE]]
        return found

    def _cell(self, index: int) -> Json:
        row = self._cells.iloc[[index]]
        return {
            "row": int(row["row"].iloc[0]),
            "col": int(row["col"].iloc[0]),
            "box": [
                float(self._px(row, "x")[0] - self._px(row, "width")[0] / 2),
                float(self._px(row, "y")[0] - self._px(row, "height")[0] / 2),
                float(self._px(row, "width")[0]),
                float(self._px(row, "height")[0]),
            ],
            "measures": [
                {
                    "column": m.column,
                    "title": m.title,
                    "unit": m.unit,
                    "value": plain(m.values(row))[0],
                    "error": plain(m.errors(row))[0],
                    "stored": plain(np.asarray(row[m.column], np.float64))[0],
                }
                for m in self.measures
            ],
            "valid_fraction": plain(np.asarray(row["valid_fraction"], np.float64))[0],
        }

    def _frame(self, index: int) -> Json:
        row = self._frames.iloc[[index]].to_dict("records")[0]
        x, y = self._corners[index]
        facts = {name: _plain_value(row[name]) for name in FRAME_FACTS if name in row}
        size = [float(n) for n in self._size]
        return {"frame": int(row["frame"]), "box": [float(x), float(y), *size], **facts}

    def _edges(self, index: str, axis: str, size: str) -> list[float]:
        first = self._cells.drop_duplicates(index).sort_values(index)
        middle, wide = self._px(first, axis), self._px(first, size)
        low = middle - wide / 2
        return [float(v) for v in np.append(low, low[-1] + wide[-1])]

    def _px(self, table: pd.DataFrame, name: str) -> Floats:
        """Places or sizes `name` of a table in px; tables of older runs state micrometres alone.

        In tables (0, 0) is the middle of the first pixel; here it is that pixel's outer corner.
        """
        corner = 0.5 if name in {"x", "y"} else 0.0
        if f"{name}_px" in table.columns:
            return np.asarray(table[f"{name}_px"], np.float64) + corner
        return np.asarray(table[f"{name}_um"], np.float64) / (self._pixel_um or np.nan) + corner

    def _frame_size(self) -> tuple[float, float]:
        """(width, height) of a frame: the mosaic ends where its outermost frames do."""
        if not len(self._corners):
            return 0.0, 0.0
        height, width = self._shape
        right, low = np.ceil(self._corners.max(axis=0))
        return max(1.0, width - float(right)), max(1.0, height - float(low))

    def _touching(self, corners: Floats, box: Box) -> npt.NDArray[np.bool_]:
        wide, high = self._size
        x, y = corners[:, 0], corners[:, 1]
        return (x < box.x1) & (x + wide > box.x0) & (y < box.y1) & (y + high > box.y0)

    def _known_pairs(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Pairs whose frames both have a place, with their corners, the doubtful ones first."""
        if pairs.empty or self._frames.empty:
            return pd.DataFrame()
        place = self._frames.set_index("frame")[["x_px", "y_px"]]
        known = pairs[pairs["i"].isin(place.index) & pairs["j"].isin(place.index)].copy()
        for end in "ij":
            known[[f"x{end}", f"y{end}"]] = place.loc[known[end]].to_numpy(np.float64)
        for name, missing in (("grey_step", np.nan), ("reason", "")):
            if name not in known.columns:
                known[name] = missing
        known["reason"] = known["reason"].fillna("")
        return known.sort_values("status", key=lambda s: s == "ok", kind="stable")

    def _largest_step(self) -> float:
        if self._pairs.empty:
            return 1.0
        steps = np.abs(np.asarray(self._pairs["grey_step"], np.float64))
        known = steps[np.isfinite(steps)]
        return float(np.percentile(known, 99)) or 1.0 if known.size else 1.0


def _placed(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames that are in the mosaic, with their places and when they were taken."""
    positions, frames = tables.get("positions"), tables.get("frames")
    if positions is None or positions.empty:
        return pd.DataFrame()
    placed = positions.dropna(subset=["x_px", "y_px"])
    if frames is not None:
        used = frames.loc[frames["used"].astype(bool), ["frame", "time_s"]]
        placed = placed.merge(used, on="frame", how="inner", suffixes=("", "_taken"))
    return placed.reset_index(drop=True)


def _columns(table: pd.DataFrame, names: Iterable[str]) -> Floats:
    wanted = list(names)
    if table.empty:
        return np.empty((0, len(wanted)))
    return np.asarray(table[wanted].to_numpy(), np.float64)


def plain(values: Floats) -> list[float | None]:
    """Numbers for JSON, None where there is none."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() else number
