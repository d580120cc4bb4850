"""The render kernel: any box of the mosaic from the frames that touch it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.blend.methods import Blender, ShiftedFrame
from cemi_dask.errors import InputError
from cemi_dask.geometry import Box, Layout
from cemi_dask.resample import shift_frame


def render(
    box: Box,
    planes: Iterable[npt.NDArray[Any]],
    layout: Layout,
    *,
    method: Blender,
    dtype: npt.DTypeLike,
) -> npt.NDArray[Any]:
    """The mosaic's pixels in `box` (h, w) from frames and their places.

    `planes` yields one frame (y, x) per row of `layout`, in its order; frames that are not
    used or do not touch the box are passed over, so the box may be any part of the mosaic and
    the layout any part that holds all frames touching it. Integer results are rounded half to
    even and clipped to 1..max where a frame lies, 0 elsewhere; float results are NaN there.
    Raises InputError for a frame of another size than the layout says, or with NaN pixels.
    """
    wide = box.expand(method.halo_px)
    picture = method(wide, _shifted(wide, planes, layout))
    return _finish(picture[box.relative_to(wide).slices], np.dtype(dtype))


def _shifted(
    box: Box, planes: Iterable[npt.NDArray[Any]], layout: Layout
) -> Iterator[ShiftedFrame]:
    """The used frames that touch `box`, on the mosaic's pixel grid, one at a time."""
    height, width = layout.frame_shape
    for index, plane in enumerate(planes):
        x, y = float(layout.x_px[index]), float(layout.y_px[index])
        left, top = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        place = Box(top, left, top + height, left + width)
        if not layout.used[index] or place.intersect(box).empty:
            continue
        _check_plane(plane, layout.frame_shape, (x, y))
        pixels = shift_frame(
            plane,
            x - left,
            y - top,
            gain=float(layout.gain[index]),
            offset=float(layout.offset[index]),
        )
        yield ShiftedFrame(place, pixels)


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
