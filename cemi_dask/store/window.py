"""The grey levels to show of a mosaic, from a sample of its pixels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.store.arrays import Array
from cemi_dask.store.strips import read_part

SAMPLE_PX = 256
_MOST = 24  # places


def sampled_window(array: Array) -> tuple[float, float]:
    """(black, white): the grey levels that cut 0.5 % at either side of one level's pixels.

    From squares spread evenly over it, 24 at most, read one by one. Coarser levels would not do:
    they are means, in which fine structure has lost its contrast. (0, 255) where nothing has data.
    """
    values = sample(array)
    if not values.size:
        return 0.0, 255.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if high > low:
        return low, high
    return (low, float(values.max())) if values.max() > low else (low - 1.0, low + 1.0)


def sample(array: Array) -> npt.NDArray[Any]:
    """Pixels with data (n) of squares spread evenly over a level."""
    height, width = array.shape
    rows = max(1, min(-(-height // SAMPLE_PX), round((_MOST * height / width) ** 0.5)))
    cols = max(1, min(-(-width // SAMPLE_PX), _MOST // rows))
    found = []
    for row, col in product(range(rows), range(cols)):
        y = int((row + 0.5) * height / rows - SAMPLE_PX / 2)
        x = int((col + 0.5) * width / cols - SAMPLE_PX / 2)
        part = read_part(array, max(0, y), max(0, x), (SAMPLE_PX, SAMPLE_PX))
        found.append(part[~np.isnan(part) if part.dtype.kind == "f" else part != 0])
    return np.concatenate(found)
