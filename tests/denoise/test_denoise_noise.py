"""The noise that a frame is said to hold is the noise that was put in."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.denoise import NoiseModel, estimate_noise, estimate_noise_model
from cemi_dask.errors import InputError
from cemi_dask.simulate import Specimen

SHAPE = (345, 512)


def lamellae(period_px: float, angle_deg: float = 33.0) -> np.ndarray:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    turn = np.deg2rad(angle_deg)
    return 120 + 50 * np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period_px)


@pytest.mark.parametrize("period_px", [2.7, 3.5, 5.4])
@pytest.mark.parametrize("angle_deg", [0.0, 33.0, 45.0])
def test_lamellae_do_not_count_as_noise(period_px: float, angle_deg: float) -> None:
    rng = np.random.default_rng(0)
    frame = (lamellae(period_px, angle_deg) + rng.normal(0, 12, SHAPE)).astype(np.float32)
    # 16 000 coefficients: 0.9 % scatter of the median absolute deviation; 3 % is three of them.
    assert estimate_noise(frame) == pytest.approx(12, rel=0.03)


@pytest.mark.parametrize("sigma", [3.0, 25.0])
def test_noise_of_a_simulated_frame_is_found(sigma: float) -> None:
    clean = Specimen(seed=2).image(300, 9000, SHAPE, psf_sigma_px=0.7)
    rng = np.random.default_rng(1)
    noisy = np.clip(np.rint(clean + rng.normal(0, sigma, SHAPE)), 0, 255).astype(np.uint8)
    # Fine edges of the specimen and rounding to integers add up to 0.5 grey levels to it.
    assert estimate_noise(noisy) == pytest.approx(np.hypot(sigma, 0.5), rel=0.04)
    assert estimate_noise(clean) < 0.7  # of 120 grey levels of contrast


def test_blank_part_of_a_frame_is_not_taken_for_silence() -> None:
    rng = np.random.default_rng(2)
    frame = np.clip(np.rint(rng.normal(120, 20, SHAPE)), 0, 255).astype(np.uint8)
    frame[:230] = 0
    assert estimate_noise(frame) == pytest.approx(20, rel=0.05)


def test_variance_follows_the_grey_level() -> None:
    rng = np.random.default_rng(3)
    grey = np.tile(np.linspace(40, 200, 1024), (690, 1))
    frame = (grey + rng.normal(0, 1, grey.shape) * np.sqrt(2.0 * grey + 60)).astype(np.float32)
    model = estimate_noise_model(frame)
    # 230 blocks x 25 coefficients a bin know the variance to 3 %, 12 bins the slope to 4 %.
    assert model.slope == pytest.approx(2.0, rel=0.12)
    for level in (60.0, 180.0):
        found = float(model.variance(np.float32([level]))[0])
        assert found == pytest.approx(2.0 * level + 60, rel=0.1)


def test_variance_is_not_extrapolated_beyond_a_factor_of_four() -> None:
    model = NoiseModel(slope=10.0, offset=-500.0, mean_variance=100.0)
    low, high = model.variance(np.float32([0.0, 1000.0]))
    assert (low, high) == (25.0, 400.0)


def test_constant_noise_has_no_slope_to_speak_of() -> None:
    rng = np.random.default_rng(4)
    frame = rng.normal(120, 15, SHAPE).astype(np.float32)
    model = estimate_noise_model(frame)
    assert float(model.variance(np.float32([120.0]))[0]) == pytest.approx(225, rel=0.06)


def test_too_small_a_frame_says_what_to_do() -> None:
    frame = np.arange(15 * 40, dtype=np.float32).reshape(15, 40)
    with pytest.raises(InputError, match=r"15 x 40 px.*Give sigma"):
        estimate_noise(frame)
