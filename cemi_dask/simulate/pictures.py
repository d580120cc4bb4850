"""Clean pictures for training: ingots and films of all scales, and textures of other kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from cemi_dask.simulate.film import GradientFilm
from cemi_dask.simulate.lattice import Float32
from cemi_dask.simulate.specimen import Gradient, Specimen
from cemi_dask.simulate.textures import (
    FAMILIES,
    MAX_PERIOD_PX,
    MIN_PERIOD_PX,
    Rng,
    render_texture,
)

# Gaussian point-spread functions of sharp and of poorly focused microscopes, px.
PSF_SIGMA_PX = (0.5, 1.2)
# How often each kind of picture is drawn, unless told. Eutectics are what the measurements are
# made on; without all the others, networks draw lamellae into noise.
SHARES = {
    "ingot": 0.25,
    "eutectic": 0.1,
    "film": 0.04,
    "dead_leaves": 0.15,
    "lamellar_grains": 0.1,
    "labyrinth": 0.03,
    "random_field": 0.08,
    "particles": 0.08,
    "cracks_and_pores": 0.08,
    "fibres": 0.04,
    "gradients": 0.05,
}
Float16 = npt.NDArray[np.float16]


def clean_pictures(
    count: int, size_px: int, *, seed: int, shares: Mapping[str, float] = SHARES
) -> Float16:
    """`count` clean pictures (count, size_px, size_px), grey levels 0..1, of mixed kinds.

    `shares` says how often each kind is drawn, in proportion; see `SHARES`. float16 resolves
    0.06 of 255 grey levels. Picture k depends on (seed, k) and the shares alone, so more
    pictures are the same ones and others.
    """
    return np.stack(
        [clean_picture(size_px, seed=seed, number=k, shares=shares) for k in range(count)]
    )


def clean_picture(
    size_px: int, *, seed: int, number: int, shares: Mapping[str, float] = SHARES
) -> Float16:
    """One clean picture; see `clean_pictures`."""
    rng = np.random.default_rng((seed, number))
    weights = np.array(list(shares.values()), np.float64)
    kind = str(rng.choice(list(shares), p=weights / weights.sum()))
    psf_sigma_px = float(rng.uniform(*PSF_SIGMA_PX))
    if kind in FAMILIES:
        grey = render_texture(kind, size_px, psf_sigma_px=psf_sigma_px, rng=rng)
    else:
        grey = SPECIMENS[kind](size_px, psf_sigma_px, rng)
    return grey.astype(np.float16)


def ingot(size_px: int, psf_sigma_px: float, rng: Rng) -> Float32:
    """A window of the reference ingot, anywhere along it, in reference contrast and focus."""
    specimen = Specimen(
        seed=int(rng.integers(2**31)),
        period_px=_constant(rng.uniform(4.5, 6.5)),
        bcc_fraction=_constant(rng.uniform(0.30, 0.38)),
        lamellar_fraction=_constant(rng.uniform(0.6, 1.0)),
    )
    return _window(specimen, size_px, min(psf_sigma_px, 0.8), rng)


def eutectic(size_px: int, psf_sigma_px: float, rng: Rng) -> Float32:
    """A window of an ingot with lamellae of any period, fraction and contrast."""
    period = float(np.exp(rng.uniform(np.log(MIN_PERIOD_PX), np.log(MAX_PERIOD_PX))))
    dark, bright = sorted(rng.uniform(0.05, 0.95, 2))
    specimen = Specimen(
        seed=int(rng.integers(2**31)),
        colony_px=float(rng.uniform(max(60, 6 * period), max(300, 10 * period))),
        period_px=_constant(period),
        bcc_fraction=_constant(rng.uniform(0.2, 0.6)),
        lamellar_fraction=_constant(rng.uniform(0.4, 1.0)),
        thickness_variation=rng.uniform(0.2, 1.0),
        dendrites_per_cell=rng.uniform(0, 0.3),
        bright_level=255 * max(bright, dark + 0.06),
        dark_level=255 * dark,
        empty_level=255 * rng.uniform(0, dark),
        tone_variation=rng.uniform(0, 0.08),
    )
    return _window(specimen, size_px, psf_sigma_px, rng)


def film(size_px: int, psf_sigma_px: float, rng: Rng) -> Float32:
    """A window of a fine-grained film with particles of any size and contrast."""
    levels = rng.uniform(0.05, 0.95, 2)
    specimen = GradientFilm(
        seed=int(rng.integers(2**31)),
        spacing_px=float(np.exp(rng.uniform(np.log(5), np.log(30)))),
        density=_constant(rng.uniform(0.2, 0.95)),
        radius=_constant(rng.uniform(0.15, 0.4)),
        grain_px=rng.uniform(30, 120),
        bright_level=255 * levels[0],
        dark_level=255 * levels[1],
        tone_variation=rng.uniform(0, 0.15),
    )
    return _window(specimen, size_px, psf_sigma_px, rng)


SPECIMENS: dict[str, Callable[[int, float, Rng], Float32]] = {
    "ingot": ingot,
    "eutectic": eutectic,
    "film": film,
}


def _constant(value: float) -> Gradient:
    return Gradient(left=value, middle=value, right=value)


def _window(
    specimen: Specimen | GradientFilm, size_px: int, psf_sigma_px: float, rng: Rng
) -> Float32:
    y, x = rng.uniform(0, 1000, 2)
    grey = specimen.image(y, x, (size_px, size_px), psf_sigma_px=psf_sigma_px)
    return np.clip(grey / np.float32(255), 0, 1)
