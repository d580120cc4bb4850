"""One level of a mosaic as a PNG of any size, written row by row."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError
from cemi_dask.store.arrays import Array
from cemi_dask.store.strips import TILE_PX, as_grey, read_part

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2  # filter: the difference from the row above
_MOST_PX = 2**31 - 1
_STRIP_BYTES = 32 << 20
_PART_PX = 8192


def write_png(array: Array, target: Path, *, window: tuple[float, float]) -> None:
    """The level as 8-bit grey PNG; black where it has no data.

    Written by hand, because the picture libraries hold a whole picture in memory. ISO 15948:
    chunks of length, name, data and CRC; one zlib stream of rows, each after its filter's number.
    """
    height, width = array.shape
    if max(height, width) > _MOST_PX:
        raise ConfigError(f"A PNG has at most {_MOST_PX} px a side, not {max(height, width)}.")
    squeeze = zlib.compressobj(level=4)
    above = np.zeros(width, np.uint8)
    with target.open("wb") as file:
        file.write(_SIGNATURE)
        # 8 bits, grey, deflate, adaptive filters, not interlaced
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        tall = TILE_PX  # or a half, a quarter of it, so that few chunks are read twice
        while tall > 1 and tall * width > _STRIP_BYTES:
            tall //= 2
        for y in range(0, height, tall):
            rows = _strip(array, y, tall, window)
            filtered = np.empty((len(rows), width + 1), np.uint8)
            filtered[:, 0] = _UP
            filtered[1:, 1:] = rows[1:] - rows[:-1]  # modulo 256
            filtered[0, 1:] = rows[0] - above
            above = rows[-1].copy()
            _chunk(file, b"IDAT", squeeze.compress(filtered.data))
        _chunk(file, b"IDAT", squeeze.flush())
        _chunk(file, b"IEND", b"")


def _strip(array: Array, y: int, tall: int, window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """`tall` rows from `y` on as shown, made a part at a time: numbers on the way are larger."""
    height, width = array.shape
    rows = np.empty((min(tall, height - y), width), np.uint8)
    for x in range(0, width, _PART_PX):
        part = read_part(array, y, x, (tall, _PART_PX))
        rows[:, x : x + _PART_PX] = as_grey(part, window)
    return rows


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data)
    file.write(struct.pack(">I", zlib.crc32(name + data)))
