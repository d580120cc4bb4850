"""The data that a training config names, and how each kind becomes batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat

from cemi_dask.denoise.alignment import align_pair
from cemi_dask.denoise.inference import grey_scale
from cemi_dask.denoise.method import Frame
from cemi_dask.denoise.training.batches import Batch, Batches
from cemi_dask.denoise.training.degradation import Degradation, MicroscopeNoise, PaperDegradation
from cemi_dask.denoise.training.sources import (
    HELD_OUT_BATCHES,
    AlignedPair,
    AlignedPairs,
    Augmentation,
    CleanPictures,
    Picture,
)
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames.databar import detect_bar
from cemi_dask.frames.images import read_image
from cemi_dask.learn.batches import split
from cemi_dask.pipeline.single import PICTURES
from cemi_dask.pipeline.video_data import SolvedRun, open_video
from cemi_dask.simulate.pictures import SHARES, clean_pictures

BAR_SAMPLES = 8  # pictures in which the data bar is sought


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_kind(name: str) -> str:
    if name not in SHARES:
        raise ValueError(f"{name!r} is no kind of picture; they are {', '.join(SHARES)}")
    return name


Kind = Annotated[str, AfterValidator(_known_kind)]


class SimulatedData(_Options):
    """Clean pictures from the simulator, of many textures, with the microscope's noise."""

    kind: Literal["simulated"] = "simulated"
    pictures: int = Field(default=400, ge=1, description="Clean pictures, rendered at the start.")
    held_out: int = Field(default=40, ge=1, description="Further pictures to validate on.")
    size_px: int = Field(default=384, ge=64, description="Side of the pictures.")
    shares: dict[Kind, PositiveFloat] = Field(
        default=dict(SHARES),
        min_length=1,
        description="How often each kind of picture is drawn, in proportion.",
    )
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
    """Low- and high-definition pictures of the same fields, in the same order of names."""

    kind: Literal["pairs"] = "pairs"
    noisy: str = Field(description="Folder or glob of noisy pictures, relative to this file.")
    target: str = Field(description="Folder or glob of sharp pictures, relative to this file.")
    aligned: bool = Field(
        default=False,
        description="They lie on one grid already, with one brightness. Otherwise data bars are "
        "cut off and each sharp picture is aligned to its noisy one; what cannot be is left out.",
    )
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
        sharp = _read(data.target, "data.target", base)
        train, held = split([grey_scale(p).to_unit(p) for p in sharp], seed=patches.seed)
        return _degraded(data, patches, train, held)
    print(f"Rendering {data.pictures + data.held_out} clean pictures", flush=True)
    pictures = clean_pictures(
        data.pictures + data.held_out, data.size_px, seed=patches.seed, shares=data.shares
    )
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
    if data.aligned:
        pairs = [_pair(*each) for each in zip(noisy, target, strict=True)]
    else:
        pairs = list(_brought_together(_without_bar(noisy), _without_bar(target)))
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


def _read(where: str, key: str, base: Path) -> list[Frame]:
    """The pictures of a folder or glob in the order of their names."""
    place = base / where
    found = place.iterdir() if place.is_dir() else (Path(name) for name in glob(str(place)))
    paths = sorted(path for path in found if path.suffix.lower() in PICTURES)
    if not paths:
        raise ConfigError(f"{key}: there are no pictures at {place}. Give a folder or a glob.")
    return [_textured(path) for path in paths]


def _textured(path: Path) -> Frame:
    """A picture; InputError where it is all of one grey level, which teaches nothing."""
    picture = read_image(path)
    if picture.min() == picture.max():
        raise InputError(f"{path} holds one grey level only. Leave it out (and its partner).")
    return picture


def _pair(noisy: Frame, target: Frame) -> AlignedPair:
    """Both pictures on the scale of grey levels that a denoiser will see the noisy one on."""
    if noisy.dtype != target.dtype:
        raise InputError(
            f"A noisy picture has grey type {noisy.dtype} and its sharp one {target.dtype}. "
            "Convert one: their grey levels must mean the same."
        )
    scale = grey_scale(noisy)
    return AlignedPair(scale.to_unit(noisy), scale.to_unit(target))


def _without_bar(pictures: Sequence[Frame]) -> list[Frame]:
    """The pictures without the data bar that those of the first one's size share."""
    alike = [picture for picture in pictures if picture.shape == pictures[0].shape]
    bar = detect_bar(alike[:BAR_SAMPLES])
    return [picture[bar.kept((picture.shape[0], picture.shape[1]))] for picture in pictures]


def _brought_together(noisy: Sequence[Frame], target: Sequence[Frame]) -> Iterator[AlignedPair]:
    """Pairs whose sharp picture was aligned to the noisy one; what is left out is said."""
    for number, (ours, theirs) in enumerate(zip(noisy, target, strict=True)):
        found = align_pair(ours, theirs)
        if not found.accepted:
            print(f"Pair {number} is left out: {found.reason}", flush=True)
            continue
        told = f"correlation {found.score:.2f}, {found.valid.mean():.0%} in common"
        print(f"Pair {number} is aligned: {told}", flush=True)
        scale = grey_scale(ours)
        sharp = np.where(found.valid, found.matched, np.float32(scale.offset))
        yield AlignedPair(scale.to_unit(ours), scale.to_unit(sharp), found.valid)
