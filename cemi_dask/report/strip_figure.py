"""Crops of several pictures of one field side by side, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.report.mosaic_figures import grey_limits, to_rgb
from cemi_dask.report.style import INK, drawing, new_figure, png_bytes

CROP_PX, ZOOM = 240, 2  # so that single pixels can be seen
PER_LINE = 4
CAPTION_PX, GAP_PX = 44, 12
DPI = 100.0


@dataclass(frozen=True)
class Panel:
    """A picture (y, x), NaN where it has no data, and what stands above it."""

    picture: npt.NDArray[Any]
    caption: str


def picture_strip(panels: Sequence[Panel]) -> bytes:
    """A PNG that shows the same crop of all pictures, which have one shape, doubled in size.

    The crop is the one of most contrast that the last picture, the reference, knows wholly; all
    are drawn between the same grey levels, which are the reference's.
    """
    reference = panels[-1].picture
    rows, cols = best_crop(reference)
    limits = grey_limits(reference[rows, cols])
    crops = [to_rgb(np.asarray(p.picture, np.float32)[rows, cols], limits) for p in panels]
    height, width = (ZOOM * n for n in crops[0].shape[:2])
    across = min(PER_LINE, len(panels))
    lines = ceil(len(panels) / across)
    total = (
        lines * (CAPTION_PX + height) + (lines + 1) * GAP_PX,
        across * width + (across + 1) * GAP_PX,
    )
    with drawing():
        # The thousandth of a pixel keeps rounding from cutting off a row.
        figure = new_figure((total[0] + 1e-3) / DPI, (total[1] + 1e-3) / DPI)
        figure.dpi = DPI
        for k, (panel, crop) in enumerate(zip(panels, crops, strict=True)):
            line, column = divmod(k, across)
            left = GAP_PX + column * (width + GAP_PX)
            top = GAP_PX + line * (CAPTION_PX + height + GAP_PX)
            large = cv2.resize(crop, (width, height), interpolation=cv2.INTER_NEAREST)
            figure.figimage(large, left, total[0] - top - CAPTION_PX - height, resize=False)
            figure.text(
                left / total[1],
                1 - (top + CAPTION_PX / 2) / total[0],
                panel.caption,
                va="center",
                color=INK,
                fontsize=13 * 72 / DPI,
            )
        return png_bytes(figure, DPI)


def best_crop(reference: npt.NDArray[Any]) -> tuple[slice, slice]:
    """The rows and columns of the crop of most contrast, wholly known where there is one."""
    side_y, side_x = (min(CROP_PX, n) for n in reference.shape)
    known = np.isfinite(reference)
    grey = np.where(known, reference, 0).astype(np.float64)
    mean, square, share = (
        cv2.boxFilter(
            a,
            cv2.CV_64F,
            (side_x, side_y),
            anchor=(0, 0),
            borderType=cv2.BORDER_CONSTANT,
        )
        for a in (grey, grey**2, known.astype(np.float64))
    )
    # Unknown pixels count a whole picture's contrast each.
    worth = (square - mean**2) / max(float(grey.var()), 1e-9) + 1e3 * share
    inner = worth[: reference.shape[0] - side_y + 1, : reference.shape[1] - side_x + 1]
    y, x = divmod(int(inner.argmax()), inner.shape[1])
    return slice(y, y + side_y), slice(x, x + side_x)
