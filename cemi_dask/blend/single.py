"""Blenders that take each pixel from one frame, chosen by place alone: `Nearest`, `First`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from cemi_dask.blend.method import (
    FRAME_BYTES_PER_PX,
    Blender,
    Float32,
    ShiftedFrame,
)
from cemi_dask.geometry import Box
from cemi_dask.resample import border_distance_px

# Score of the outermost pixels along y or x, which the filter makes of mirrored ones.
_MARGIN_SCORE = np.float32(1e-6)
# Grey levels and owners of a picture, its best scores, and the grey levels written.
OWNED_BYTES_PER_PX = 13


def owners(box: Box, frames: Sequence[ShiftedFrame], *, by_distance: bool) -> npt.NDArray[np.int16]:
    """Which of `frames` owns each pixel of `box` (h, w); -1 where none lies.

    The frame with the highest score does, the first of equals. With `by_distance` the score is
    the product of the distances to the frame's borders along y and x, otherwise the same
    everywhere but in the outermost margin.
    """
    owner = np.full(box.shape, -1, np.int16)
    best = np.zeros(box.shape, np.float32)
    for number, frame in enumerate(frames):
        part = frame.box.intersect(box)
        if part.empty:
            continue
        there = part.relative_to(box).slices
        distance_y, distance_x = (border_distance_px(np.arange(n), n) for n in frame.shape)
        if not by_distance:
            distance_y, distance_x = np.sign(distance_y), np.sign(distance_x)
        score = frame.on_pixels(
            np.maximum(distance_y, _MARGIN_SCORE), np.maximum(distance_x, _MARGIN_SCORE), part
        )
        wins = score > best[there]
        owner[there][wins] = number
        np.copyto(best[there], score, where=wins)
    return owner


def picture_of_owners(
    box: Box, frames: Sequence[ShiftedFrame], owner: npt.NDArray[np.int16]
) -> Float32:
    """Each pixel of `box` from the frame that owns it, NaN where none does."""
    picture = np.full(box.shape, np.nan, np.float32)
    for number, frame in enumerate(frames):
        part = frame.box.intersect(box)
        there = part.relative_to(box).slices
        if not part.empty and (own := owner[there] == number).any():
            pixels = frame.pixels()[part.relative_to(frame.box).slices]
            np.copyto(picture[there], pixels, where=own)
    return picture


class OneFrame(Blender):
    """Base of blenders whose pixels each come from one frame: nothing is mixed."""

    keeps_noise: ClassVar[bool] = True

    def memory_bytes(self, area_px: int, frame_px: int, frames: int) -> int:
        """Bytes taken by blending `frames` frames of `frame_px` into a picture of `area_px`."""
        return OWNED_BYTES_PER_PX * area_px + FRAME_BYTES_PER_PX * frame_px


class Nearest(OneFrame):
    """The frame whose border is farthest away: nothing is mixed, noise keeps its statistics."""

    method: Literal["nearest"] = "nearest"

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """Each pixel from one frame only, NaN where no frame lies."""
        return picture_of_owners(box, frames, owners(box, frames, by_distance=True))


class First(OneFrame):
    """The frame recorded first: the beam contaminates what it has scanned before."""

    method: Literal["first"] = "first"

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """Each pixel from the first frame that covers it, NaN where no frame lies."""
        return picture_of_owners(box, frames, owners(box, frames, by_distance=False))
