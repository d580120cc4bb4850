"""Overlaps of bare lamellae: across them a displacement is told but for periods, along them not."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.register import measure_pair
from tests.register.specimens import record, texture

SHAPE = (180, 260)
STEP = np.array([119.3, 21.6])  # true displacement, px


def lamellae(shape, corners, *, angle, period_px=5.4, seed=0, sigma=25.0):
    """8-bit frames (n, y, x) of one plane wave under white noise, evaluated at any corner."""
    rng = np.random.default_rng(seed)
    frames = []
    for x, y in corners:
        across = np.cos(angle) * (x + np.arange(shape[1])) + np.sin(angle) * (
            y + np.arange(shape[0])[:, None]
        )
        picture = 120 + 45 * np.cos(2 * np.pi * across / period_px + 0.7)
        picture = picture + sigma * rng.standard_normal(shape)
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return np.stack(frames)


def pair_of_lamellae(angle, seed):
    fixed, moving = lamellae(SHAPE, [(0, 0), STEP], angle=angle, seed=seed)
    return measure_pair(fixed, moving, (STEP[0] + 9, STEP[1] - 7, 12.0))


def off_line(lattice, displacement):
    """Signed distance px from the nearest line of a lattice."""
    wave = np.array([lattice.wave_x, lattice.wave_y])
    periods = wave @ (np.asarray(displacement) - (lattice.dx_px, lattice.dy_px))
    return (periods - round(periods)) / np.hypot(*wave)


def test_across_lamellae_the_displacement_is_told_as_well_as_is_stated():
    found = [pair_of_lamellae(angle, n) for n, angle in enumerate(np.linspace(0, np.pi, 24))]
    assert {pair.status for pair in found} == {"ambiguous"}
    lattices = [pair.lattice for pair in found]
    assert None not in lattices
    periods = [1 / np.hypot(one.wave_x, one.wave_y) for one in lattices]
    assert np.abs(np.array(periods) - 5.4).max() < 0.005
    off = np.array([off_line(one, STEP) for one in lattices])
    stated = np.array([one.sigma_px for one in lattices])
    assert np.abs(off).max() < 0.06
    # Of 24 standard normal numbers, the rms lies within these with 99.9 % probability.
    assert 0.55 < np.sqrt(np.mean((off / stated) ** 2)) < 1.5


def test_texture_that_shows_one_displacement_is_no_lattice():
    fixed, moving = record(
        texture((300, 500), 4), [(40, 50), STEP + np.array((40, 50))], SHAPE, noise_sigma=25
    )
    pair = measure_pair(fixed, moving, (STEP[0] + 9, STEP[1] - 7, 12.0))
    assert pair.status == "ok"
    assert pair.lattice is None


def test_a_pattern_that_comes_twice_is_ambiguous_but_no_lattice():
    field = texture((300, 500), 5)
    field[:, 250:] = field[:, :250]  # any displacement fits as well 250 px further on
    fixed, moving = record(field, [(30, 50), (155, 60)], SHAPE, noise_sigma=10)
    pair = measure_pair(fixed, moving)
    assert (pair.status, pair.reason) == ("ambiguous", "rival_peak")
    assert pair.lattice is None


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_frames_are_no_lattice(seed):
    pictures = [
        record(texture(SHAPE, 9 + k + seed), [(0, 0)], SHAPE, noise_sigma=10)[0] for k in (0, 50)
    ]
    pair = measure_pair(*pictures, (STEP[0], STEP[1], 12.0))
    assert pair.status == "rejected"
    assert pair.lattice is None
