"""Clean pictures: seeded, of the stated sharpness, of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.simulate.pictures import SHARES, SPECIMENS, clean_picture, clean_pictures
from cemi_dask.simulate.textures import FAMILIES, render_texture


def test_every_kind_of_picture_is_drawn_from_time_to_time() -> None:
    assert set(SHARES) == set(FAMILIES) | set(SPECIMENS)
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_textures_are_seeded_and_within_0_and_1(family: str) -> None:
    first, again, other = (
        render_texture(family, 96, psf_sigma_px=0.6, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first.shape, first.dtype) == ((96, 96), np.float32)
    assert 0 <= first.min() < first.max() <= 1
    assert np.abs(first - other).max() > 0.02


@pytest.mark.parametrize("kind", sorted(SPECIMENS))
def test_specimens_are_seeded_and_within_0_and_1(kind: str) -> None:
    first, again = (SPECIMENS[kind](96, 0.6, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert 0 <= first.min() < first.max() <= 1


@pytest.mark.parametrize("family", ["dead_leaves", "lamellar_grains", "particles"])
def test_edges_are_as_sharp_as_the_point_spread_function(family: str) -> None:
    sharp, blurred = (
        render_texture(family, 96, psf_sigma_px=sigma, rng=np.random.default_rng(3))
        for sigma in (0.5, 1.2)
    )
    # Of a step of 1 seen through a Gaussian, neighbours differ by at most erf(1 / sqrt(8) sigma).
    spread = sharp.max() - sharp.min()
    steepest = [np.abs(np.diff(picture)).max() / spread for picture in (sharp, blurred)]
    assert steepest[1] < 0.36
    assert 1.3 * steepest[1] < steepest[0] < 0.72


def test_picture_k_depends_on_its_number_and_the_seed_alone() -> None:
    three = clean_pictures(3, 64, seed=7)
    assert three.dtype == np.float16
    np.testing.assert_array_equal(three[2], clean_picture(64, seed=7, number=2))
    assert not np.array_equal(three[2], clean_picture(64, seed=8, number=2))
