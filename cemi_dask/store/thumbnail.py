"""A small picture of the whole mosaic, from its pyramid."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.store.mosaic import Mosaic

_MOST_PIXELS = 1 << 26


def thumbnail(mosaic: Mosaic, max_px: int) -> npt.NDArray[Any]:
    """The mosaic scaled to at most `max_px` on its long side, (h, w) of the mosaic's type.

    Area means over valid pixels of the coarsest level that is large enough; 0 (NaN in float
    mosaics) where less than half of a pixel is valid. A mosaic that is smaller comes as it is.
    Raises StoreError where the pyramid is missing and level 0 is too large to load.
    """
    if max_px < 1:
        raise ConfigError(f"A thumbnail needs at least 1 px, not {max_px}.")
    level = 0
    while level + 1 < len(mosaic.levels) and max(mosaic.levels[level + 1].shape) >= max_px:
        level += 1
    height, width = (int(n) for n in mosaic.levels[level].shape)
    if height * width > _MOST_PIXELS:
        raise StoreError(
            f"The coarsest level of {mosaic.path} with {max_px} px has {height} x {width} px, too "
            "many to load. Write its pyramid first."
        )
    # On this thread: it is a small read, not worth a task on a cluster.
    image: npt.NDArray[Any] = mosaic.levels[level].compute(scheduler="sync")
    factor = max_px / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return _shrink(image, size)


def _shrink(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Area means over the valid pixels, size (width, height)."""
    floating = image.dtype.kind == "f"
    valid = (~np.isnan(image) if floating else image != 0).astype(np.float32)
    filled = np.where(valid > 0, image, 0).astype(np.float32)
    weight = cv2.resize(valid, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(filled, size, interpolation=cv2.INTER_AREA)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weight >= 0.5, total / weight, np.nan)
    if floating:
        return np.asarray(mean, dtype=image.dtype)
    return np.asarray(np.where(np.isnan(mean), 0, np.rint(mean)), dtype=image.dtype)
