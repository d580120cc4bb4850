"""The robust mean of a frame and its further looks, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Box = tuple[slice, slice]

CLIP_SIGMAS = 2.5  # deviations from the robust centre count up to here (Huber's estimator),
DROP_SIGMAS = 4.5  # and not at all beyond: a damaged pixel must leave no trace
STRIP_ROWS = 48  # rows averaged at once: their arrays fit into the cache


@dataclass(frozen=True)
class Layer:
    """A look on the frame's pixels: values (y, x) that fill `box`, grey levels matched.

    `move_px` (dx, dy) is its displacement.
    """

    values: F32
    box: Box
    move_px: tuple[float, float]


def common(first: slice, second: slice) -> slice:
    """What two ranges share; empty where they do not meet."""
    start = max(first.start, second.start)
    return slice(start, max(start, min(first.stop, second.stop)))


def part_of(layer: Layer, box: Box) -> F32:
    """A layer's values in a box of the frame that lies inside its own."""
    rows, cols = (
        slice(part.start - own.start, part.stop - own.start, part.step)
        for part, own in zip(box, layer.box, strict=True)
    )
    return layer.values[rows, cols]


def robust_mean(
    frame: F32, layers: Sequence[Layer]
) -> tuple[F32, npt.NDArray[np.int16], tuple[float, float]]:
    """(mean (y, x), pictures per pixel, (noise before, noise after)) of a frame and its looks."""
    mean, cover = np.empty_like(frame), np.ones(frame.shape, np.int16)
    if not layers:
        return frame, cover, (float("nan"), float("nan"))
    sigma = float(np.median([_pair_sigma(frame, layer) for layer in layers]))
    sums = np.zeros(4)
    for start in range(0, frame.shape[0], STRIP_ROWS):
        rows = slice(start, min(start + STRIP_ROWS, frame.shape[0]))
        parts = list(_in_strip(layers, rows))
        mean[rows], cover[rows], scatter = _mean_of_strip(frame[rows], parts, sigma)
        sums += scatter
    before = np.sqrt(sums[0] / max(sums[1], 1.0))
    # Pixels that no look shows keep the noise they had.
    after = np.sqrt((sums[2] + (sums[3] - sums[1]) * before**2) / sums[3])
    return mean, cover, (float(before), float(after))


def _pair_sigma(frame: F32, layer: Layer) -> float:
    """Noise of one picture from the differences of two, robustly; never quite zero."""
    sample = layer.values[::4, ::4] - frame[layer.box][::4, ::4]
    sigma = 1.4826 * float(np.median(np.abs(sample))) / np.sqrt(2)
    return max(sigma, 1e-3 * float(np.ptp(frame)), 1e-12)


def _in_strip(layers: Sequence[Layer], rows: slice) -> Iterator[tuple[F32, Box]]:
    """Each layer's values in a strip of rows, and where they lie in it."""
    for layer in layers:
        shared = common(rows, layer.box[0])
        if shared.start < shared.stop:
            values = part_of(layer, (shared, layer.box[1]))
            inside = slice(shared.start - rows.start, shared.stop - rows.start)
            yield values, (inside, layer.box[1])


def _mean_of_strip(
    frame: F32, parts: Sequence[tuple[F32, Box]], sigma: float
) -> tuple[F32, npt.NDArray[np.int16], F64]:
    """(mean, pictures per pixel, sums for the noise) of a strip of a frame.

    The sums are over every pixel with a second look: squared deviation of the frame from the
    mean times n / (n - 1), their number, squared standard error of the mean; and all pixels.
    """
    centre, count = _centre(frame, parts)
    clip, drop = np.float32(CLIP_SIGMAS * sigma), np.float32(DROP_SIGMAS * sigma)
    whole = slice(0, frame.shape[0]), slice(0, frame.shape[1])
    total, square = np.zeros_like(frame), np.zeros_like(frame)
    own = np.zeros_like(frame)
    for values, box in [(frame, whole), *parts]:
        off = values - centre[box]
        off[np.abs(off) > drop] = 0
        np.clip(off, -clip, clip, out=off)
        total[box] += off
        square[box] += off * off
        if values is frame:
            own = off
    shift = total / count
    several = count > 1
    spread = np.maximum(square - total * shift, 0)
    rest = np.maximum(count - 1, 1)
    deviation = (own - shift) ** 2 * count / rest
    sums = np.array(
        [
            deviation[several].sum(dtype=np.float64),
            several.sum(),
            (spread / (count * rest))[several].sum(dtype=np.float64),
            several.size,
        ]
    )
    return centre + shift, count.astype(np.int16), sums


def _centre(frame: F32, parts: Sequence[tuple[F32, Box]]) -> tuple[F32, F32]:
    """(robust centre, number of pictures) per pixel: a mean without the extremes.

    Of five and more pictures the two highest and the two lowest values are left out, of three
    and four one each (which is the median of up to six); of two the frame's own value stands,
    since nothing says which of them is wrong.
    """
    count, total = np.ones_like(frame), frame.copy()
    high, low = frame.copy(), frame.copy()
    next_high, next_low = np.full_like(frame, -np.inf), np.full_like(frame, np.inf)
    for values, box in parts:
        count[box] += 1
        total[box] += values
        np.maximum(next_high[box], np.minimum(high[box], values), out=next_high[box])
        np.maximum(high[box], values, out=high[box])
        np.minimum(next_low[box], np.maximum(low[box], values), out=next_low[box])
        np.minimum(low[box], values, out=low[box])
    many = count >= 5
    left_out = np.add(next_high, next_low, out=np.zeros_like(frame), where=many)
    kept = np.maximum(count - np.where(many, np.float32(4), np.float32(2)), 1)
    return np.where(count >= 3, (total - high - low - left_out) / kept, frame), count
