"""How overlapping frames become one picture: `Blender`, its built-ins, `BLENDERS`.

A blender is called with a box of the mosaic and the frames that touch it, one after the
other, already shifted onto the mosaic's pixels and grey-corrected. Its arithmetic must be
per pixel and in the given order, so that a picture made of shards equals one made at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.geometry import Box
from cemi_dask.methods import Method, Registry
from cemi_dask.resample import border_distance_px

Float32 = npt.NDArray[np.float32]

# Weight of the outermost pixels, which the filter makes of mirrored ones: they count only
# where no other frame has better ones (a millionth is under 1/1000 grey level).
_MARGIN_WEIGHT = np.float32(1e-6)


@dataclass(frozen=True)
class ShiftedFrame:
    """A frame on the mosaic's pixel grid: `pixels` (h, w) float32 fill `box` of the mosaic.

    A frame that was scanned while the stage moved is a parallelogram in a wider box: its line
    y covers the `line_px` columns of the box from ``line_starts[y]`` on (both None where
    lines fill the box). Pixels beside the lines are finite and mean nothing: `on_pixels` is 0
    there. The pixels may be used as working memory by whoever receives the frame.
    """

    box: Box
    pixels: Float32
    line_starts: npt.NDArray[np.int64] | None = None
    line_px: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the frame itself in px: its lines, not its box."""
        height, width = self.pixels.shape
        return height, width if self.line_px is None else self.line_px

    def on_pixels(self, along_y: Float32, along_x: Float32, part: Box) -> Float32:
        """The product of values per line (h) and per column of the frame (w) on `part`'s pixels.

        `part` lies within `box`, in mosaic px. 0 beside the lines of a sheared frame.
        """
        ys, xs = part.relative_to(self.box).slices
        if self.line_starts is None:
            return np.asarray(np.multiply.outer(along_y[ys], along_x[xs]), np.float32)
        room = self.pixels.shape[1]
        padded = np.concatenate([z := np.zeros(room, np.float32), along_x, z])
        # Window k of `padded` shows the columns of the box to a line that starts at room - k.
        windows = np.lib.stride_tricks.sliding_window_view(padded, room)[:, xs]
        lines = windows[room - self.line_starts[ys]]
        return np.asarray(along_y[ys, None] * lines, np.float32)


class Blender(Method):
    """Base of blenders: call with a box and its shifted frames, get float32 (h, w).

    Pixels that no frame covers are NaN.
    """

    @abstractmethod
    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """The picture in `box`, NaN where no frame lies; `frames` come in ascending order."""


def ramp_weights(shape: tuple[int, int], ramp_px: float) -> tuple[Float32, Float32]:
    """Weights along (y, x) that rise from each border to 1 over `ramp_px`, at least 1e-6."""
    ramp_y, ramp_x = (
        np.clip(
            border_distance_px(np.arange(n), n) / np.float32(ramp_px), _MARGIN_WEIGHT, np.float32(1)
        )
        for n in shape
    )
    return ramp_y, ramp_x


def distance_weights(shape: tuple[int, int], exponent: float) -> tuple[Float32, Float32]:
    """Weights along (y, x): border distance over half the frame's size, to the `exponent`.

    At least 1e-12, and 1e-14 within the margin: the product of both must stay above the
    smallest float32.
    """
    weight_y, weight_x = (
        np.where(
            (distance := border_distance_px(np.arange(n), n)) > 0,
            np.maximum(
                (np.maximum(distance, 0) / np.float32(n / 2)) ** np.float32(exponent),
                np.float32(1e-12),
            ),
            np.float32(1e-14),
        )
        for n in shape
    )
    return weight_y, weight_x


