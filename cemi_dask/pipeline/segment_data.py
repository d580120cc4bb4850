"""The labelled pictures that a config of `cemi train segment` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from cemi_dask.denoise.training.degradation import MicroscopeNoise
from cemi_dask.learn.options import Options
from cemi_dask.segment.training import Labelled
from cemi_dask.segment.training.patches import Degrade
from cemi_dask.simulate.labelled import labelled_picture

HELD_OUT_SEED = 1_000_003  # held-out specimens share no seed with those trained on


class SimulatedSpecimens(Options):
    """Random specimens of the simulator, of periods of 3 to 20 px, with the microscope's noise."""

    kind: Literal["simulated"] = "simulated"
    pictures: int = Field(default=400, ge=1, description="Specimens, rendered at the start.")
    held_out: int = Field(default=40, ge=1, description="Further specimens to validate on.")
    size_px: int = Field(default=384, ge=64, description="Side of the pictures.")
    degradation: MicroscopeNoise = Field(
        default=MicroscopeNoise(sigma=(3.0, 40.0)), description="Noise, drawn in each step."
    )


SegmentData = SimulatedSpecimens


@dataclass(frozen=True)
class SegmentSource:
    """Labelled pictures to train on, held-out ones, and what makes them noisy."""

    train: Sequence[Labelled]
    held: Sequence[Labelled]
    degrade: Degrade | None = None


def open_labelled(
    data: SimulatedSpecimens, labels: Sequence[str], base: Path, *, seed: int
) -> SegmentSource:
    """The data, read or rendered, some of the pictures held out; paths start at `base`."""
    print(f"Rendering {data.pictures + data.held_out} specimens", flush=True)
    return SegmentSource(
        [_specimen(data.size_px, seed, k) for k in range(data.pictures)],
        [_specimen(data.size_px, seed + HELD_OUT_SEED, k) for k in range(data.held_out)],
        data.degradation,
    )


def _specimen(size_px: int, seed: int, number: int) -> Labelled:
    grey, lamellar = labelled_picture(size_px, seed=seed, number=number)
    return Labelled(f"specimen {number}", grey, lamellar)
