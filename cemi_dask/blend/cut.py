"""The cut between two overlapping frames along which they differ least.

A cut is a function of its two frames alone, so that every shard finds the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.blend.method import Float32, Mask, ShiftedFrame
from cemi_dask.geometry import Box

Float64 = npt.NDArray[np.float64]

# Cells are 2 x 2 px of the mosaic, at even places.
CELL_PX = 2
# Frames are smoothed before they are compared, and their squared difference after, both by a
# Gaussian (sigma in cells): LD noise must not steer the cut.
_SMOOTH_CELLS = 1.0
_SPREAD_CELLS = 2.0
# Price of a cell beside its squared difference, in shares of the mean one: a floor that makes
# short cuts cheap, and a pull from the border of the overlap to its middle.
_FLOOR, _PULL = 0.1, 0.2
# Borders nearer to each other than this share of the frame's side are taken as one line, on
# which a cut may end anywhere; otherwise it pays for the border that it leaves visible.
_ONE_LINE = 0.1


@dataclass(frozen=True)
class Cells:
    """A frame in cells: smoothed grey levels (h, w) and where they are sound; `box` in cells."""

    box: Box
    grey: Float32
    sound: Mask
    corner: tuple[int, int]
    frame_shape: tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """Where the second of two frames takes over from the first.

    ``places[k]`` is the first cell across the cut, on line ``first_line + k``, that lies on its
    far side (right or below). Lines are rows of cells where the cut runs `down`, else columns.
    """

    places: npt.NDArray[np.int64]
    first_line: int
    down: bool
    second_is_far: bool

    def second_side(self, part: Box) -> Mask:
        """Which pixels of `part` (mosaic px) lie on the second frame's side."""
        y, x = (np.arange(a, b) // CELL_PX for a, b in ((part.y0, part.y1), (part.x0, part.x1)))
        line, across = (y, x) if self.down else (x, y)
        place = self.places[np.clip(line - self.first_line, 0, len(self.places) - 1)]
        far = across >= place[:, None]
        return (far if self.down else far.T) == self.second_is_far


def cells_of(frame: ShiftedFrame, pixels: Float32) -> Cells:
    """The cells that lie wholly in the frame's box."""
    box = frame.box
    cells = Box(-(-box.y0 // 2), -(-box.x0 // 2), box.y1 // 2, box.x1 // 2)
    whole = Box(*(CELL_PX * n for n in (cells.y0, cells.x0, cells.y1, cells.x1)))
    inner = np.ascontiguousarray(pixels[whole.relative_to(box).slices])
    height, width = cells.shape
    grey = cv2.resize(inner, (width, height), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(grey, (0, 0), _SMOOTH_CELLS)
    sound = frame.sound(whole).reshape(height, CELL_PX, width, CELL_PX).all(axis=(1, 3))
    return Cells(cells, np.asarray(grey, np.float32), np.asarray(sound), frame.corner, frame.shape)


def cut_between(first: Cells, second: Cells) -> Cut:
    """The cheapest cut through the overlap, from end to end, by dynamic programming.

    The price of a cell is the squared difference of the smoothed frames (Efros and Freeman
    2001, SIGGRAPH, 341; Davis 1998, CVPR, 354; Kwatra et al. 2003, ACM Trans. Graph. 22, 277).
    The cut runs along the border that the frames share most of, from line to line, and may run
    along a line. Where the frames' corners lie apart, it is led from one corner of the overlap
    to the other: what it leaves of a frame's border is paid for like any other part of the cut.
    An overlap without a whole sound cell stays with the first frame.
    """
    dy, dx = (b - a for a, b in zip(first.corner, second.corner, strict=True))
    height, width = first.frame_shape
    down = abs(dx) * height >= abs(dy) * width
    overlap = first.box.intersect(second.box)
    here, there = (overlap.relative_to(frame.box).slices for frame in (first, second))
    both = first.sound[here] & second.sound[there]
    lines, across = (np.flatnonzero(both.any(axis=axis)) for axis in (1, 0))
    if not lines.size:
        return Cut(np.array([np.iinfo(np.int64).max]), 0, True, True)
    inner = np.s_[lines[0] : lines[-1] + 1, across[0] : across[-1] + 1]
    difference = (first.grey[here] - second.grey[there]) ** 2
    smooth = cv2.GaussianBlur(difference, (0, 0), _SPREAD_CELLS)
    square: Float64 = smooth[inner].astype(np.float64)
    origin = (overlap.y0 + int(lines[0]), overlap.x0 + int(across[0]))
    both = both[inner]
    if not down:
        square, both, origin, dy, dx, height = square.T, both.T, origin[::-1], dx, dy, width
    price = _prices(square, both)
    ends = _prices_of_ends(price * both, near_is_above=(dy > 0) == (dx >= 0))
    places = least_cut(price, *(ends if abs(dy) > _ONE_LINE * height else np.zeros_like(ends)))
    return Cut(places + origin[1], origin[0], down, dx >= 0)


def least_cut(price: Float64, start: Float64, end: Float64) -> npt.NDArray[np.int64]:
    """On each of n lines, the place (0..m-1) at which the cheapest cut leaves it.

    `price` (n, m) of each cell the cut passes, `start` and `end` (m) of beginning on the first
    and ending on the last line at a place. From line to line the cut goes straight on, then
    along the new line to wherever it leaves it.
    """
    n, m = price.shape
    before = np.zeros((n, m + 1))  # price of a line's cells before each place
    np.cumsum(price, axis=1, out=before[:, 1:])
    came_from = np.zeros((n, m), np.int64)
    total = start + price[0]
    for k in range(1, n):
        # From place j to place i the cut passes the cells from j to i, either way.
        rightwards, leftwards = total - before[k, :-1], total + before[k, 1:]
        from_left = _place_of_least_so_far(rightwards)
        from_right = m - 1 - _place_of_least_so_far(leftwards[::-1])[::-1]
        rightwards = rightwards[from_left] + before[k, 1:]
        leftwards = leftwards[from_right] - before[k, :-1]
        came_from[k] = np.where(leftwards < rightwards, from_right, from_left)
        total = np.minimum(leftwards, rightwards)
    places = np.empty(n, np.int64)
    places[-1] = np.argmin(total + end)
    for k in range(n - 1, 0, -1):
        places[k - 1] = came_from[k, places[k]]
    return places


def _place_of_least_so_far(values: Float64) -> npt.NDArray[np.int64]:
    """For each place, that of the least of the values up to it (the last of equals)."""
    least = values == np.minimum.accumulate(values)
    return np.maximum.accumulate(np.where(least, np.arange(values.size), 0))


def _prices(square: Float64, both: Mask) -> Float64:
    """Price (n, m) of each cell; where not both frames are sound, more than any way round."""
    mean = square[both].mean()
    scale = mean if mean > 0 else 1.0
    count = square.shape[1]
    from_middle = (np.arange(count) - (count - 1) / 2) / (count / 2)
    price = square + scale * (_FLOOR + _PULL * from_middle**2)
    return np.where(both, price, price.max() * price.size)


def _prices_of_ends(price: Float64, *, near_is_above: bool) -> Float64:
    """Prices (2, m) of beginning and of ending a cut at each place.

    Above the overlap lies one frame alone, below it the other. On the first line, the frame that
    is not above shows its border on its own side of the cut, and so on the last line.
    """
    near = np.cumsum(price[[0, -1]], axis=1) - price[[0, -1]]
    far = price[[0, -1]].sum(axis=1, keepdims=True) - near
    return np.stack([far[0], near[1]] if near_is_above else [near[0], far[1]])
