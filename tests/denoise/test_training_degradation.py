"""Degradations: seeded, within their stated ranges, every step on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cemi_dask.denoise.training.degradation import (
    Degradation,
    DegradationRound,
    MicroscopeNoise,
    PaperDegradation,
    ScanArtefacts,
    SecondRound,
    gaussian_kernel,
    shift_lines,
)
from cemi_dask.simulate import Microscope

OFF = {
    "blur_chance": 0,
    "smaller_chance": 0,
    "larger_chance": 0,
    "gaussian_chance": 0,
    "poisson_chance": 0,
}
FLAT = np.full((256, 256), 0.5, np.float32)
STRUCTURED = np.random.default_rng(0).random((96, 130), np.float32)


def only(**steps: Any) -> PaperDegradation:
    """The paper's degradation with nothing but these steps, in the first round."""
    return PaperDegradation(first=DegradationRound(**OFF | steps), second=SecondRound(**OFF))


def noise_of(degradation: Degradation, clean: Any = FLAT, seed: int = 0) -> Any:
    """Noise in grey levels of 255."""
    return 255 * (degradation(clean, np.random.default_rng(seed)) - clean)


@pytest.mark.parametrize("degradation", [PaperDegradation(), MicroscopeNoise()])
def test_the_same_seed_gives_the_same_picture(degradation: Degradation) -> None:
    first, second, other = (noise_of(degradation, STRUCTURED, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1


@pytest.mark.parametrize("seed", range(12))
def test_pictures_keep_shape_and_range_and_have_256_levels(seed: int) -> None:
    for degradation in (PaperDegradation(), MicroscopeNoise()):
        out = degradation(STRUCTURED, np.random.default_rng(seed))
        assert (out.shape, out.dtype) == (STRUCTURED.shape, np.float32)
        assert 0 <= out.min() <= out.max() <= 1
        np.testing.assert_allclose(255 * out, np.rint(255 * out), atol=1e-4)


def test_with_every_step_skipped_only_rounding_is_left() -> None:
    out = only()(STRUCTURED, np.random.default_rng(0))
    np.testing.assert_allclose(out, np.rint(255 * STRUCTURED) / 255, atol=1e-6)


@pytest.mark.parametrize("name", sorted(OFF))
def test_each_step_acts_alone(name: str) -> None:
    out = only(**{name: 1})(STRUCTURED, np.random.default_rng(0))
    assert np.abs(out - STRUCTURED).max() > 0.01


def test_gaussian_noise_has_the_stated_sigma() -> None:
    for sigma in (3.0, 20.0):
        noise = noise_of(only(gaussian_chance=1, sigma=(sigma, sigma)))
        # 65536 pixels: the standard deviation is good to 0.3 %; rounding adds 1/12
        assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.015)
        assert abs(noise.mean()) < 0.05 * sigma


def test_poisson_noise_has_the_stated_scale() -> None:
    noise = noise_of(only(poisson_chance=1, poisson_scale=(1.5, 1.5)))
    assert noise.std() == pytest.approx(255 * 1.5 * np.sqrt(0.5 / 256), rel=0.015)


def test_sigmas_of_many_pictures_fill_the_stated_range_and_no_more() -> None:
    found = [noise_of(only(gaussian_chance=1), seed=seed).std() for seed in range(60)]
    assert 0.9 < min(found) < 4
    assert 27 < max(found) < 31


def test_noise_is_gaussian_or_poisson_never_both_half_of_the_time_each() -> None:
    chances = DegradationRound()
    assert chances.gaussian_chance == chances.poisson_chance == 0.5
    # Black has no Poisson noise, so half of the black pictures stay black.
    black = np.zeros((16, 16), np.float32)
    round_ = DegradationRound(**OFF | {"gaussian_chance": 0.5, "poisson_chance": 0.5})
    still = [not round_(black, np.random.default_rng(seed)).any() for seed in range(400)]
    assert np.mean(still) == pytest.approx(0.5, abs=0.1)  # four standard deviations


def test_the_ranges_are_those_of_the_paper() -> None:
    paper = PaperDegradation()
    assert (paper.first.blur_sigma_px, paper.second.blur_sigma_px) == ((0.2, 3.0), (0.2, 1.5))
    assert (paper.first.blur_chance, paper.second.blur_chance) == (1.0, 0.8)
    assert (paper.first.resize, paper.second.resize) == ((0.15, 1.5), (0.3, 1.2))
    assert (paper.first.sigma, paper.second.sigma) == ((1.0, 30.0), (1.0, 25.0))
    assert (paper.first.poisson_scale, paper.second.poisson_scale) == ((0.05, 3.0), (0.05, 2.5))
    assert paper.scan == ScanArtefacts()


def test_the_kernel_is_a_gaussian_of_two_widths() -> None:
    kernel = gaussian_kernel(2.5, 1.0, 0.0)
    y, x = np.mgrid[-10:11, -10:11]
    assert kernel.shape == (21, 21)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * x * x).sum() == pytest.approx(2.5**2, rel=1e-3)
    assert (kernel * y * y).sum() == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_allclose(gaussian_kernel(2.5, 1.0, np.pi / 2), kernel.T, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_microscope_noise_follows_the_law_of_the_simulated_microscope(share: float) -> None:
    noise = MicroscopeNoise(sigma=(20, 20), poisson_share=(share, share))
    microscope = Microscope(noise_sigma=20, poisson_share=share, vignetting=0)
    for grey in (64, 128, 190):
        clean = np.full((256, 256), grey, np.float32)
        ours = noise_of(noise, clean / np.float32(255))
        theirs = microscope.expose(clean, gain=1, rng=np.random.default_rng(5)) - clean
        assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
        assert ours.mean() == pytest.approx(0, abs=0.4)
    # 20 at mid grey, where it is stated, whatever the share
    assert noise_of(noise, np.full((256, 256), 128 / 255, np.float32)).std() == pytest.approx(
        20, rel=0.015
    )


def drift(noise: Any) -> Any:
    return noise.mean(1)[:32].mean() - noise.mean(1)[-32:].mean()


@pytest.mark.parametrize(
    ("artefact", "shows"),
    [
        # noise of lines is shared by their pixels, and by nothing else
        ({"row_sigma": (8, 8)}, lambda n: 5 < n.mean(1).std() < 11 and n.mean(0).std() < 1),
        ({"gain_drift": (0.3, 0.3)}, lambda n: abs(drift(n)) > 2),
        ({"jpeg_quality": (10, 10)}, lambda n: n.std() > 1),
        ({"line_jitter_px": (0.5, 0.5)}, lambda n: n.std() > 1),
    ],
)
def test_scan_artefacts_act_alone_and_are_off_by_default(
    artefact: dict[str, Any], shows: Callable[[Any], bool]
) -> None:
    ramp = np.tile(np.linspace(0.3, 0.7, 256, dtype=np.float32), (256, 1))
    texture = ramp + 0.1 * np.sin(np.arange(256, dtype=np.float32) / 2)
    quiet = MicroscopeNoise(sigma=(0, 0), poisson_share=(0, 0))
    assert np.abs(noise_of(quiet, texture)).max() <= 0.51
    noisy = quiet.model_copy(update={"scan": ScanArtefacts(**artefact)})
    assert shows(noise_of(noisy, texture))


def test_lines_shift_by_what_is_asked() -> None:
    ramp = np.tile(np.arange(20, dtype=np.float32), (3, 1))
    moved = shift_lines(ramp, np.array([0.0, 1.25, -2.0]))
    inner = slice(4, 16)
    for row, shift in enumerate((0.0, 1.25, -2.0)):
        np.testing.assert_allclose(moved[row, inner], ramp[row, inner] - shift, atol=1e-5)
