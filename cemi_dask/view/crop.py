"""A region of a mosaic at a level as a TIFF file that knows its pixel size."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask import store
from cemi_dask.geometry import Box
from cemi_dask.scalebar import with_scale_bar
from cemi_dask.view.tiles import Array, TileReader, Window

MOST_CROP_PX = 1 << 25
_ROWS = 256  # made grey at once: numbers on the way are larger


@dataclass(frozen=True)
class Crop:
    """A region (px of level 0) at a level. With a `window`: as shown, 8 bits, with scale bar."""

    box: Box
    level: int
    window: Window | None

    @property
    def region(self) -> tuple[slice, slice]:
        """The region in px of its level; at least one."""
        step = 2**self.level
        y0, x0 = self.box.y0 // step, self.box.x0 // step
        return (
            slice(y0, max(y0 + 1, -(-self.box.y1 // step))),
            slice(x0, max(x0 + 1, -(-self.box.x1 // step))),
        )

    @property
    def pixels(self) -> int:
        """Number of pixels of the crop."""
        y, x = self.region
        return int((y.stop - y.start) * (x.stop - x.start))


def tiff_crop(tiles: TileReader, crop: Crop) -> bytes:
    """The crop as a TIFF file: pixels as stored, or as shown with a scale bar drawn in."""
    import tifffile

    values = tiles.read(crop.level, crop.region)
    pixel_um = tiles.mosaic.pixel_um
    step_um = None if pixel_um is None else pixel_um * 2**crop.level
    window = crop.window
    if window is not None:
        values = with_scale_bar(_shown(values, window), step_um)
    buffer = io.BytesIO()
    per_cm = 1e4 / step_um if step_um else 1.0
    tifffile.imwrite(
        buffer,
        values,
        photometric="minisblack",
        compression="zlib",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER" if step_um else "NONE",
        metadata={"axes": "YX", **({"PhysicalSizeX": step_um} if step_um else {})},
    )
    return buffer.getvalue()


def _shown(values: Array, window: Window) -> npt.NDArray[np.uint8]:
    """Pixels as 8-bit grey between the levels of `window`."""
    grey = np.empty(values.shape, np.uint8)
    for y in range(0, len(values), _ROWS):
        grey[y : y + _ROWS] = store.as_grey(values[y : y + _ROWS], (window.low, window.high))
    return grey
