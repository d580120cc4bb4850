"""What was done to the recorded pictures before anything else: the crop and the flat field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import UnreadableError
from cemi_dask.frames import Crop, FlatField
from cemi_dask.frames.images import read_image
from cemi_dask.report.figure_folder import FigureFolder
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.page import Picture, Section
from cemi_dask.report.style import LEFT_IN, ORANGE, WIDTH_IN, beside, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE = "recorded.png"  # a recorded picture, left in figures/ when frames are read
WIDE_IN = 4.6
LEVELS = 9  # contour lines of the flat field
STEP_PX = 8  # the flat field is smooth


def frame_section(data: RunFolderData, figures: FigureFolder) -> list[Section]:
    """One section on the recorded frames: the crop on a sample, averaging, and the flat field.

    None for a run that read no files.
    """
    known = data.run.get("input")
    if not isinstance(known, dict) or "crop" not in known:
        return []
    text, pictures = [], []
    crop = Crop(**known["crop"])
    told = [str(note) for note in known.get("notes", []) if "cropped" in str(note)]
    text.append(_sentence(told[0]) if told else _crop_text(crop))
    sample, size = read_sample(data.path / "figures" / SAMPLE), known.get("recorded_shape")
    if sample is not None and size:
        figure = crop_figure(sample, (int(size[0]), int(size[1])), crop)
        alt = "A recorded picture with what is cut off"
        caption = "A picture as recorded. Orange: cut off."
        pictures.append(
            figures.plot("frames", figure, alt, caption if any(crop_sides(crop)) else "")
        )
    field_text, field_picture = _flat_field(data, figures)
    text += [*_averaging_text(data.run.get("averaging")), field_text]
    pictures += field_picture
    return [Section("frames", "Frames", text=tuple(text), pictures=tuple(pictures))]


def read_sample(path: Path) -> npt.NDArray[Any] | None:
    """The sample picture of a run; None where it has left none."""
    try:
        return read_image(str(path)) if path.is_file() else None
    except UnreadableError:
        return None


def crop_sides(crop: Crop) -> tuple[int, int, int, int]:
    """px cut off the top, bottom, left and right."""
    return crop.top, crop.bottom, crop.left, crop.right


def _crop_text(crop: Crop) -> str:
    names = ("top", "bottom", "left", "right")
    cut = [f"{px} px at the {name}" for name, px in zip(names, crop_sides(crop), strict=True) if px]
    return f"Cut off as configured: {', '.join(cut)}." if cut else "Nothing is cut off."


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def _averaging_text(known: Any) -> list[str]:
    if not isinstance(known, dict):
        return []
    return [
        f"Averaged: {known['averaged']} of {known['frames']} frames hold {known['looks']:g} "
        f"recorded pictures each (median). Their noise fell from {known['noise_before']:.3g} to "
        f"{known['noise_after']:.3g} grey levels, by a factor of "
        f"{known['noise_before'] / known['noise_after']:.2g}."
    ]


def _flat_field(data: RunFolderData, figures: FigureFolder) -> tuple[str, list[Picture]]:
    known = data.run.get("flat_field")
    if not isinstance(known, dict):
        return "No flat field was estimated (frames.flat_field: none).", []
    field = FlatField.from_json(known)
    if not field.applied:
        return f"Flat field {field.note}.", []
    picture = figures.plot(
        "flat-field",
        flat_field_figure(field),
        "Map of the shading that all frames share",
        "Brightness relative to the frame's mean before correction, from all frames.",
    )
    return f"Flat field: frames are divided by their common {field.note}.", [picture]


def _frame_axes(size: tuple[int, int]) -> tuple[Figure, Axes]:
    """Axes in px for a frame of `size`, with room for a colour bar."""
    height = min(5.0, WIDE_IN * size[0] / size[1])
    top, bottom = 0.26, 0.42  # above: the colour bar's unit
    figure = new_figure(height + top + bottom)
    total = height + top + bottom
    place = (LEFT_IN / WIDTH_IN, bottom / total, WIDE_IN / WIDTH_IN, height / total)
    axes = figure.add_axes(place)
    axes.set_xlabel("x (px)")
    axes.set_ylabel("y (px)")
    return figure, axes


def crop_figure(sample: npt.NDArray[Any], size: tuple[int, int], crop: Crop) -> Figure:
    """A recorded picture of `size` px (`sample` at any size) with the strips that are cut off."""
    figure, axes = _frame_axes(size)
    draw_crop(axes, sample, size, crop)
    return figure


def draw_crop(axes: Axes, sample: npt.NDArray[Any], size: tuple[int, int], crop: Crop) -> None:
    """Draw a recorded picture of `size` px into `axes`, what `crop` cuts off in orange."""
    from matplotlib.patches import Rectangle

    height, width = size
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    axes.imshow(
        sample,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1),
        extent=(0, width, height, 0),
        aspect="auto",
        interpolation="antialiased",
    )
    strips = (
        (0, 0, width, crop.top),
        (0, height - crop.bottom, width, crop.bottom),
        (0, crop.top, crop.left, height - crop.top - crop.bottom),
        (width - crop.right, crop.top, crop.right, height - crop.top - crop.bottom),
    )
    for x, y, wide, tall in strips:
        if wide and tall:
            axes.add_patch(Rectangle((x, y), wide, tall, facecolor=ORANGE, alpha=0.35, lw=0))
    if any(crop_sides(crop)):
        tall, wide = crop.shape(size)
        axes.add_patch(
            Rectangle((crop.left, crop.top), wide, tall, fill=False, edgecolor=ORANGE, lw=1.2)
        )


def flat_field_figure(field: FlatField) -> Figure:
    """The shading in percent of the frame's mean brightness, as a map with contour lines."""
    figure, axes = _frame_axes(field.shape)
    height, width = field.shape
    percent = 100 / field.gain()[::STEP_PX, ::STEP_PX]
    percent *= 100 / percent.mean()
    y, x = (np.arange(0, size, STEP_PX) + 0.5 for size in field.shape)
    picture = axes.imshow(
        percent, cmap="gray", extent=(0, width, height, 0), aspect="auto", interpolation="bilinear"
    )
    lines = axes.contour(x, y, percent, levels=LEVELS, colors=ORANGE, linewidths=0.8)
    axes.clabel(lines, fontsize=6.5, fmt="%.4g")
    bar = figure.colorbar(picture, cax=beside(axes))
    bar.ax.set_title("%", loc="left", fontweight="normal", fontsize=7.5)
    bar.outline.set_linewidth(0.6)
    return figure
