"""A region of a mosaic at a level as a TIFF file that knows its pixel size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import floor, log10

import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.view.tiles import Array, TileReader, Window, known_pixels

MOST_CROP_PX = 1 << 26


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
    if crop.window is not None:
        values = with_scale_bar(as_shown(values, crop.window), step_um)
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


def as_shown(values: Array, window: Window) -> npt.NDArray[np.uint8]:
    """Pixels as 8-bit grey between the levels of `window`; black where there are no data."""
    spread = max(window.high - window.low, 1e-12)
    scaled = (np.nan_to_num(values.astype(np.float32)) - window.low) * (255 / spread)
    grey = np.clip(np.rint(scaled), 0, 255)
    return np.asarray(np.where(known_pixels(values), grey, 0), np.uint8)


def with_scale_bar(grey: npt.NDArray[np.uint8], pixel_um: float | None) -> npt.NDArray[np.uint8]:
    """The picture with a bar of round length at its lower right, about a fifth of its width."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = grey.shape
    image = Image.fromarray(grey)
    draw = ImageDraw.Draw(image)
    size = max(10, min(width, height) // 28)
    unit = pixel_um or 1.0
    length = round_length(width * unit / 5)
    bar, text = length / unit, length_text(length, known=pixel_um is not None)
    font = ImageFont.load_default(size)
    wide = draw.textlength(text, font)
    pad, thick = size * 0.6, max(3, size // 4)
    box_w, box_h = max(bar, wide) + 2 * pad, size * 1.2 + thick + 2 * pad
    right, low = width - pad, height - pad
    draw.rectangle((right - box_w, low - box_h, right, low), fill=0)
    middle = right - box_w / 2
    draw.rectangle((middle - bar / 2, low - pad - thick, middle + bar / 2, low - pad), fill=255)
    draw.text((middle, low - box_h + pad * 0.7), text, fill=255, font=font, anchor="mt")
    return np.asarray(image)


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5 x 10^k that is not longer than `longest`."""
    power = 10.0 ** floor(log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def length_text(length: float, *, known: bool) -> str:
    """A length in px or micrometres with the unit that suits it."""
    if not known:
        return f"{length:g} px"
    if length >= 1000:
        return f"{length / 1000:g} mm"
    return f"{length:g} \u00b5m" if length >= 1 else f"{length * 1000:g} nm"