def weighted_mean(
    box: Box,
    frames: Iterable[ShiftedFrame],
    weights_of: Callable[[tuple[int, int]], tuple[Float32, Float32]],
) -> Float32:
    """Mean of the frames in `box`, NaN where no frame lies.

    A frame's weight is the product of the weights along y and x that `weights_of` gives for
    its shape.
    """
    total = np.zeros(box.shape, np.float32)
    weights = np.zeros(box.shape, np.float32)
    for frame in frames:
        part = frame.box.intersect(box)
        if part.empty:
            continue
        there = part.relative_to(box).slices
        weight = frame.on_pixels(*weights_of(frame.shape), part)
        pixels = frame.pixels[part.relative_to(frame.box).slices]
        weights[there] += weight
        pixels *= weight
        total[there] += pixels
    with np.errstate(invalid="ignore"):
        total /= weights  # 0 / 0 where no frame lies: NaN, as wanted
    return total


def best_frame(box: Box, frames: Iterable[ShiftedFrame], *, by_distance: bool) -> Float32:
    """Each pixel from one frame: the one with the highest score; the first of equals.

    With `by_distance` the score is the product of the distances to the frame's borders along
    y and x, otherwise the same everywhere but in the outermost margin. NaN where no frame lies.
    """
    picture = np.full(box.shape, np.nan, np.float32)
    best = np.zeros(box.shape, np.float32)
    for frame in frames:
        part = frame.box.intersect(box)
        if part.empty:
            continue
        there = part.relative_to(box).slices
        distance_y, distance_x = (border_distance_px(np.arange(n), n) for n in frame.shape)
        if not by_distance:
            distance_y, distance_x = np.sign(distance_y), np.sign(distance_x)
        score = frame.on_pixels(
            np.maximum(distance_y, _MARGIN_WEIGHT), np.maximum(distance_x, _MARGIN_WEIGHT), part
        )
        wins = score > best[there]
        pixels = frame.pixels[part.relative_to(frame.box).slices]
        np.copyto(picture[there], pixels, where=wins)
        np.copyto(best[there], score, where=wins)
    return picture


class Feather(Blender):
    """Weighted mean whose weights rise from the frames' borders: no visible seams."""

    method: Literal["feather"] = "feather"
    width_px: float = Field(
        default=64.0,
        gt=0,
        description="Distance from a frame's border over which its weight rises to 1.",
    )

    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """The feathered mean in `box`, NaN where no frame lies."""
        return weighted_mean(box, frames, lambda shape: ramp_weights(shape, self.width_px))


class Average(Blender):
    """Plain mean of all frames: the lowest noise, visible steps at borders."""

    method: Literal["average"] = "average"

    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """The plain mean in `box`, NaN where no frame lies."""
        # A ramp shorter than half a pixel: weight 1 from the margin inwards.
        return weighted_mean(box, frames, lambda shape: ramp_weights(shape, 0.5))


class Linear(Blender):
    """Linear blending: weights by the distance to the frame's border, to a power.

    Preibisch, Saalfeld and Tomancak 2009 (Bioinformatics 25) take 1.5. A large exponent mixes
    frames only in a narrow band halfway between their borders, so that frames which are
    distorted against each other show no doubled structure, and no hard seam either.
    """

    method: Literal["linear"] = "linear"
    exponent: float = Field(
        default=8.0, ge=1.0, le=32.0, description="Power of the distance; larger: narrower band."
    )

    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """The mean in `box`, NaN where no frame lies."""
        return weighted_mean(box, frames, lambda shape: distance_weights(shape, self.exponent))


class Nearest(Blender):
    """The frame whose border is farthest away: nothing is mixed, noise keeps its statistics."""

    method: Literal["nearest"] = "nearest"

    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """Each pixel from one frame only, NaN where no frame lies."""
        return best_frame(box, frames, by_distance=True)


class First(Blender):
    """The frame recorded first: the beam contaminates what it has scanned before."""

    method: Literal["first"] = "first"

    def __call__(self, box: Box, frames: Iterable[ShiftedFrame]) -> Float32:
        """Each pixel from the first frame that covers it, NaN where no frame lies."""
        return best_frame(box, frames, by_distance=False)


BLENDERS: Registry[Blender] = Registry(
    "blender",
    Blender,  # type: ignore[type-abstract]  # the registry only asks issubclass
    (Feather, Linear, Average, Nearest, First),
)
