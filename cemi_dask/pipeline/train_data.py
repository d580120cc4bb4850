"""The data that a training config names, and how each kind becomes batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.denoise.training.batches import Batch, Batches, Float32
from cemi_dask.denoise.training.degradation import Degradation, MicroscopeNoise, PaperDegradation
from cemi_dask.denoise.training.sources import (
    HELD_OUT_BATCHES,
    AlignedPair,
    AlignedPairs,
    Augmentation,
    CleanPictures,
    Picture,
    split,
)
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames.images import read_image
from cemi_dask.pipeline.single import PICTURES
from cemi_dask.pipeline.video_data import SolvedRun, open_video
from cemi_dask.simulate.pictures import clean_pictures


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SimulatedData(_Options):
    """Clean pictures from the simulator, of many textures, with the microscope's noise."""

    kind: Literal["simulated"] = "simulated"
    pictures: int = Field(default=400, ge=1, description="Clean pictures, rendered at the start.")
    held_out: int = Field(default=40, ge=1, description="Further pictures to validate on.")
    size_px: int = Field(default=384, ge=64, description="Side of the pictures.")
    degradation: Degradation = Field(
        default=MicroscopeNoise(), description="How noisy pictures come from clean ones."
    )
    augmentation: Augmentation = Augmentation(contrast=(0.5, 1.2), brightness=(-0.1, 0.2))


class SyntheticData(_Options):
    """High-definition pictures alone; the noisy ones are made from them."""

    kind: Literal["synthetic"] = "synthetic"
    target: str = Field(description="Folder or glob of sharp pictures, relative to this file.")
    degradation: Degradation = Field(
        default=PaperDegradation(), description="How noisy pictures come from sharp ones."
    )
    augmentation: Augmentation = Augmentation()


class PairsData(_Options):
    """Low- and high-definition pictures of the same fields, aligned, in the same order of names."""

    kind: Literal["pairs"] = "pairs"
    noisy: str = Field(description="Folder or glob of noisy pictures, relative to this file.")
    target: str = Field(description="Folder or glob of sharp pictures, relative to this file.")
    augmentation: Augmentation = Augmentation()


class VideoData(_Options):
    """Noisy frames alone: those of a run overlap, and are independent looks at one place."""

    kind: Literal["video"] = "video"
    run: str = Field(
        description="Folder of a run that is solved, relative to this file: "
        "`cemi run CONFIG --until solve`."
    )
    turns: bool = Field(default=True, description="Rotations by 90 degrees and mirror images.")


AnyData = SimulatedData | SyntheticData | PairsData | VideoData
TrainingData = Annotated[AnyData, Field(discriminator="kind")]


@dataclass(frozen=True)
class Patches:
    """How many patches a step sees, their side, and the seed of all draws."""

    batch: int
    size_px: int
    seed: int


@dataclass(frozen=True)
class Source:
    """Batches to train on, and held-out ones."""

    train: Batches
    validate: Sequence[Batch]


def open_source(data: AnyData, patches: Patches, base: Path) -> Source:
    """The data, read or rendered, a tenth of the pictures held out; paths start at `base`.

    Raises ConfigError where a path leads to no pictures, InputError for pictures that cannot
    be used: too small for a patch, or pairs of different shapes.
    """
    if isinstance(data, PairsData):
        return _aligned(data, patches, base)
    if isinstance(data, VideoData):
        return _overlapping(data, patches, base)
    if isinstance(data, SyntheticData):
        train, held = split(_read(data.target, "data.target", base), seed=patches.seed)
        return _degraded(data, patches, train, held)
    print(f"Rendering {data.pictures + data.held_out} clean pictures", flush=True)
    pictures = clean_pictures(data.pictures + data.held_out, data.size_px, seed=patches.seed)
    return _degraded(
        data, patches, list(pictures[data.held_out :]), list(pictures[: data.held_out])
    )


def _degraded(
    data: SimulatedData | SyntheticData,
    patches: Patches,
    train: Sequence[Picture],
    held: Sequence[Picture],
) -> Source:
    def batches(pictures: Sequence[Picture], seed: int) -> CleanPictures:
        return CleanPictures(
            pictures, data.degradation, patches.batch, patches.size_px, seed, data.augmentation
        )

    return _source(batches(train, patches.seed), batches(held, patches.seed + 1))


def _aligned(data: PairsData, patches: Patches, base: Path) -> Source:
    noisy = _read(data.noisy, "data.noisy", base)
    target = _read(data.target, "data.target", base)
    if len(noisy) != len(target):
        raise ConfigError(
            f"data.noisy has {len(noisy)} pictures and data.target {len(target)}. Give as many of "
            "each, in the same order of names."
        )
    pairs = [AlignedPair(*each) for each in zip(noisy, target, strict=True)]
    train, held = split(pairs, seed=patches.seed)

    def batches(of: Sequence[AlignedPair], seed: int) -> AlignedPairs:
        return AlignedPairs(of, patches.batch, patches.size_px, seed, data.augmentation)

    return _source(batches(train, patches.seed), batches(held, patches.seed + 1))


def _overlapping(data: VideoData, patches: Patches, base: Path) -> Source:
    video = open_video(
        SolvedRun.of(base / data.run),
        batch=patches.batch,
        patch_px=patches.size_px,
        seed=patches.seed,
        turns=data.turns,
    )
    for text in video.noise.warnings():
        print(f"Warning: {text}", flush=True)
    return _source(video.train, video.held)


def _source(train: Batches, held: Batches) -> Source:
    return Source(train, [held(step) for step in range(HELD_OUT_BATCHES)])


def _read(where: str, key: str, base: Path) -> list[Float32]:
    """The pictures of a folder or glob in the order of their names, grey levels 0..1."""
    place = base / where
    found = place.iterdir() if place.is_dir() else (Path(name) for name in glob(str(place)))
    paths = sorted(path for path in found if path.suffix.lower() in PICTURES)
    if not paths:
        raise ConfigError(f"{key}: there are no pictures at {place}. Give a folder or a glob.")
    return [_as_grey(read_image(path), path) for path in paths]


def _as_grey(picture: npt.NDArray[Any], path: Path) -> Float32:
    """Grey levels 0..1 of a picture: by the range of its type; float pictures must be so."""
    if picture.dtype.kind == "u":
        return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    if picture.min() < 0 or picture.max() > 1:
        raise InputError(
            f"{path} has float grey levels of {picture.min():g} to {picture.max():g}; 0 to 1 are "
            "needed. Save it as uint8 or uint16, or scale it."
        )
    return picture
