"""`LookPairs`: batches from frames that overlap, two noisy looks at one place each.

Noise2Noise (Lehtinen et al. 2018): a network that is to give one noisy look from another can
only learn what both share, which is the picture, if their noise is independent and has mean
zero. So the noisy target is never interpolated, which would smooth its noise: the network's
output is moved onto the target's pixels instead (`Placing`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.inference import grey_scale
from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.independence import noise_variance
from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.learn.batches import Float32, Rng, as_tensor, step_rng, turned
from cemi_dask.resample import MARGIN_PX

MAX_RESIDUAL_PX = 0.3  # pairs that miss each other by more than this teach the network to blur
POOL_PAIRS, POOL_STEPS = 32, 64  # so many pairs are drawn from for so many steps: few reads
KEPT_FRAMES = 4 * POOL_PAIRS  # those of two pools

Read = Callable[[int], npt.NDArray[Any]]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Look:
    """One patch seen twice: `noisy` is to become `target`, (y, x) in 0..1 of their own frames.

    `target` is `MARGIN_PX` smaller on each side. The picture of `noisy` lies on the target's
    pixels when it is moved `right_px`, `down_px` (-0.5..0.5) and scaled by `scale`, `offset`.
    """

    noisy: Float32
    target: Float32
    right_px: float
    down_px: float
    scale: float
    offset: float

    def turned(self, turn: int) -> Look:
        """The same, turned in one of the eight ways of a square; see `sources.turned`."""
        right, down = self.right_px, self.down_px
        if turn >= 4:
            right = -right
        for _ in range(turn % 4):  # a quarter turn to the left takes down to right, right to up
            right, down = down, -right
        noisy, target = turned(self.noisy, turn), turned(self.target, turn)
        return Look(noisy, target, right, down, self.scale, self.offset)

    def alike(self) -> tuple[Float32, Float32, float, float]:
        """Both patches in one size and grey scale, and the shift: what `noise_power` takes."""
        inner = self.noisy[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
        return self.scale * inner + self.offset, self.target, self.right_px, self.down_px


@dataclass(frozen=True, eq=False)
class LookPairs:
    """Batches from pairs of frames: patches in random places of their overlap, either way round.

    `read` gives frame k (y, x), a uint8, uint16 or float32 picture, and is called from threads;
    of what it gave the last 128 frames are kept. `layout` says where frames lie and how their
    grey levels agree, `pairs` (n, 2) which may be used (see `usable_pairs`). In any 64 steps
    32 pairs are drawn from, often those that share much. With `validates`, batches also know
    the variance of their targets' noise.
    """

    read: Read
    layout: Layout
    pairs: Pairs
    batch: int
    patch_px: int
    seed: int
    turns: bool = True
    validates: bool = False

    def __post_init__(self) -> None:
        if not len(self.pairs):
            raise InputError("There is no pair of frames to train on.")
        object.__setattr__(self, "read", functools.lru_cache(maxsize=KEPT_FRAMES)(self.read))

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        from cemi_dask.denoise.training.placing import Placing

        rng, pool = step_rng(self.seed, step), self._pool(step // POOL_STEPS)
        looks = []
        for _ in range(self.batch):
            first, second = pool[int(rng.integers(len(pool)))]
            if rng.random() < 0.5:
                first, second = second, first
            look = self.look(int(first), int(second), rng)
            looks.append(look.turned(int(rng.integers(8))) if self.turns else look)
        numbers = ("right_px", "down_px", "scale", "offset")
        place = Placing(*(np.array([getattr(k, name) for k in looks]) for name in numbers))
        variance = None
        if self.validates:
            variance = as_tensor([np.full((1, 1), noise_variance(*k.alike())) for k in looks])
        noisy, target = as_tensor([k.noisy for k in looks]), as_tensor([k.target for k in looks])
        return Batch(noisy, target, place=place, noise_variance=variance)

    def _pool(self, number: int) -> Pairs:
        """The pairs that a stretch of steps draws from, more often those of large overlap."""
        area = overlap_px(self.layout, self.pairs).prod(axis=1)
        rng = np.random.default_rng((self.seed, number, 1))
        return self.pairs[rng.choice(len(self.pairs), POOL_PAIRS, p=area / area.sum())]

    def look(self, first: int, second: int, rng: Rng) -> Look:
        """A patch of frame `first`, and the same place in frame `second`."""
        size, (height, width) = self.patch_px, self.layout.frame_shape
        down = float(self.layout.y_px[first] - self.layout.y_px[second])
        field = self.layout.distortion
        inset = 0 if field is None else 1 + int(np.ceil(2 * field.max_px))
        y = _window(down, height, size, inset, rng)
        line = y + (size - 1) / 2
        right = shift_x(self.layout, first, second, line)
        x = _window(right, width, size, inset, rng)
        if field is not None:
            column = x + (size - 1) / 2
            bend = field.at(column, line) - field.at(column + right, line + down)
            right, down = right + float(bend[0]), down + float(bend[1])
        (by_x, right_px), (by_y, down_px) = _whole(right), _whole(down)
        mine, other = self.read(first), self.read(second)
        inner = size - 2 * MARGIN_PX
        top, left = y + by_y + MARGIN_PX, x + by_x + MARGIN_PX
        mine_scale, other_scale = grey_scale(mine), grey_scale(other)
        gain, offset = self.layout.gain, self.layout.offset
        # From 0..1 of the first frame to grey levels, to those of the second, to its 0..1.
        ratio = float(gain[first] / gain[second])
        level = float((offset[first] - offset[second]) / gain[second])
        level += ratio * mine_scale.offset - other_scale.offset
        return Look(
            mine_scale.to_unit(mine[y : y + size, x : x + size]),
            other_scale.to_unit(other[top : top + inner, left : left + inner]),
            right_px,
            down_px,
            ratio * mine_scale.span / other_scale.span,
            level / other_scale.span,
        )


def shift_x(layout: Layout, first: int, second: int, line: float) -> float:
    """How far right (px) line `line` of frame `first` lies in frame `second`."""
    middle = (layout.frame_shape[0] - 1) / 2
    other_line = line + layout.y_px[first] - layout.y_px[second]
    places = (
        layout.x_px[k] + layout.shear[k] * (y - middle)
        for k, y in ((first, line), (second, other_line))
    )
    return float(next(places) - next(places))


def overlap_px(layout: Layout, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Height and width (n, 2) of what the frames of each pair share in every line; at least 0."""
    first, second = pairs.T
    apart = np.stack(
        [
            np.abs(layout.y_px[first] - layout.y_px[second]),
            np.abs(layout.x_px[first] - layout.x_px[second])
            + np.abs(layout.shear[pairs]).max(axis=1) * layout.frame_shape[0],
        ],
        axis=1,
    )
    # Rounding a displacement to whole px may cost one on either side, the distortion more.
    bent = 0 if layout.distortion is None else 2 * (1 + np.ceil(2 * layout.distortion.max_px))
    return np.maximum(0, np.floor(np.array(layout.frame_shape) - apart - 1 - bent))


