"""Blending along cuts where frames differ least: `Seam`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cemi_dask.blend.cut import Cells, cells_of, cut_between
from cemi_dask.blend.method import FRAME_BYTES_PER_PX, Float32, ShiftedFrame
from cemi_dask.blend.single import OWNED_BYTES_PER_PX, OneFrame
from cemi_dask.geometry import Box

# A frame that later ones may overlap: float32 and a flag per cell of 4 px.
_KEPT_BYTES_PER_PX = 2
# The overlap of two frames while its cut is found, in cells.
_CUT_BYTES_PER_PX = 16


class Seam(OneFrame):
    """Frames meet along the lines where they differ least: no doubled structure, nothing mixed.

    Each pair of frames has one cut through its overlap (`cut_between`). Where more than two
    lie, frames are laid down in ascending order: at each pixel, the next one takes over from
    the one that holds it where their cut says so. Grey levels must agree (`solve.gain`): a step
    of brightness between frames stays.
    """

    method: Literal["seam"] = "seam"

    def memory_bytes(self, area_px: int, frame_px: int, frames: int) -> int:
        """Bytes taken by blending `frames` frames of `frame_px` into a picture of `area_px`."""
        one = FRAME_BYTES_PER_PX + _CUT_BYTES_PER_PX
        kept = _KEPT_BYTES_PER_PX * frames
        return OWNED_BYTES_PER_PX * area_px + (one + kept) * frame_px

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """Each pixel from one frame only, NaN where no frame lies."""
        picture = np.full(box.shape, np.nan, np.float32)
        owner = np.full(box.shape, -1, np.int16)  # of pixels that are sound in some frame
        partners = [_earlier_partners(frames, number, box) for number in range(len(frames))]
        last = {early: late for late, before in enumerate(partners) for early in before}
        kept: dict[int, Cells] = {}
        for number, frame in enumerate(frames):
            part = frame.box.intersect(box)
            if part.empty:
                continue
            there, pixels = part.relative_to(box).slices, frame.pixels()
            sound = frame.sound(part)
            # Mirrored pixels fill what nothing covers; sound ones take their place.
            wins = (owner[there] < 0) & (sound | (np.isnan(picture[there]) & frame.covers(part)))
            if partners[number] or number in last:
                kept[number] = cells_of(frame, pixels)
            for early in partners[number]:
                shared = part.intersect(frames[early].box)
                held = owner[shared.relative_to(box).slices] == early
                held &= sound[shared.relative_to(part).slices]
                if held.any():
                    cut = cut_between(kept[early], kept[number])
                    wins[shared.relative_to(part).slices] |= held & cut.second_side(shared)
            np.copyto(picture[there], pixels[part.relative_to(frame.box).slices], where=wins)
            owner[there][wins & sound] = number
            kept = {k: cells for k, cells in kept.items() if last.get(k, -1) > number}
        return picture


def _earlier_partners(frames: Sequence[ShiftedFrame], number: int, box: Box) -> list[int]:
    """The frames before frame `number` that may share pixels of `box` with it."""
    part = frames[number].box.intersect(box)
    return [k for k in range(number) if not frames[k].box.intersect(part).empty]
