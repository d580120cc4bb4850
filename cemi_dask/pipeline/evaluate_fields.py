"""Fields to evaluate denoising on: pairs of pictures from files, or simulated ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask import denoise, frames, simulate
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames, plane

Picture = npt.NDArray[Any]

# Training draws its specimens from seeds below this.
HELD_OUT_SEED = 2**31


@dataclass(frozen=True)
class Field:
    """A noisy picture and its reference on the same grid and grey levels (NaN where unknown).

    `reference_sigma` is the reference's noise in grey levels, None where it must be estimated;
    `alignment` tells how the reference was brought there, or why it was not.
    """

    name: str
    noisy: Picture
    reference: npt.NDArray[np.float32]
    reference_sigma: float | None = None
    alignment: denoise.Alignment | None = None


def simulated_fields(
    count: int, *, shape: tuple[int, int], noise_sigma: float, seed: int
) -> Iterator[Field]:
    """`count` frames of a specimen that no training saw, at random places, with their truth.

    Noise is Poisson and Gaussian, `noise_sigma` grey levels at mid grey; frame k depends on
    (seed, k) alone.
    """
    specimen = simulate.Specimen(seed=HELD_OUT_SEED + seed)
    microscope = simulate.Microscope(noise_sigma=noise_sigma, vignetting=0.0)
    for k in range(count):
        rng = np.random.default_rng((HELD_OUT_SEED, seed, k))
        y = float(rng.uniform(0, specimen.height_px - shape[0]))
        x = float(rng.uniform(0, specimen.width_px - shape[1]))
        clean = specimen.image(y, x, shape, psf_sigma_px=microscope.psf_sigma_px)
        noisy = microscope.expose(clean, gain=1.0, rng=rng)
        yield Field(f"simulated-{k}", noisy, clean, reference_sigma=0.0)


def paired_fields(noisy: Path, sharp: Path, *, aligned: bool) -> Iterator[Field]:
    """Fields from two pictures, or from two folders of pictures with equal names.

    Data bars are cut off. Sharp pictures are aligned to the noisy ones unless they are
    `aligned` already; a pair that is refused comes with a reference of NaN and the reason.
    Raises InputError for names that do not match or aligned pictures of unequal shapes.
    """
    pairs = _match(noisy, _pictures(noisy), sharp, _pictures(sharp))
    for name, (ld, hd) in pairs.items():
        if aligned:
            if ld.shape != hd.shape:
                raise InputError(
                    f"{name}: the noisy picture has shape {ld.shape}, the sharp one {hd.shape}. "
                    "Leave --aligned away, so that they are brought onto one grid."
                )
            reference = np.asarray(hd, np.float32)
            gain, offset = denoise.fit_grey_levels(
                np.asarray(ld, np.float32), reference, np.ones(hd.shape, bool)
            )
            yield Field(name, ld, gain * reference + np.float32(offset))
            continue
        found = denoise.align_pair(ld, hd)
        yield Field(name, ld, found.matched, alignment=found)


def _pictures(path: Path) -> dict[str, Picture]:
    """The grey pictures at a path without data bars, by their names without suffix."""
    options = frames.InputOptions(paths=(str(path.absolute()),), kind="tiles", metadata="none")
    raw: Frames = frames.open_frames(options, selection=frames.SelectionOptions(flat_field="none"))
    names = [Path(file).stem for file in raw.table["file"]]
    if len(set(names)) < len(names):
        raise InputError(f"{path} holds two pictures of one name. Keep one file of each.")
    blocks = raw.delayed()
    return {
        name: plane(block.compute(scheduler="synchronous"))
        for name, block in zip(names, blocks, strict=True)
    }


def _match(
    noisy: Path, ours: dict[str, Picture], sharp: Path, theirs: dict[str, Picture]
) -> dict[str, tuple[Picture, Picture]]:
    if noisy.is_dir() != sharp.is_dir():
        raise ConfigError(
            f"{noisy} and {sharp} must both be pictures, or both folders with equal names."
        )
    if not noisy.is_dir():
        return {noisy.stem: (next(iter(ours.values())), next(iter(theirs.values())))}
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise InputError(
            f"{noisy} and {sharp} must hold pictures of equal names; without a partner: "
            f"{', '.join(alone[:8])}. Rename or remove them."
        )
    return {name: (ours[name], theirs[name]) for name in sorted(ours)}
