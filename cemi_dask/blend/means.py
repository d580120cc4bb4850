"""Blenders that mix all frames at a pixel by weights: `Feather`, `Linear`, `Average`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from cemi_dask.blend.method import Blender, Float32, ShiftedFrame
from cemi_dask.geometry import Box
from cemi_dask.resample import border_distance_px

# Weight of the outermost pixels, which the filter makes of mirrored ones: they count only
# where no other frame has better ones (a millionth is under 1/1000 grey level).
_MARGIN_WEIGHT = np.float32(1e-6)


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
    frames: Sequence[ShiftedFrame],
    weights_of: Callable[[ShiftedFrame], tuple[Float32, Float32]],
) -> Float32:
    """Mean of the frames in `box`, NaN where no frame lies.

    A frame's weight is the product of the weights along y and x that `weights_of` gives.
    """
    total = np.zeros(box.shape, np.float32)
    weights = np.zeros(box.shape, np.float32)
    for frame in frames:
        part = frame.box.intersect(box)
        if part.empty:
            continue
        there = part.relative_to(box).slices
        weight = frame.on_pixels(*weights_of(frame), part)
        pixels = frame.pixels()[part.relative_to(frame.box).slices]
        weights[there] += weight
        pixels *= weight
        total[there] += pixels
    with np.errstate(invalid="ignore"):
        total /= weights  # 0 / 0 where no frame lies: NaN, as wanted
    return total


class Feather(Blender):
    """Weighted mean whose weights rise from the frames' borders: no visible seams."""

    method: Literal["feather"] = "feather"
    width_px: float = Field(
        default=64.0,
        gt=0,
        description="Distance from a frame's border over which its weight rises to 1.",
    )

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """The feathered mean in `box`, NaN where no frame lies."""
        return weighted_mean(box, frames, lambda frame: ramp_weights(frame.shape, self.width_px))


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

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """The mean in `box`, NaN where no frame lies."""
        return weighted_mean(
            box, frames, lambda frame: distance_weights(frame.shape, self.exponent)
        )


class Average(Blender):
    """Mean weighted by the frames' noise: the lowest noise, visible steps at borders.

    The weight is the inverse variance, which makes the variance of the mean least (Gauss and
    Markov). Frames are taken as recorded with equal noise, so that a frame's variance is
    proportional to the square of its gain.
    """

    method: Literal["average"] = "average"

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """The mean in `box`, NaN where no frame lies."""
        return weighted_mean(box, frames, inverse_variance)


def inverse_variance(frame: ShiftedFrame) -> tuple[Float32, Float32]:
    """Weights along (y, x): 1 / gain^2 from the margin inwards, a millionth of it within."""
    weight_y, weight_x = ramp_weights(frame.shape, 0.5)  # shorter than a pixel: no ramp
    return weight_y * np.float32(frame.gain**-2), weight_x