def usable_pairs(
    layout: Layout, pairs: Pairs, residual_px: npt.NDArray[np.float64], *, patch_px: int
) -> Pairs:
    """The pairs (n, 2) of used frames that agree with the layout to 0.3 px all over a patch,
    and share one of `patch_px` squared.

    `residual_px` (n) is how far the displacement that was measured lies from the layout's; a
    pair whose NaN says that none was is left out. Frames of different shear drift apart from
    line to line; half a patch of that is added.
    """
    tilt = np.abs(layout.shear[pairs[:, 0]] - layout.shear[pairs[:, 1]]) * patch_px / 2
    kept = (
        (residual_px + tilt <= MAX_RESIDUAL_PX)
        & (overlap_px(layout, pairs).min(axis=1) >= patch_px)
        & layout.used[pairs].all(axis=1)
    )
    return pairs[kept]


def _window(shift: float, length: int, size: int, inset: int, rng: Rng) -> int:
    """First px of a random window of the first frame whose place in the second, `shift` px
    further on, keeps `inset` px from its ends, along one axis."""
    whole = _whole(shift)[0]
    first, last = max(0, inset - whole), min(length, length - whole - inset) - size
    return int(rng.integers(first, last + 1))


def _whole(shift: float) -> tuple[int, float]:
    """A shift as whole px and the fraction that is left, -0.5 to 0.5."""
    whole = int(np.floor(shift + 0.5))
    return whole, shift - whole
