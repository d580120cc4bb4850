"""`Blender`, the base of blending methods, and `ShiftedFrame`, what they are called with.

A blender is called with a box of the mosaic and the frames that touch it, in ascending order,
on the mosaic's pixels and grey-corrected. What it makes of a pixel must depend on the frames
within `halo_px` of it alone and be computed in the given order, so that a picture made of
shards equals one made at once, to the bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cemi_dask.geometry import Box
from cemi_dask.methods import Method
from cemi_dask.resample import border_distance_px

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Accumulated grey levels and weights of a picture, their quotient and the grey levels written.
MEAN_BYTES_PER_PX = 13
# A frame while it is shifted, weighed and added: float32 of itself, its moved copies, its weights.
FRAME_BYTES_PER_PX = 32


@dataclass(frozen=True)
class ShiftedFrame:
    """A frame on the mosaic's pixel grid: `pixels()` (h, w) float32 fill `box` of the mosaic.

    Nothing is computed before `pixels` is called, and everything anew at each call; the array
    belongs to the caller. It is `gain` times the frame as recorded, plus an offset. A frame
    that was scanned while the stage moved is a parallelogram in a wider box: its line y covers
    the `line_px` columns of the box from ``line_starts[y]`` on (both None where lines fill the
    box). Pixels beside the lines continue them by mirroring.
    """

    box: Box
    pixels: Callable[[], Float32]
    line_starts: npt.NDArray[np.int64] | None = None
    line_px: int | None = None
    gain: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the frame itself in px: its lines, not its box."""
        height, width = self.box.shape
        return height, width if self.line_px is None else self.line_px

    @property
    def corner(self) -> tuple[int, int]:
        """(y, x) of the first line's row and of the middle line's first pixel in the mosaic."""
        if self.line_starts is None:
            return self.box.y0, self.box.x0
        return self.box.y0, self.box.x0 + int(self.line_starts[len(self.line_starts) // 2])

    def on_pixels(self, along_y: Float32, along_x: Float32, part: Box) -> Float32:
        """The product of values per line (h) and per column of the frame (w) on `part`'s pixels.

        `part` lies within `box`, in mosaic px. 0 beside the lines of a sheared frame.
        """
        ys, xs = part.relative_to(self.box).slices
        if self.line_starts is None:
            return np.asarray(np.multiply.outer(along_y[ys], along_x[xs]), np.float32)
        room = self.box.shape[1]
        padded = np.concatenate([z := np.zeros(room, np.float32), along_x, z])
        # Window k of `padded` shows the columns of the box to a line that starts at room - k.
        windows = np.lib.stride_tricks.sliding_window_view(padded, room)[:, xs]
        lines = windows[room - self.line_starts[ys]]
        return np.asarray(along_y[ys, None] * lines, np.float32)

    def covers(self, part: Box) -> Mask:
        """Which pixels of `part` the frame covers."""
        along_y, along_x = (np.ones(n, np.float32) for n in self.shape)
        return self.on_pixels(along_y, along_x, part) > 0

    def sound(self, part: Box) -> Mask:
        """Which pixels of `part` the frame covers with no mirrored pixel in the shift filter."""
        along_y, along_x = (
            (border_distance_px(np.arange(n), n) > 0).astype(np.float32) for n in self.shape
        )
        return self.on_pixels(along_y, along_x, part) > 0


class Blender(Method):
    """Base of blenders: call with a box and its shifted frames, get float32 (h, w).

    Pixels that no frame covers are NaN.
    """

    # Whether noise has the variance of a single frame wherever frames lie, however many
    # (within 5 %). Where not, it is lower in overlaps: textures and thresholds see a difference.
    keeps_noise: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """The picture in `box`, NaN where no frame lies; `frames` come in ascending order."""

    def memory_bytes(self, area_px: int, frame_px: int, frames: int) -> int:
        """Bytes taken by blending `frames` frames of `frame_px` into a picture of `area_px`.

        The frames as recorded are not counted; the halo belongs to the area.
        """
        return MEAN_BYTES_PER_PX * area_px + FRAME_BYTES_PER_PX * frame_px
