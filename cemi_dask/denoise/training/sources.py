"""Sources of batches: clean pictures with a degradation, and aligned pairs of pictures.

Both cut random patches, turn them in the eight ways that a square has, and change brightness
and contrast; all from (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.degradation import (
    MicroscopeNoise,
    PaperDegradation,
    Range,
)
from cemi_dask.errors import InputError
from cemi_dask.learn.batches import Float32, Rng, as_tensor, crop, step_rng, turned

Picture = npt.NDArray[np.float16] | Float32
HELD_OUT_BATCHES = 4  # what validation looks at
MIN_KNOWN, MAX_DRAWS = 0.6, 8  # share of a patch that is to be known, and tries to find such


class Augmentation(BaseModel):
    """How patches are changed before they are used: grey' = contrast * grey + brightness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: bool = Field(default=True, description="Rotations by 90 degrees and mirror images.")
    contrast: Range = Field(
        default=(1.0, 1.0), description="Factor of the grey levels, drawn for each patch."
    )
    brightness: Range = Field(
        default=(0.0, 0.0), description="What is then added to grey levels of 0..1."
    )

    def draw(self, rng: Rng) -> tuple[int, np.float32, np.float32]:
        """(number of a turn 0..7, contrast, brightness) of one patch."""
        turn = int(rng.integers(8)) if self.turns else 0
        return (
            turn,
            np.float32(rng.uniform(*self.contrast)),
            np.float32(rng.uniform(*self.brightness)),
        )


@dataclass(frozen=True)
class CleanPictures:
    """Batches from clean pictures: patches with noise drawn afresh in each step.

    `pictures` are (y, x), float grey levels 0..1. Targets are clipped to 0..1, as the noisy
    pictures are. Raises InputError for a picture that is smaller than a patch.
    """

    pictures: Sequence[Picture]
    degradation: PaperDegradation | MicroscopeNoise
    batch: int
    patch_px: int
    seed: int
    augmentation: Augmentation

    def __post_init__(self) -> None:
        check_sizes(self.pictures, self.patch_px)

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


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """A noisy and a sharp picture of one field on one grid, (y, x), grey levels 0..1.

    `mask`: bool, where the sharp picture has pixels; None is everywhere. Outside of it `target`
    may hold anything finite.
    """

    noisy: Float32
    target: Float32
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class AlignedPairs:
    """Batches from aligned pairs: the same patch, turn and change of grey levels in both.

    Raises InputError for a pair whose pictures differ in shape, or are smaller than a patch.
    """

    pairs: Sequence[AlignedPair]
    batch: int
    patch_px: int
    seed: int
    augmentation: Augmentation

    def __post_init__(self) -> None:
        for number, pair in enumerate(self.pairs):
            if pair.noisy.shape != pair.target.shape:
                raise InputError(
                    f"Pair {number} has pictures of {pair.noisy.shape} and {pair.target.shape} px. "
                    "Bring them onto one grid first."
                )
        check_sizes([pair.noisy for pair in self.pairs], self.patch_px)

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng = step_rng(self.seed, step)
        noisy, target, mask = [], [], []
        for _ in range(self.batch):
            pair = self.pairs[int(rng.integers(len(self.pairs)))]
            turn, contrast, brightness = self.augmentation.draw(rng)
            window = self._window(pair, rng)
            noisy.append(contrast * turned(pair.noisy[window], turn) + brightness)
            target.append(contrast * turned(pair.target[window], turn) + brightness)
            known = np.ones(pair.noisy.shape, bool) if pair.mask is None else pair.mask
            mask.append(turned(known[window].astype(np.float32), turn))
        return Batch(as_tensor(noisy), as_tensor(target), as_tensor(mask))

    def _window(self, pair: AlignedPair, rng: Rng) -> tuple[slice, slice]:
        """A window of which most is known, if a few draws find one."""
        window = crop(pair.noisy.shape, self.patch_px, rng)
        if pair.mask is not None:
            for _ in range(MAX_DRAWS):
                if pair.mask[window].mean() >= MIN_KNOWN:
                    break
                window = crop(pair.noisy.shape, self.patch_px, rng)
        return window


def check_sizes(pictures: Sequence[Picture], patch_px: int) -> None:
    """InputError where a picture is smaller than a patch."""
    for number, picture in enumerate(pictures):
        if min(picture.shape) < patch_px:
            raise InputError(
                f"Picture {number} has {picture.shape[0]} x {picture.shape[1]} px; a patch has "
                f"{patch_px}. Lower patch_px or leave the picture out."
            )
