"""A scale bar drawn into a grey picture: a round length, about a fifth of the width."""

from __future__ import annotations

import functools
from math import floor, log10
from pathlib import Path

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]


def nice_length(longest: float) -> float:
    """The largest of 1, 2, 5 x 10^k that is not longer than `longest`."""
    power = 10.0 ** floor(log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def bar_text(length: float, *, known: bool) -> str:
    """A length in micrometres (px where none is `known`) with the unit that suits it."""
    if not known:
        return f"{length:g} px"
    if length >= 1000:
        return f"{length / 1000:g} mm"
    return f"{length:g} µm" if length >= 1 else f"{length * 1000:g} nm"


@functools.cache
def _font_file() -> Path:
    """A font that has the sign for micro; it comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def with_scale_bar(picture: Grey, pixel_um: float | None) -> Grey:
    """A copy of the picture (y, x) with a white bar on black at its lower right.

    `pixel_um` is the size of one of its pixels; None makes the bar's unit a pixel.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    size = max(10, min(28, min(width, height) // 20))
    unit = pixel_um or 1.0
    length = nice_length(width * unit / 5)
    bar, text = length / unit, bar_text(length, known=pixel_um is not None)
    font = ImageFont.truetype(str(_font_file()), size)
    pad, thick = round(size * 0.6), max(2, size // 4)
    box_w = max(bar, draw.textlength(text, font)) + 2 * pad
    box_h = round(size * 1.25) + thick + 2 * pad
    right, low = width - pad, height - pad
    draw.rectangle((right - box_w, low - box_h, right, low), fill=0)
    middle, foot = right - box_w / 2, low - pad
    left = round(middle - bar / 2)
    draw.rectangle((left, foot - thick, left + round(bar) - 1, foot), fill=255)
    draw.text((middle, low - box_h + pad * 0.8), text, fill=255, font=font, anchor="mt")
    return np.asarray(image)
