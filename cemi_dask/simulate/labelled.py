"""Clean pictures with the truth of where they are lamellar, for training and judging segmenters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cemi_dask.simulate.pictures import PSF_SIGMA_PX
from cemi_dask.simulate.specimen import Gradient, Specimen
from cemi_dask.simulate.textures import Rng, render_texture

# Periods that a segmenter must know, px.
PERIODS_PX = (3.0, 20.0)
# Share of the pictures in which nothing is lamellar, and what they show.
BARREN_SHARE = 0.12
BARREN = ("dead_leaves", "random_field", "particles", "cracks_and_pores", "gradients")
# Share of the specimens that have the contrast and the phases of the reference ingot.
REFERENCE_SHARE = 0.5
MIN_CONTRAST = 60.0  # of 255 grey levels, between the phases of the others

Labelled = tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]


def labelled_picture(size_px: int, *, seed: int, number: int) -> Labelled:
    """(grey levels 0..1, 1 where lamellar) of a random specimen, (size_px, size_px) each.

    Eutectics of any period of 3 to 20 px, with lamellar and globular colonies, dendrites,
    empty patches and scratches, and a few pictures of other textures. Depends on (seed,
    number) alone.
    """
    rng = np.random.default_rng((seed, number, 7))
    psf_sigma_px = float(rng.uniform(*PSF_SIGMA_PX))
    if rng.random() < BARREN_SHARE:
        grey = render_texture(str(rng.choice(BARREN)), size_px, psf_sigma_px=psf_sigma_px, rng=rng)
        return grey.astype(np.float16), np.zeros(grey.shape, np.uint8)
    specimen = random_specimen(rng)
    y, x = (float(place) for place in rng.uniform(0, 5000, 2))
    shape = (size_px, size_px)
    grey = specimen.image(y, x, shape, psf_sigma_px=psf_sigma_px) / np.float32(255)
    lamellar = specimen.truth_at(y, x, shape)["lamellar"]
    return np.clip(grey, 0, 1).astype(np.float16), lamellar.astype(np.uint8)


def random_specimen(rng: Rng, *, periods_px: tuple[float, float] = PERIODS_PX) -> Specimen:
    """A eutectic ingot of one period, drawn evenly on a logarithmic scale."""
    period = float(np.exp(rng.uniform(*np.log(periods_px))))
    if rng.random() < REFERENCE_SHARE:
        levels, fraction = Specimen(), rng.uniform(0.30, 0.38)
        dark, bright, empty = levels.dark_level, levels.bright_level, levels.empty_level
        tone = levels.tone_variation
    else:
        dark, bright = sorted(255 * rng.uniform(0.05, 0.95, 2))
        dark = min(dark, 255 - MIN_CONTRAST)
        bright = max(bright, dark + MIN_CONTRAST)
        fraction, empty = rng.uniform(0.2, 0.6), rng.uniform(0, dark)
        tone = rng.uniform(0, 0.08)
    return Specimen(
        seed=int(rng.integers(2**31)),
        colony_px=float(rng.uniform(max(120, 8 * period), max(350, 14 * period))),
        period_px=_constant(period),
        bcc_fraction=_constant(fraction),
        lamellar_fraction=_constant(rng.uniform(0.2, 1.0)),
        waviness_px=float(rng.uniform(0.5, 2.0) * max(1.0, period / 5.4)),
        thickness_variation=float(rng.uniform(0.2, 1.0)),
        dendrites_per_cell=float(rng.uniform(0, 0.25)),
        empty_per_cell=float(rng.uniform(0, 0.2)),
        scratches_per_cell=float(rng.uniform(0, 0.4)),
        bright_level=float(bright),
        dark_level=float(dark),
        empty_level=float(empty),
        tone_variation=float(tone),
    )


def _constant(value: float) -> Gradient:
    return Gradient(left=float(value), middle=float(value), right=float(value))
