"""Blending band by band: `Multiband`, with pyramids anchored on the mosaic's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.blend.method import Blender, Float32, ShiftedFrame
from cemi_dask.blend.single import owners
from cemi_dask.geometry import Box

# Owners (2) and their best scores while they are made (4, given back); sums and weights of all
# bands (8 * 4/3), the picture as it is put together with its finer level, the grey levels written.
_BYTES_PER_PX = 26
# A frame's extended picture, its bands, its mask in float64 and both pyramids.
_FRAME_BYTES_PER_PX = 48
# A frame's short side holds at least so many pixels of the coarsest level.
_SHORT_SIDE_CELLS = 16


class Multiband(Blender):
    """Each frequency band mixed over a width of its own: fine detail from one frame, no steps.

    Burt and Adelson 1983 (ACM Trans. Graph. 2, 217): every pixel belongs to the frame whose
    border is farthest (as in `nearest`); the frames' Laplacian pyramids are mixed by the
    Gaussian pyramids of these regions, and the mixed pyramid is put together. Level k of a
    pyramid lies on the mosaic pixels that are multiples of 2^k, whatever part is asked for. A
    frame is continued by mirroring, counts in a band only as far as the band is made of its own
    pixels, and weights are divided by their sum: nothing leaks in from outside of frames.
    """

    keeps_noise: ClassVar[bool] = True
    method: Literal["multiband"] = "multiband"
    # A pixel's weight at level k is a whole number over 256^k: exact in float64 up to level 6,
    # and so the same to the bit wherever a shard begins.
    levels: int = Field(
        default=5,
        ge=1,
        le=6,
        description="Coarser bands at most; 2^levels stays within a 16th of a frame's short side.",
    )

    @property
    def halo_px(self) -> int:
        """Less than 2^(levels + 1) px for the weights, as much again for putting together."""
        return int(4 * 2**self.levels)

    def levels_for(self, shape: tuple[int, int]) -> int:
        """Coarser bands of frames (h, w): overlaps must be far wider than the coarsest one."""
        most = int(np.log2(max(1, min(shape) // _SHORT_SIDE_CELLS)))
        return min(self.levels, most)

    def memory_bytes(self, area_px: int, frame_px: int, frames: int) -> int:
        """Bytes taken by blending `frames` frames of `frame_px` into a picture of `area_px`."""
        side = frame_px**0.5 + 2 * self.halo_px
        return _BYTES_PER_PX * area_px + int(_FRAME_BYTES_PER_PX * side**2)

    def __call__(self, box: Box, frames: Sequence[ShiftedFrame]) -> Float32:
        """The mixed picture in `box`, NaN where no frame lies."""
        if not frames:
            return np.full(box.shape, np.nan, np.float32)
        levels = self.levels_for(frames[0].shape)
        step = 2**levels
        region = _aligned(box, step)
        owner = owners(region, frames, by_distance=True)
        shapes = [tuple(n >> k for n in region.shape) for k in range(levels + 1)]
        sums, weights = ([np.zeros(shape, np.float32) for shape in shapes] for _ in range(2))
        for number, frame in enumerate(frames):
            place = _aligned(frame.box.expand(2 * step), step)
            part = place.intersect(region)
            if part.empty or not (own := owner[part.relative_to(region).slices] == number).any():
                continue
            bands = laplacian_pyramid(_continued(frame, place), levels)
            shares = gaussian_pyramid(own.astype(np.float64), levels)
            trusts = _trust_pyramid(frame, place, levels)
            for k in range(levels + 1):
                there = _at_level(part.relative_to(region), k).slices
                here = _at_level(part.relative_to(place), k).slices
                weight = (shares[k] * trusts[k][here]).astype(np.float32)
                weights[k][there] += weight
                sums[k][there] += weight * bands[k][here]
        picture = put_together(sums, weights)
        picture[owner < 0] = np.nan
        return picture[box.relative_to(region).slices]


def gaussian_pyramid(image: npt.NDArray[np.float64], levels: int) -> list[npt.NDArray[np.float64]]:
    """`image` (h, w) and its `levels` coarser versions; h and w are multiples of 2^levels.

    Each is the one before, smoothed by (1 4 6 4 1) / 16 along y and x, at its even pixels (Burt
    and Adelson 1983, REDUCE with a = 3/8).
    """
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1]), np.float64))
    return pyramid


def laplacian_pyramid(image: Float32, levels: int) -> list[Float32]:
    """Bands (h, w), (h/2, w/2) ... of `image`, the coarsest last with what is left."""
    bands = []
    for _ in range(levels):
        coarse = np.asarray(cv2.pyrDown(image), np.float32)
        height, width = image.shape
        bands.append(image - np.asarray(cv2.pyrUp(coarse, dstsize=(width, height)), np.float32))
        image = coarse
    return [*bands, image]


def put_together(sums: list[Float32], weights: list[Float32]) -> Float32:
    """The picture (h, w) from weighted sums of bands and their weights; uses them up.

    A level lacks weight only where no pixel needs it: EXPAND reads the coarse neighbours that
    REDUCE had made of the pixel.
    """
    picture: Float32 | None = None
    while sums:
        band, weight = sums.pop(), weights.pop()
        np.divide(band, weight, out=band, where=weight > 0)
        picture = band if picture is None else np.add(band, expand(picture), out=band)
    assert picture is not None  # noqa: S101  (a pyramid has at least one level)
    return picture


def expand(coarse: Float32) -> Float32:
    """`coarse` (h, w) on the twice finer grid (2 h, 2 w): EXPAND of Burt and Adelson 1983.

    Without cv2.pyrUp, whose last bits depend on where an array begins.
    """
    return _expand_rows(np.ascontiguousarray(_expand_rows(coarse).T)).T


def _expand_rows(coarse: Float32) -> Float32:
    """(h, w) to (2 h, w): (1 6 1) / 8 at even rows, (1 1) / 2 at odd ones."""
    height, width = coarse.shape
    padded = np.pad(coarse, ((1, 1), (0, 0)), mode="edge")
    fine = np.empty((height, 2, width), np.float32)
    even, odd = fine[:, 0], fine[:, 1]
    np.add(padded[:-2], padded[2:], out=even)
    even *= np.float32(0.125)
    even += np.float32(0.75) * coarse
    np.add(coarse, padded[2:], out=odd)
    odd *= np.float32(0.5)
    return fine.reshape(2 * height, width)


def _trust_pyramid(frame: ShiftedFrame, place: Box, levels: int) -> list[npt.NDArray[np.float64]]:
    """How far each level's pixels in `place` are made of the frame: 1 inside, 0 from its border on.

    At least a millionth, for places that no other frame reaches.
    """
    sound = np.zeros(place.shape)
    sound[frame.box.relative_to(place).slices] = frame.sound(frame.box)
    return [np.maximum(2 * share - 1, 1e-6) for share in gaussian_pyramid(sound, levels)]


def _continued(frame: ShiftedFrame, place: Box) -> Float32:
    """The frame's pixels in `place`, which holds its box, mirrored beyond its borders."""
    box = frame.box
    return np.asarray(
        cv2.copyMakeBorder(
            frame.pixels(),
            box.y0 - place.y0,
            place.y1 - box.y1,
            box.x0 - place.x0,
            place.x1 - box.x1,
            cv2.BORDER_REFLECT_101,
        ),
        np.float32,
    )


def _aligned(box: Box, step: int) -> Box:
    """The least box that holds `box` and begins and ends at multiples of `step`."""
    (y0, x0), (y1, x1) = (box.y0, box.x0), (-(-box.y1 // step), -(-box.x1 // step))
    return Box(y0 // step * step, x0 // step * step, y1 * step, x1 * step)


def _at_level(box: Box, level: int) -> Box:
    """An aligned box in the pixels of a pyramid's level."""
    return Box(box.y0 >> level, box.x0 >> level, box.y1 >> level, box.x1 >> level)
