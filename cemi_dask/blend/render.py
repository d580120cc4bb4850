"""The render kernel: any box of the mosaic from the frames that touch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.blend.method import Blender, ShiftedFrame
from cemi_dask.distortion import Field
from cemi_dask.errors import InputError
from cemi_dask.geometry import Box, Layout, line_offsets
from cemi_dask.resample import MARGIN_PX, resample, shift_frame, shift_rows


def render(
    box: Box,
    planes: Sequence[npt.NDArray[Any]],
    layout: Layout,
    *,
    method: Blender,
    dtype: npt.DTypeLike,
) -> npt.NDArray[Any]:
    """The mosaic's pixels in `box` (h, w) from frames and their places.

    `planes` holds one frame (y, x) per row of `layout`, in its order; frames that are not
    used or do not touch the box are passed over, so the box may be any part of the mosaic and
    the layout any part that holds all frames touching it. Integer results are rounded half to
    even and clipped to 1..max where a frame lies, 0 elsewhere; float results are NaN there.
    Raises InputError for a frame of another size than the layout says, or with NaN pixels.
    """
    wide = box.expand(method.halo_px)
    shifted = (_shifted(plane, layout, k) for k, plane in enumerate(planes) if layout.used[k])
    frames = [frame for frame in shifted if not frame.box.intersect(wide).empty]
    picture = method(wide, frames)
    return _finish(picture[box.relative_to(wide).slices], np.dtype(dtype))


def _shifted(plane: npt.NDArray[Any], layout: Layout, index: int) -> ShiftedFrame:
    """Frame `index` of the layout on the mosaic's pixel grid, not computed yet."""
    height, width = layout.frame_shape
    x, y = float(layout.x_px[index]), float(layout.y_px[index])
    gain = float(layout.gain[index])
    grey = {"gain": gain, "offset": float(layout.offset[index])}
    offsets = line_offsets(float(layout.shear[index]), height)
    left, top = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    place = Box(top, left, top + height, left + width)

    def checked() -> npt.NDArray[Any]:
        _check_plane(plane, layout.frame_shape, (x, y))
        return plane

    field = layout.field_of(index)
    if field is not None:
        slant = None if offsets is None else float(layout.shear[index])
        box = place if offsets is None else _lines_box(x + offsets, place)
        return _straightened(box, checked, field, ((x, y), slant), **grey)
    if offsets is None:
        return ShiftedFrame(
            place, lambda: shift_frame(checked(), x - left, y - top, **grey), gain=gain
        )
    begins, down_px = x + offsets, y - top
    wide = _lines_box(begins, place)
    # A row of the mosaic lies between two lines: its ends do too.
    rows = np.clip(np.arange(height) - down_px, 0, height - 1)
    ends = np.interp(rows, np.arange(height), begins)
    starts = np.floor(ends + 0.5).astype(np.int64) - wide.x0
    return ShiftedFrame(
        wide, lambda: _sheared(wide, checked(), begins, down_px, **grey), starts, width, gain
    )


def _lines_box(starts_px: npt.NDArray[np.float64], place: Box) -> Box:
    """The box that holds lines as long as `place` is wide, starting at `starts_px` (h)."""
    first, last = int(np.floor(starts_px.min())), int(np.ceil(starts_px.max()))
    return Box(place.y0, first, place.y1, last + place.shape[1])


def _sheared(
    place: Box,
    plane: npt.NDArray[Any],
    starts_px: npt.NDArray[np.float64],
    down_px: float,
    **grey: float,
) -> npt.NDArray[np.float32]:
    """The pixels in `place` of a frame whose lines start at `starts_px` (h), moved by `down_px`.

    Lines are moved first, each by its own distance, so that the structure is straight before
    neighbouring lines are mixed for the fraction along y. Beside its ends a line is continued
    by mirroring, as the shift filter does above and below the frame.
    """
    pad = place.shape[1] - plane.shape[1] + 2 * MARGIN_PX
    source = np.ascontiguousarray(plane, np.float32)
    wide = cv2.copyMakeBorder(source, 0, 0, pad, pad, cv2.BORDER_REFLECT_101)
    moved = shift_rows(wide, starts_px - place.x0)[:, pad : pad + place.shape[1]]
    return shift_frame(moved, 0.0, down_px, **grey)


def _straightened(
    place: Box,
    plane: Callable[[], npt.NDArray[Any]],
    field: Field,
    corner: tuple[tuple[float, float], float | None],
    *,
    gain: float,
    offset: float,
) -> ShiftedFrame:
    """A distorted frame made straight; `corner` is its ((x, y), shear or None) in the mosaic.

    Its sides come out curved: as much is cut off all around as they are moved, so that what is
    left is as rectangular (with shear, as slanted) as other frames, in the same place.
    """
    (x, y), shear = corner
    height, width = field.frame_shape
    cut = 1 + int(np.ceil(field.max_px))
    inner = place.expand(-cut)
    columns = np.arange(inner.x0, inner.x1, dtype=np.float64) - x
    rows = np.arange(inner.y0, inner.y1, dtype=np.float64) - y

    def pixels() -> npt.NDArray[np.float32]:
        straight = resample(plane(), *field.sources(columns, rows, shear=shear or 0.0))
        straight *= np.float32(gain)
        straight += np.float32(offset)
        return straight

    if shear is None:
        return ShiftedFrame(inner, pixels, gain=gain)
    starts = np.floor(x + shear * (rows - (height - 1) / 2) + 0.5).astype(np.int64)
    return ShiftedFrame(inner, pixels, starts + cut - inner.x0, width - 2 * cut, gain)


def _check_plane(
    plane: npt.NDArray[Any], shape: tuple[int, int], place_px: tuple[float, float]
) -> None:
    where = f"The frame at x = {place_px[0]:.1f}, y = {place_px[1]:.1f} px of the mosaic"
    if plane.shape != shape:
        raise InputError(
            f"{where} has the shape {plane.shape}, but the layout was solved for {shape}. "
            "Give the frames that the layout was made from."
        )
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        bad = int((~np.isfinite(plane)).sum())
        raise InputError(
            f"{where} holds {bad} pixels that are NaN or infinite. Mark it as not used, or fill "
            "them before blending."
        )


def _finish(picture: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The picture in its final grey-level type, with the fill value where it is NaN."""
    if dtype.kind == "f":
        return picture.astype(dtype)
    empty = np.isnan(picture)
    np.rint(picture, out=picture)
    np.clip(picture, 1, np.iinfo(dtype).max, out=picture)
    picture[empty] = 0
    return picture.astype(dtype)
