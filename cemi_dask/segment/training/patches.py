"""`LabelledPatches`: batches from labelled pictures, every picture as often as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.learn.batches import Float32, Rng, as_tensor, crop, step_rng, turned
from cemi_dask.segment.tiles import standardised
from cemi_dask.segment.training.options import Augmentation
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

UNKNOWN = 255  # label of pixels that nobody has labelled: no loss, no measure
Uint8 = npt.NDArray[np.uint8]
Degrade = Callable[[Float32, Rng], Float32]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture (y, x), grey levels of about 0..1, and its labels (y, x), uint8.

    Labels: 0 the rest, 1, 2, ... in the order of the training's labels, 255 not known.
    Raises InputError where the two differ in shape.
    """

    name: str
    picture: npt.NDArray[Any]
    labels: Uint8

    def __post_init__(self) -> None:
        if self.picture.shape != self.labels.shape:
            raise InputError(
                f"{self.name}: the picture has {self.picture.shape} px and its labels "
                f"{self.labels.shape}. They must be those of one picture."
            )


@dataclass(frozen=True, eq=False)
class SegmentBatch:
    """Standardised pictures (n, 1, y, x) float32 and labels (n, y, x) int64, 255 not known."""

    pictures: torch.Tensor
    labels: torch.Tensor

    def to(self, device: str) -> SegmentBatch:
        """The same batch on another device."""
        return SegmentBatch(self.pictures.to(device), self.labels.to(device))


def make_batch(pictures: Sequence[Float32], labels: Sequence[Uint8]) -> SegmentBatch:
    """A batch of pictures (y, x), which are standardised, and labels (y, x)."""
    ready = [standardised(picture, np.ones(picture.shape, bool)) for picture in pictures]
    stack = np.ascontiguousarray(np.stack(labels)).astype(np.int64)
    return SegmentBatch(as_tensor(ready), import_torch().from_numpy(stack))


@dataclass(frozen=True)
class LabelledPatches:
    """Batches of random patches; in each epoch every picture gives `per_picture` of them.

    `degrade` adds the microscope's noise to a patch of a clean picture. Raises InputError for
    a picture that is smaller than a patch.
    """

    examples: Sequence[Labelled]
    batch: int
    patch_px: int
    seed: int
    augmentation: Augmentation
    per_picture: int = 1
    degrade: Degrade | None = None

    def __post_init__(self) -> None:
        for example in self.examples:
            if min(example.picture.shape) < self.patch_px:
                height, width = example.picture.shape
                raise InputError(
                    f"{example.name} has {height} x {width} px; a patch has {self.patch_px}. "
                    "Lower patch_px or leave the picture out."
                )

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every picture is used `per_picture` times, rounded up."""
        return -(-len(self.examples) * self.per_picture // self.batch)

    def __call__(self, step: int) -> SegmentBatch:
        """The batch of a step."""
        rng = step_rng(self.seed, step)
        pictures, labels = [], []
        for place in range(step * self.batch, (step + 1) * self.batch):
            example = self.examples[self._which(place)]
            picture, label = augmented(example, self.patch_px, self.augmentation, rng)
            if self.degrade is not None:
                picture = self.degrade(picture, rng)
            pictures.append(picture)
            labels.append(label)
        return make_batch(pictures, labels)

    def _which(self, place: int) -> int:
        """Number of the picture that the patch `place` comes from: each epoch in its own order."""
        count = len(self.examples)
        turn, number = divmod(place, count)
        return int(np.random.default_rng((self.seed, turn, 1)).permutation(count)[number])


def augmented(
    example: Labelled, size_px: int, options: Augmentation, rng: Rng
) -> tuple[Float32, Uint8]:
    """A random patch of a picture, changed as `options` say, and its labels."""
    shape = example.picture.shape
    if rng.random() < options.rotation:
        angle, scale = rng.uniform(0, 360), rng.uniform(*options.scale)
        # The patch's middle lies where a patch that is not rotated could have it.
        y, x = (rng.uniform(size_px / 2, side - size_px / 2) for side in shape)
        picture, label = _rotated(example, (y, x), size_px, float(angle), float(scale))
    else:
        window = crop(shape, size_px, rng)
        picture = np.asarray(example.picture[window], np.float32)
        label = example.labels[window]
    turn = int(rng.integers(8)) if options.turns else 0
    picture, label = turned(picture, turn), turned(label, turn)
    sigma = rng.uniform(*options.blur_px)
    if sigma > 0:
        picture = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), sigma))
    contrast, brightness = rng.uniform(*options.contrast), rng.uniform(*options.brightness)
    picture = np.asarray(contrast * picture + brightness, np.float32)
    sigma = rng.uniform(*options.noise)
    if sigma > 0:
        picture = picture + np.float32(sigma) * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture, 0, 1), np.ascontiguousarray(label)


def _rotated(
    example: Labelled, centre: tuple[float, float], size_px: int, angle: float, scale: float
) -> tuple[Float32, Uint8]:
    """A rotated patch around `centre` (y, x); beyond the picture it is mirrored.

    OpenCV's 1/32 px is good enough for training.
    """
    matrix = cv2.getRotationMatrix2D((centre[1] - 0.5, centre[0] - 0.5), angle, scale)
    shift = [(size_px - 1) / 2 - (place - 0.5) for place in (centre[1], centre[0])]
    matrix = np.asarray(matrix) + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    out, border = (size_px, size_px), cv2.BORDER_REFLECT_101
    picture = example.picture.astype(np.float32)
    grey = cv2.warpAffine(picture, matrix, out, flags=cv2.INTER_CUBIC, borderMode=border)
    label = cv2.warpAffine(example.labels, matrix, out, flags=cv2.INTER_NEAREST, borderMode=border)
    return np.asarray(grey, np.float32), np.asarray(label, np.uint8)


def held_out_batches(
    examples: Sequence[Labelled], patch_px: int, batch: int, *, degrade: Degrade | None, seed: int
) -> list[SegmentBatch]:
    """The whole of some pictures as batches: patches side by side, each pixel counted once.

    What a patch shares with the one before has no label, nor what lies beyond the picture.
    """
    patches = list(_side_by_side(examples, patch_px, degrade, seed))
    return [
        make_batch(*zip(*patches[first : first + batch], strict=True))
        for first in range(0, len(patches), batch)
    ]


def _side_by_side(
    examples: Sequence[Labelled], size: int, degrade: Degrade | None, seed: int
) -> Iterator[tuple[Float32, Uint8]]:
    for number, example in enumerate(examples):
        height, width = example.picture.shape
        rng = step_rng(seed, number)
        plain = np.clip(np.asarray(example.picture, np.float32), 0, 1)
        picture = plain if degrade is None else degrade(plain, rng)
        for y in range(0, height, size):
            for x in range(0, width, size):
                top, left = max(0, min(y, height - size)), max(0, min(x, width - size))
                window = np.s_[top : top + size, left : left + size]
                label = example.labels[window].copy()
                label[: y - top] = UNKNOWN
                label[:, : x - left] = UNKNOWN
                yield picture[window], label
