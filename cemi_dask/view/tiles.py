"""Tiles of a mosaic and its labels as PNG, read straight from the chunks they lie in."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask import store
from cemi_dask.errors import StoreError
from cemi_dask.geometry import Box
from cemi_dask.view.source import ViewSource

TILE_PX = 512
CACHE_BYTES = 12 << 20  # of encoded tiles
MOST_SEEN_PX = 1 << 21  # read to know the grey levels of a region
MOST_COARSEST_PX = 1 << 26  # a coarsest level of more has to be shrunk first
LABEL_RGB = {"bcc": (230, 159, 0), "lamellar": (86, 180, 233)}  # as in the report
OTHER_RGB = ((0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178))

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Grey levels shown as black and as white."""

    low: float
    high: float


class TileCache:
    """The tiles asked for last, up to a number of bytes; safe to use from several threads."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most, self._size = most_bytes, 0
        self._tiles: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The tile under `key`, made now if it is not there."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        made = make()
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = made
                self._size += len(made)
            while self._size > self._most:
                self._size -= len(self._tiles.popitem(last=False)[1])
        return made


class TileReader:
    """Reads tiles of one mosaic: level 0 is full size, each further one half of it.

    Tiles are TILE_PX squares, smaller at the right and lower border. Pixels without data are
    transparent. Levels that are not half of the one before are not used.
    """

    def __init__(self, source: ViewSource) -> None:
        self.mosaic = source.mosaic
        self._levels = {"": halving(store.level_arrays(source.mosaic))}
        for name in source.labels:
            self._levels[name] = halving(store.level_arrays(source.mosaic, label=name))
        coarsest = self._levels[""][-1].shape
        if coarsest[0] * coarsest[1] > MOST_COARSEST_PX:
            raise StoreError(
                f"The coarsest level of {source.mosaic.path} has {coarsest[0]} x {coarsest[1]} px, "
                "too many to show at once. Write its pyramid first (store.write_pyramid)."
            )
        self._cache = TileCache()
        others = [name for name in source.labels if name not in LABEL_RGB]
        self.colours = LABEL_RGB | {
            name: OTHER_RGB[k % len(OTHER_RGB)] for k, name in enumerate(others)
        }

    def level_count(self, label: str = "") -> int:
        """Number of levels that can be asked for; 0 for a label that there is not."""
        return len(self._levels.get(label, ()))

    def grid(self, level: int, label: str = "") -> tuple[int, int]:
        """(rows, columns) of tiles at a level."""
        height, width = self._levels[label][level].shape
        return -(-height // TILE_PX), -(-width // TILE_PX)

    def read(self, level: int, region: tuple[slice, slice], label: str = "") -> Array:
        """Pixels (y, x) of a region; only the chunks it touches are read.

        Raises StoreError where the files are damaged.
        """
        y, x = region
        size = y.stop - y.start, x.stop - x.start
        return store.read_part(self._levels[label][level], y.start, x.start, size)

    def picture(self, level: int, row: int, col: int, window: Window) -> bytes:
        """A tile of the mosaic as PNG, grey between the levels of `window`."""
        key = ("", level, row, col, window)
        return self._cache.get(key, lambda: self._picture(level, row, col, window))

    def _picture(self, level: int, row: int, col: int, window: Window) -> bytes:
        return grey_png(self.read(level, _region(row, col)), window)

    def label(self, name: str, level: int, row: int, col: int) -> bytes:
        """A tile of a label as PNG: in its colour where it is not 0, else transparent."""
        key = (name, level, row, col)
        return self._cache.get(key, lambda: self._label(name, level, row, col))

    def _label(self, name: str, level: int, row: int, col: int) -> bytes:
        inside = self.read(level, _region(row, col), name) != 0
        return palette_png(inside.astype(np.uint8), bytes((0, 0, 0, *self.colours[name])))

    def histogram(self, bins: int = 128) -> tuple[float, float, list[int]]:
        """Lowest and highest grey level, and counts between them, of a sample of level 0."""
        finest = self._levels[""][0]
        known = store.sample(finest).astype(np.float64)
        if known.size == 0:
            return 0.0, 1.0, [0] * bins
        low, high = float(known.min()), float(known.max())
        if finest.dtype == np.uint8:
            low, high = 0.0, 255.0
        elif high <= low:
            high = low + 1.0
        counts, _ = np.histogram(known, bins=bins, range=(low, high))
        return low, high, [int(n) for n in counts]

    def window(self) -> Window:
        """The grey levels to show unless told otherwise, from a sample of level 0."""
        return Window(*store.sampled_window(self._levels[""][0]))

    def window_of(self, box: Box) -> Window:
        """The grey levels that cut 0.5 % at either side of a region (px of level 0)."""
        level, last = 0, self.level_count() - 1
        while level < last and box.area_px > MOST_SEEN_PX * 4**level:
            level += 1
        step = 2**level
        y, x = slice(box.y0 // step, -(-box.y1 // step)), slice(box.x0 // step, -(-box.x1 // step))
        values = self.read(level, (y, x))
        known = values[known_pixels(values)]
        if not known.size or known.min() == known.max():
            return self.window()
        low, high = (float(v) for v in np.percentile(known, (0.5, 99.5)))
        return Window(low, high) if high > low else Window(float(known.min()), float(known.max()))


def halving(levels: tuple[Any, ...]) -> list[Any]:
    """The first levels that are each half the size, rounded up, of the one before."""
    kept = list(levels[:1])
    for level in levels[1:]:
        if tuple(level.shape) != tuple(-(-n // 2) for n in kept[-1].shape):
            break
        kept.append(level)
    return kept


def known_pixels(values: Array) -> npt.NDArray[np.bool_]:
    """True where a mosaic has data: not 0, or not NaN in float mosaics."""
    return ~np.isnan(values) if values.dtype.kind == "f" else values != 0


def _region(row: int, col: int) -> tuple[slice, slice]:
    y, x = row * TILE_PX, col * TILE_PX
    return slice(y, y + TILE_PX), slice(x, x + TILE_PX)


def grey_png(values: Array, window: Window) -> bytes:
    """Pixels (y, x) as PNG, grey between the levels of `window`, transparent without data."""
    spread = max(window.high - window.low, 1e-12)
    if values.dtype == np.uint8:
        # The stored values go into the file as they are; contrast is a matter of its palette.
        shown, levels = values, (np.arange(256) - window.low) * (255 / spread)
    else:
        filled = np.nan_to_num(values.astype(np.float32))
        scaled = np.clip(np.rint((filled - window.low) * (254 / spread)), 0, 254) + 1
        shown = np.where(known_pixels(values), scaled, 0).astype(np.uint8)
        levels = (np.arange(256) - 1) * (255 / 254)
    grey = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return palette_png(shown, np.repeat(grey, 3).tobytes())


def palette_png(indices: npt.NDArray[np.uint8], palette: bytes) -> bytes:
    """Indices (y, x) into `palette` (RGB, RGB, ...) as PNG; index 0 is transparent."""
    from PIL import Image

    height, width = indices.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, compress_level=1)
    return buffer.getvalue()
