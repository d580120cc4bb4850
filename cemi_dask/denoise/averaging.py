"""A frame averaged with its neighbours: `place_frame` puts one on its grid, `average_placed` mixes.

What is mixed in is what another frame shows of the same place, with noise of its own. Nothing is
smoothed, so no structure is lost that the resampling filter keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from cemi_dask.denoise.method import FloatFrame, Frame
from cemi_dask.denoise.noise import NoiseModel
from cemi_dask.distortion import Distortion
from cemi_dask.errors import InputError
from cemi_dask.geometry import Box, Layout, line_offsets
from cemi_dask.resample import (
    MARGIN_PX,
    border_distance_px,
    gaussian_kernel,
    resample,
    separable,
    shift_frame,
    shift_rows,
)

# The difference of two frames is smoothed by the first, its square by the second Gaussian. One px
# keeps lamellae of 5 px, which a wrong place turns into a difference, and takes 92 % of the noise.
SMOOTH_PX, WINDOW_PX = 1.0, 6.0
# Standard deviations that a local mean square may lie above what noise explains: up to the first
# the neighbour has its full weight, from the second on none.
FULL, NONE = 1.0, 3.0
# Noise that pixels share survives the smoothing: the most that its mean square may be above that
# of white noise.
MAX_SHARED = 2.5
# Nine pixels within so many standard deviations of the noise show no noise.
FLAT = 0.1
# A neighbour counts at most as much as so many frames of the own noise.
MAX_RATIO = 16.0


@dataclass(frozen=True, eq=False)
class PlacedFrame:
    """A neighbour on the pixel grid and in the grey scale of the frame it is averaged into.

    `pixels` (h, w) float32 fill `box` of that frame; `feather` (h, w) float32 is the share of its
    weight, 0 at the neighbour's border; `noise` is that of the neighbour before resampling.
    """

    box: Box
    pixels: FloatFrame
    feather: FloatFrame
    noise: NoiseModel


def place_frame(
    plane: Frame, noise: NoiseModel, layout: Layout, *, feather_px: float
) -> PlacedFrame | None:
    """The frame `plane` (h, w) on the grid of another; None where both share nothing.

    `layout` holds two frames: the one that gives grid and grey scale, then `plane`. Lines are
    first moved along x, each by its own distance where the shears differ, then by the fraction
    of a px along y. The feather rises over `feather_px` from 8 px inside of the border, up to
    where the filter sees mirrored pixels; it is 0 where the frame is filled or saturated.
    """
    if layout.bends.size:
        raise InputError(
            "Frames that are bent one by one (solve.elastic) cannot be averaged with their "
            "neighbours. Solve without it, or denoise frame by frame."
        )
    height, width = layout.frame_shape
    (gain, other_gain), (offset, other_offset) = layout.gain, layout.offset
    grey = float(other_gain / gain), float((other_offset - offset) / gain)
    field = layout.distortion
    if field is not None:
        return _place_bent((plane, noise.scaled(*grey)), layout, field, grey, feather_px=feather_px)
    shear, other_shear = (float(value) for value in layout.shear)
    down = float(layout.y_px[1] - layout.y_px[0])
    # Of the middle line, on the fixed frame's line where it comes to lie.
    right = float(layout.x_px[1] - layout.x_px[0]) - shear * down
    top, left = int(np.floor(down + 0.5)), int(np.floor(right + 0.5))
    part = Box(top, left, top + height, left + width).intersect(Box(0, 0, height, width))
    offsets = line_offsets(other_shear - shear, height)
    if offsets is None:
        place = Box(top, left, top + height, left + width)
        moved, right_px = plane, right - left
    else:
        place = Box(top, 0, top + height, width)
        # What no line covers has no weight, and no weight where the filter along y reaches it.
        moved, right_px = shift_rows(plane, right + offsets, fill=0.0), 0.0
        part = place.intersect(Box(0, 0, height, width))
    if part.empty:
        return None
    lines = np.arange(part.y0, part.y1) - down
    starts = right + (other_shear - shear) * (lines - (height - 1) / 2)
    columns = np.arange(part.x0, part.x1) - starts[:, None]
    distance = np.minimum(
        border_distance_px(lines, height)[:, None], border_distance_px(columns, width)
    )
    feather = np.asarray(np.clip(distance / feather_px, 0, 1), np.float32)
    if not feather.any():
        return None
    moved = shift_frame(moved, right_px, down - top, gain=grey[0], offset=grey[1])
    pixels, noise = moved[part.relative_to(place).slices], noise.scaled(*grey)
    return PlacedFrame(part, pixels, feather * ~_flat(pixels, noise), noise)


def _place_bent(
    neighbour: tuple[Frame, NoiseModel],
    layout: Layout,
    field: Distortion,
    grey: tuple[float, float],
    *,
    feather_px: float,
) -> PlacedFrame | None:
    """As `place_frame` for frames bent by `field`; the noise is in the grey scale of the first.

    The neighbour is read in two passes at the places that show the first frame's pixels.
    """
    height, width = layout.frame_shape
    step = float(np.diff(layout.x_px)[0]), float(np.diff(layout.y_px)[0])
    shear = float(layout.shear[0]), float(layout.shear[1])
    reach = int(np.ceil(np.abs(shear).max() * height + 2 * field.max_px))
    top, left = (int(np.floor(v + 0.5)) for v in step[::-1])
    there = Box(top, left, top + height, left + width).expand(reach)
    part = there.intersect(Box(0, 0, height, width))
    if part.empty:
        return None
    columns, rows = (
        np.arange(part.x0, part.x1, dtype=float),
        np.arange(part.y0, part.y1, dtype=float),
    )
    along_x, at_y, at_x = field.meets(columns, rows, step=step, shear=shear)
    distance = np.minimum(border_distance_px(at_y, height), border_distance_px(at_x, width))
    feather = np.asarray(np.clip(distance / feather_px, 0, 1), np.float32)
    if not feather.any():
        return None
    plane, noise = neighbour
    pixels = resample(plane, along_x, at_y) * np.float32(grey[0]) + np.float32(grey[1])
    return PlacedFrame(part, pixels, feather * ~_flat(pixels, noise), noise)


def _flat(pixels: FloatFrame, noise: NoiseModel) -> npt.NDArray[np.bool_]:
    """True in and within reach of the filter of what is filled or saturated: it has no noise."""
    near = np.ones((3, 3), np.uint8)
    range_ = cv2.dilate(pixels, near) - cv2.erode(pixels, near)
    flat = range_ < FLAT * np.sqrt(noise.mean_variance)
    reach = np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)
    return cv2.dilate(flat.astype(np.uint8), reach) > 0


def average_placed(frame: Frame, noise: NoiseModel, placed: Sequence[PlacedFrame]) -> FloatFrame:
    """The mean (h, w) float32 of `frame` and its placed neighbours, weighted by inverse variance.

    A neighbour's weight is feathered, and lowered where it shows something else: where `misfit`
    is above what noise explains. Weights never exceed those of the least variance, so the noise
    does not become worse than that of `frame`. Pixels without neighbours keep their values
    exactly. `noise` must not be zero.
    """
    own = np.asarray(frame, np.float32)
    window = gaussian_kernel(WINDOW_PX)
    own_variance = noise.variance(level := separable(own, window, window))
    variances = [other.noise.variance(level[other.box.slices]) for other in placed]
    misfits = []
    for other, variance in zip(placed, variances, strict=True):
        there = other.box.slices
        difference = np.where(other.feather > 0, other.pixels - own[there], np.float32(0))
        misfits.append(misfit(difference, own_variance[there] + variance))
    usual = usual_misfit(misfits)
    total, weights = own.copy(), np.ones_like(own)
    for other, variance, found in zip(placed, variances, misfits, strict=True):
        there = other.box.slices
        own_part = own_variance[there]
        ratio = own_part / np.maximum(variance, own_part / np.float32(MAX_RATIO))
        weight = other.feather * agreement(found / np.float32(usual)) * ratio
        total[there] += weight * other.pixels
        weights[there] += weight
    return np.asarray(total / weights, np.float32)


def misfit(difference: FloatFrame, variance: FloatFrame) -> FloatFrame:
    """Local mean square of the smoothed `difference` (h, w) of two pictures, per white noise.

    `variance` (h, w) is that of the difference by noise alone, for which the mean is 1. Merging
    what differs by no more than noise is the idea of Hasinoff et al. (2016, section 5), here
    with a local chi-square statistic in place of Fourier coefficients.
    """
    smooth, window = gaussian_kernel(SMOOTH_PX), gaussian_kernel(WINDOW_PX)
    left = float((smooth.astype(np.float64) ** 2).sum() ** 2)  # of white noise, by the smoothing
    squares = separable(difference, smooth, smooth) ** 2 / (np.float32(left) * variance)
    return separable(np.asarray(squares, np.float32), window, window)


def usual_misfit(misfits: Sequence[FloatFrame]) -> float:
    """The `misfit` by noise alone: 1, or up to 2.5 where pixels share noise.

    Shared noise raises the misfit of all neighbours everywhere, a wrong place that of one: what
    counts is the neighbour of the least lower quartile. With a single one the two cannot be
    told apart, and noise is taken to be white.
    """
    if len(misfits) < 2:
        return 1.0
    # A mean of squares of normal noise follows about a gamma distribution (Box 1954).
    shape = misfit_spread() ** -2
    quartile = gammaincinv(shape, 0.25) / shape
    return float(np.clip(min(np.quantile(m, 0.25) for m in misfits) / quartile, 1, MAX_SHARED))


def agreement(found: FloatFrame) -> FloatFrame:
    """The share of its weight, 1 to 0, that a neighbour keeps at a `misfit`."""
    sigmas = (found - 1) / np.float32(misfit_spread())
    return np.clip((np.float32(NONE) - sigmas) / np.float32(NONE - FULL), 0, 1)


def misfit_spread() -> float:
    """Standard deviation of `misfit` for white noise.

    The correlation of the smoothed noise at a distance r is exp(-r^2 / (4 s^2)); its square,
    summed over the window's own autocorrelation, is s^2 / (2 w^2 + s^2).
    """
    return float(np.sqrt(2 * SMOOTH_PX**2 / (2 * WINDOW_PX**2 + SMOOTH_PX**2)))
