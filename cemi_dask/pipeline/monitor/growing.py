"""A small picture of a mosaic while its shards are being written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import StoreError
from cemi_dask.store.arrays import open_array, read_region

WIDTH_PX, HEIGHT_PX = 600, 150  # at most
_SAMPLES = 6  # along each side of what becomes one pixel
_AT_ONCE = 4  # shards that are read for one picture: seconds are too long to wait


class GrowingPicture:
    """Level 0 of the mosaic at `path`, each shard read once, when its file has come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[tuple[int, int], int] = {}  # shard (row, col) -> time of its file, ns
        self.canvas: npt.NDArray[np.float32] | None = None

    def png(self) -> bytes | None:
        """The picture as PNG if shards have come since the last one, else None."""
        level = self.path / "0"
        try:
            array = open_array(level, "read")
            come = self._come(level)
            if array.shards is None or not come:
                return None
            return self._drawn(array.shape, array.shards, str(level), come)
        except (StoreError, OSError, ValueError):
            return None  # not there yet, or being replaced

    def _come(self, level: Path) -> list[tuple[tuple[int, int], int]]:
        """Shards whose files are new, with the files' times."""
        files = [(f, f.stat().st_mtime_ns) for f in level.glob("c/*/*") if f.name.isdigit()]
        places = [((int(f.parent.name), int(f.name)), time) for f, time in files]
        return [(place, time) for place, time in sorted(places) if self.seen.get(place) != time]

    def _drawn(
        self,
        shape: tuple[int, ...],
        shards: tuple[int, ...],
        level: str,
        come: list[tuple[tuple[int, int], int]],
    ) -> bytes:
        height, width = shape
        factor = max(1.0, width / WIDTH_PX, height / HEIGHT_PX)
        size = max(1, int(height / factor)), max(1, int(width / factor))
        if self.canvas is None or self.canvas.shape != size:
            self.canvas, self.seen = np.full(size, np.nan, np.float32), {}
        for (row, col), time in come[:_AT_ONCE]:
            y, x = row * shards[0], col * shards[1]
            end = min(height, y + shards[0]), min(width, x + shards[1])
            pixels = read_region(level, (slice(y, end[0]), slice(x, end[1])))
            top, left, bottom, right = (int(v / factor) for v in (y, x, *end))
            bottom, right = min(size[0], max(bottom, top + 1)), min(size[1], max(right, left + 1))
            few = max(1, int(factor / _SAMPLES))
            small = _small(pixels[::few, ::few], (right - left, bottom - top))
            self.canvas[top:bottom, left:right] = small
            self.seen[row, col] = time
        return _png(self.canvas)


def _small(pixels: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Area means, size (width, height), NaN where half of the pixels hold no data (0, NaN)."""
    values = np.nan_to_num(pixels.astype(np.float32, copy=False))
    valid = cv2.resize((values != 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    known = valid >= 0.5
    return np.where(known, mean / np.maximum(valid, 1e-6), np.nan).astype(np.float32)


def _png(canvas: npt.NDArray[np.float32]) -> bytes:
    """The canvas from its 1st to 99th percentile of grey; see-through where nothing is known."""
    known = np.isfinite(canvas)
    low, high = np.percentile(canvas[known], (1, 99)) if known.any() else (0.0, 1.0)
    grey = np.nan_to_num((canvas - low) / max(float(high - low), 1e-6)) * 255
    level = np.clip(grey, 0, 255).astype(np.uint8)
    alpha = np.where(known, 255, 0).astype(np.uint8)
    done, data = cv2.imencode(".png", np.dstack([level, level, level, alpha]))
    assert done  # noqa: S101 (PNG of 8 bit cannot fail)
    return bytes(data)
