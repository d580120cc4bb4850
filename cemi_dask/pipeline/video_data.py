"""Training data from a solved run: frames that overlap are independent noisy looks at one place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.base import compute

from cemi_dask import frames, store
from cemi_dask.denoise.training.independence import NoiseFacts, noise_facts
from cemi_dask.denoise.training.looks import LookPairs, overlap_px, usable_pairs
from cemi_dask.distortion import Distortion
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames, plane
from cemi_dask.geometry import Layout
from cemi_dask.learn.batches import split
from cemi_dask.store import read_table

CHECKED_PAIRS, CHECKED_PX = 8, 256  # pairs whose noise is measured, side of what is compared
ADVICE = "Frames are to overlap by more than a patch: raise frames.overlap_min, or lower patch_px"


@dataclass(frozen=True)
class SolvedRun:
    """What a run folder offers for training: where its frames lie, and its flat field.

    `keys` are those of the sources in frames.zarr, in the order of the tables; `distortion` is
    the field that its layout holds, None without one.
    """

    folder: Path
    keys: tuple[str, ...]
    flat_field: dict[str, Any] | None
    distortion: dict[str, Any] | None

    @classmethod
    def of(cls, folder: Path) -> SolvedRun:
        """The run in `folder`; ConfigError where none has come as far as solve."""
        summary = folder / "run.json"
        if not summary.is_file() or not (folder / "tables" / "pairs.csv").is_file():
            raise ConfigError(
                f"{folder} is no run that was solved. Give the folder that "
                "`cemi run CONFIG --until solve` has made."
            )
        facts = json.loads(summary.read_text(encoding="utf-8"))
        field = facts.get("distortion", {}).get("field")
        return cls(folder, tuple(facts["frame_keys"]), facts.get("flat_field"), field)

    def frames(self) -> Frames:
        """The frames as they are denoised: without the shading that they share."""
        stacks = store.open_frame_store(self.folder / "frames.zarr", self.keys)
        table = read_table(self.folder / "tables", "frames")
        raw = Frames(stacks, table[table["frame"] >= 0].reset_index(drop=True))
        if self.flat_field is None:
            return raw
        return frames.flatten(raw, frames.FlatField.from_json(self.flat_field))

    def layout(self, shape: tuple[int, int]) -> Layout:
        """The solved layout of frames of `shape`, from tables/positions.csv."""
        table = read_table(self.folder / "tables", "positions")
        names = ("x_px", "y_px", "component", "gain", "offset", "used", "shear")
        columns = {name: table[name].to_numpy() for name in names}
        field = None if self.distortion is None else Distortion.from_json(self.distortion)
        return Layout(frame_shape=shape, distortion=field, **columns)

    def pairs(self) -> pd.DataFrame:
        """The measured pairs that the solver has accepted."""
        table = read_table(self.folder / "tables", "pairs")
        return table[table["status"] == "ok"].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class VideoSource:
    """Pairs to train on and a tenth of them held out, with what was measured beforehand.

    `left_out` counts accepted pairs that miss the layout by too much, or share too little.
    """

    train: LookPairs
    held: LookPairs
    left_out: int
    noise: NoiseFacts

    def facts(self) -> dict[str, Any]:
        """Numbers of pairs and the noise, as plain JSON values."""
        return {
            "pairs": len(self.train.pairs),
            "held_out": len(self.held.pairs),
            "left_out": self.left_out,
            "noise": self.noise.as_json(),
        }


def refuse_averaged(looks: Sequence[int] | npt.NDArray[Any]) -> None:
    """Raise ConfigError where frames hold more than one recorded picture each."""
    if np.max(looks, initial=1) > 1:
        raise ConfigError(
            "frames.average: motion puts the same recorded pictures into neighbouring frames, so "
            "their noise is not independent, and a network trained on them would keep it. Set "
            "frames.average to none to train from video, or use another denoiser."
        )


def open_video(
    run: SolvedRun, *, batch: int, patch_px: int, seed: int, turns: bool = True
) -> VideoSource:
    """Batches from the overlaps of a solved run, pixels read lazily, one frame at a time.

    Raises ConfigError for averaged frames, InputError where fewer than two pairs overlap by
    a patch and agree with the layout to 0.3 px.
    """
    raw = run.frames()
    refuse_averaged(raw.table["looks"].to_numpy())
    layout, accepted = run.layout(raw.frame_shape), run.pairs()
    numbers = accepted[["i", "j"]].to_numpy(np.int64)
    pairs = usable_pairs(
        layout, numbers, accepted["residual_px"].to_numpy(np.float64), patch_px=patch_px
    )
    if len(pairs) < 2:
        raise InputError(
            f"{len(pairs)} of {len(numbers)} accepted pairs of frames share a patch of {patch_px} "
            f"px, and agree with the layout to 0.3 px; at least 2 are needed. {ADVICE}, or take "
            "another denoiser."
        )
    train, held = (np.array(part) for part in split(list(pairs), seed=seed))
    blocks = raw.delayed()

    def read(number: int) -> npt.NDArray[Any]:
        (block,) = compute(blocks[number], scheduler="synchronous")
        return plane(block)

    common: dict[str, Any] = {"batch": batch, "patch_px": patch_px, "turns": turns}
    learnt = LookPairs(read, layout, train, seed=seed, **common)
    checked = LookPairs(read, layout, held, seed=seed + 1, validates=True, **common)
    return VideoSource(learnt, checked, len(numbers) - len(pairs), measured_noise(learnt))


def measured_noise(source: LookPairs) -> NoiseFacts:
    """The noise of a few pairs from all over the run."""
    count = len(source.pairs)
    chosen = source.pairs[np.unique(np.linspace(0, count - 1, CHECKED_PAIRS).astype(int))]
    least = int(overlap_px(source.layout, chosen).min())
    wide = LookPairs(
        source.read, source.layout, chosen, 1, min(CHECKED_PX, least), source.seed, turns=False
    )
    rng = np.random.default_rng(source.seed)
    looks = [wide.look(int(first), int(second), rng).alike() for first, second in chosen]
    return noise_facts(looks, (source.read(int(first)) for first, _ in chosen))
