"""Figures of the mosaic itself: the overview, and crops at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.report.style import (
    INK,
    NO_DATA,
    ORANGE,
    RIGHT_IN,
    Unit,
    length_text,
    length_unit,
    new_figure,
    on_picture,
    stacked,
    strip_height,
)
from cemi_dask.scalebar import nice_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = npt.NDArray[Any]
PIXELS_PER_INCH = 300.0  # crops are drawn at one picture pixel per figure pixel
MARGIN_IN = 0.15  # right of the overview, which has no colour bar
LONGEST_LINE = 7.0  # a strip longer than this times its height is folded into lines
MOST_LINES = 4
BCC_RGB, LAMELLAR_RGB = (230, 159, 0), (86, 180, 233)  # Okabe-Ito orange and sky blue


@dataclass(frozen=True)
class Detail:
    """A place of the mosaic to show at full resolution, with its letter and what it shows."""

    letter: str
    box: Box
    text: str


def grey_limits(picture: Picture) -> tuple[float, float]:
    """Grey levels shown as black and white: 0.5 and 99.5 % of the pixels with data."""
    known = picture[has_data(picture)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, [0.5, 99.5])
    if high <= low:  # one single grey level: show it as mid-grey
        margin = max(abs(float(low)) * 0.01, 1e-6)
        return float(low) - margin, float(high) + margin
    return float(low), float(high)


def has_data(picture: Picture) -> npt.NDArray[np.bool_]:
    """True where a mosaic shows a frame: not 0, or not NaN in float mosaics."""
    if picture.dtype.kind == "f":
        return ~np.isnan(picture)
    return picture != 0


def overview(
    thumbnail: Picture,
    shape: tuple[int, int],
    details: list[Detail],
    *,
    pixel_um: float | None,
) -> Figure:
    """The whole mosaic with axes in physical units, a scale bar and the details' places.

    `thumbnail` is the mosaic of `shape` px at any smaller size. A long strip is folded into
    lines that are read like text.
    """
    height, width = shape
    unit = length_unit(width, pixel_um)
    figure, all_axes = mosaic_axes(shape, unit, top_in=0.08, right_in=MARGIN_IN)
    masked = np.ma.masked_array(thumbnail, ~has_data(thumbnail))
    low, high = grey_limits(thumbnail)
    for axes in all_axes:
        axes.set_facecolor(NO_DATA)
        axes.imshow(
            masked,
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="antialiased",
            extent=(0, width / unit.px, height / unit.px, 0),
            aspect="auto",
        )
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)
        for detail in details:
            _mark(axes, detail, unit)
    _axes_scale_bar(all_axes[0], width / len(all_axes), unit)
    return figure


def mosaic_axes(
    shape: tuple[int, int], unit: Unit, *, top_in: float = 0.26, right_in: float = RIGHT_IN
) -> tuple[Figure, list[Axes]]:
    """Axes that together show a mosaic of `shape` px to scale, y down.

    A long strip is folded into lines that are read like text, one axes each.
    """
    height, width = shape
    lines = fold_count(width / height)
    step = width / lines
    tall = strip_height(step, height, least_in=0.35, most_in=6.0, right_in=right_in)
    figure, all_axes = stacked([tall] * lines, gap_in=0.36, top_in=top_in, right_in=right_in)
    for number, axes in enumerate(all_axes):
        axes.set_xlim(number * step / unit.px, (number + 1) * step / unit.px)
        axes.set_ylim(height / unit.px, 0)
        axes.set_ylabel(f"y ({unit.name})")
    all_axes[-1].set_xlabel(f"x ({unit.name})")
    return figure, all_axes


def fold_count(aspect: float) -> int:
    """Into how many lines a strip of this width to height ratio is folded."""
    if aspect <= LONGEST_LINE:
        return 1
    return min(MOST_LINES, max(2, round((aspect / 4) ** 0.5)))


def _mark(axes: Axes, detail: Detail, unit: Unit) -> None:
    from matplotlib.patches import Rectangle

    x, y = detail.box.x0 / unit.px, detail.box.y0 / unit.px
    height, width = detail.box.shape
    axes.add_patch(
        Rectangle((x, y), width / unit.px, height / unit.px, fill=False, edgecolor=ORANGE, lw=1.0)
    )
    low, high = axes.get_xlim()
    if low <= x < high:
        axes.annotate(
            detail.letter,
            (x, y),
            xytext=(4, -4),
            textcoords="offset points",
            ha="left",
            va="top",
            color=INK,
            fontsize=7,
            fontweight="bold",
            bbox=on_picture(),
        )


def _axes_scale_bar(axes: Axes, width_px: float, unit: Unit) -> None:
    """A bar of round length at the lower right of `axes`, which show `width_px`."""
    length = nice_length(width_px / unit.px / 6)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    x1 = right - 0.012 * (right - left)
    y = bottom + 0.10 * (top - bottom)
    axes.annotate(
        length_text(length, unit.name),
        (x1 - length / 2, y),
        xytext=(0, 2.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=7.5,
        bbox=on_picture(),
    )
    bar: dict[str, Any] = {"lw": 4.5, "color": "white", "solid_capstyle": "butt"}
    axes.plot([x1 - length, x1], [y, y], **bar)
    axes.plot([x1 - length, x1], [y, y], **{**bar, "lw": 2.5, "color": INK})


def crop_figure(
    picture: Picture,
    *,
    pixel_um: float | None,
    limits: tuple[float, float] | None = None,
    bar: bool = True,
) -> Figure:
    """A grey (y, x) or RGB (y, x, 3) picture, one figure pixel per pixel, with a scale bar."""
    height, width = picture.shape[:2]
    # The thousandth of a pixel keeps rounding from cutting off a row.
    figure = new_figure((height + 1e-3) / PIXELS_PER_INCH, (width + 1e-3) / PIXELS_PER_INCH)
    rgb = picture if picture.ndim == 3 else to_rgb(picture, limits)
    figure.dpi = PIXELS_PER_INCH
    figure.figimage(rgb, resize=False)
    if bar:
        _pixel_scale_bar(figure, width, height, pixel_um)
    return figure


def to_rgb(picture: Picture, limits: tuple[float, float] | None = None) -> Picture:
    """A grey picture as 8-bit RGB between `limits`; pixels without data are pale grey."""
    low, high = grey_limits(picture) if limits is None else limits
    scaled = (np.nan_to_num(picture.astype(np.float32)) - low) * (255.0 / (high - low))
    grey = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    rgb[~has_data(picture)] = (236, 239, 241)
    return rgb


def tinted(picture: Picture, *, bcc: Picture | None, lamellar: Picture | None) -> Picture:
    """The crop as RGB with BCC pixels tinted orange and lamellar regions outlined in blue."""
    rgb = to_rgb(picture)
    if bcc is not None:
        inside = bcc > 0
        mixed = 0.45 * rgb[inside].astype(np.float32) + 0.55 * np.array(BCC_RGB, np.float32)
        rgb[inside] = np.rint(mixed).astype(np.uint8)
    if lamellar is not None:
        region = (lamellar > 0).astype(np.uint8)
        edge = cv2.morphologyEx(region, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        rgb[edge > 0] = LAMELLAR_RGB
    return rgb


def _pixel_scale_bar(figure: Figure, width: int, height: int, pixel_um: float | None) -> None:
    from matplotlib.patches import Rectangle

    unit = length_unit(1, pixel_um)
    length = nice_length(width / 4 / unit.px)
    long_px, margin, thick, tall = length * unit.px, 10, 4, 30
    back = Rectangle(
        ((width - long_px - 2.5 * margin) / width, margin / 2 / height),
        (long_px + 2 * margin) / width,
        tall / height,
        transform=figure.transFigure,
        facecolor="white",
        alpha=0.85,
    )
    bar = Rectangle(
        ((width - long_px - 1.5 * margin) / width, (margin + 1) / height),
        long_px / width,
        thick / height,
        transform=figure.transFigure,
        facecolor=INK,
    )
    figure.add_artist(back)
    figure.add_artist(bar)
    figure.text(
        (width - long_px / 2 - 1.5 * margin) / width,
        (margin + thick + 2.5) / height,
        length_text(length, unit.name),
        ha="center",
        va="bottom",
        fontsize=13 * 72 / PIXELS_PER_INCH,
    )
