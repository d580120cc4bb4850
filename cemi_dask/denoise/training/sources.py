"""Sources of batches: clean pictures with a degradation, and aligned pairs of pictures.

Both cut random patches, turn them in the eight ways that a square has, and change brightness
and contrast; all from (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.denoise.training.batches import Batch, Float32, Rng, as_tensor, step_rng
from cemi_dask.denoise.training.degradation import MicroscopeNoise, Range
from cemi_dask.errors import InputError

T = TypeVar("T")
Picture = npt.NDArray[np.float16] | Float32
HELD_OUT_SHARE = 0.1


class Augmentation(BaseModel):
    """How patches are changed before they are used: grey' = contrast * grey + brightness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: bool = Field(default=True, description="Rotations by 90 degrees and mirror images.")
    contrast: Range = Field(default=(1.0, 1.0), description="Factor of the grey levels.")
    brightness: Range = Field(default=(0.0, 0.0), description="Added to grey levels of 0..1.")

    def draw(self, rng: Rng) -> tuple[int, np.float32, np.float32]:
        """(number of a turn 0..7, contrast, brightness) of one patch."""
        turn = int(rng.integers(8)) if self.turns else 0
        return (
            turn,
            np.float32(rng.uniform(*self.contrast)),
            np.float32(rng.uniform(*self.brightness)),
        )


def turned(picture: npt.NDArray[np.float32], turn: int) -> Float32:
    """`picture` (y, x) in one of the eight ways that a square has, 0..7; 0 is as it was."""
    flipped = picture[:, ::-1] if turn >= 4 else picture
    return np.rot90(flipped, turn % 4)


@dataclass(frozen=True)
class CleanPictures:
    """Batches from clean pictures: patches with noise drawn afresh in each step.

    `pictures` are (y, x) of at least `patch_px` each way, float grey levels 0..1. Targets are
    clipped to 0..1, as the noisy pictures are.
    """

    pictures: Sequence[Picture]
    degradation: MicroscopeNoise
    batch: int
    patch_px: int
    seed: int
    augmentation: Augmentation

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng = step_rng(self.seed, step)
        noisy, target = [], []
        for _ in range(self.batch):
            picture = self.pictures[int(rng.integers(len(self.pictures)))]
            turn, contrast, brightness = self.augmentation.draw(rng)
            patch = picture[crop(picture.shape, self.patch_px, rng)].astype(np.float32)
            clean = np.ascontiguousarray(turned(patch, turn))
            clean = np.clip(contrast * clean + brightness, 0, 1)
            target.append(clean)
            noisy.append(self.degradation(clean, rng))
        return Batch(as_tensor(noisy), as_tensor(target))


def crop(shape: tuple[int, ...], size_px: int, rng: Rng) -> tuple[slice, slice]:
    """A random window of `size_px` squared in a picture of `shape`."""
    y, x = (int(rng.integers(side - size_px + 1)) for side in shape)
    return slice(y, y + size_px), slice(x, x + size_px)


def split(pictures: Sequence[T], *, seed: int) -> tuple[list[T], list[T]]:
    """(pictures to train on, a tenth of them held out), drawn at random; one or more each.

    Raises InputError for fewer than two.
    """
    if len(pictures) < 2:
        raise InputError(
            f"{len(pictures)} picture(s) cannot be split: at least one is held out for validation."
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = max(1, round(HELD_OUT_SHARE * len(pictures)))
    return [pictures[k] for k in order[held:]], [pictures[k] for k in order[:held]]
