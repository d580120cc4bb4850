"""Blank frames are told from textured ones, whatever the noise."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.frames import SelectionOptions
from cemi_dask.frames.texture import reduced, refusal, sharpness
from tests.frames.recordings import HEIGHT, WIDTH, look, specimen

OPTIONS = SelectionOptions()


def reason(picture: np.ndarray) -> str:
    return refusal(picture, reduced(picture, 1), OPTIONS)


@pytest.mark.parametrize("sigma", [0.0, 2.0, 25.0, 50.0])
def test_blank_and_textured_frames_are_told_apart(sigma: float) -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    vignetting = 1 - 0.1 * (x**2 + y**2)
    assert reason(look(110 * vignetting, rng, sigma)) == "blank"
    textured = specimen(WIDTH, HEIGHT) * vignetting
    assert reason(look(textured, rng, sigma)) == ""


def test_noise_from_line_to_line_is_not_texture() -> None:
    rng = np.random.default_rng(4)
    lines = 110 + 8 * rng.standard_normal((HEIGHT, 1)) + np.zeros((HEIGHT, WIDTH))
    assert reason(look(lines, rng, 20.0)) == "blank"


def test_deep_frames_may_use_a_small_part_of_their_range() -> None:
    rng = np.random.default_rng(5)
    dim = look(specimen(WIDTH, HEIGHT), rng, 5.0).astype(np.uint16)
    assert reason(dim) == ""
    assert reason(dim / np.float32(65535)) == ""


def test_sharpness_falls_with_blur_and_ignores_noise() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(6)
    sharp = specimen(WIDTH, HEIGHT)
    values = [sharpness(gaussian_filter(sharp, s)) for s in (0.0, 1.0, 2.0, 4.0)]
    assert values == sorted(values, reverse=True)
    noisy = sharpness(sharp + np.float32(25) * rng.standard_normal(sharp.shape))
    # White noise cancels up to its standard error, 25^2 / sqrt(pixels) = 2 grey levels^2, and
    # its product with the picture.
    assert noisy == pytest.approx(values[0], abs=10)
