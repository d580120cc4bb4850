"""What the shipped weights do on specimens that no training saw."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.denoise import DENOISERS, Network, Ruler
from cemi_dask.denoise.checkpoints import SHIPPED, load_model, shipped_models
from cemi_dask.denoise.training.degradation import along_lines
from cemi_dask.pipeline.evaluate_fields import Field, simulated_fields


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    return list(simulated_fields(2, shape=(300, 400), noise_sigma=25, seed=3))


def test_weights_are_small_and_say_what_they_are() -> None:
    assert shipped_models() == ["compact"]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 5e6
    card = load_model("compact").card
    assert card is not None
    assert card.licence == "BSD-3-Clause"
    assert card.metrics["psnr_db"] > 0
    assert card.training["config"]["seed"] >= 0


def test_the_network_beats_what_needs_no_training(fields: list[Field]) -> None:
    gained = []
    for field in fields:
        ruler = Ruler(field.noisy, field.reference, grey_range=255, reference_sigma=0.0)
        network, fourier = (
            ruler.measure(DENOISERS.parse(name)(field.noisy)) for name in ("network", "fourier")
        )
        gained.append(network.psnr_db - fourier.psnr_db)
        assert network.modulation > 0.97
    # Measured: 1.25 dB on the four frames of docs/performance.md, from 0.4 to 1.9.
    assert np.mean(gained) > 0.4


@pytest.mark.parametrize("sigma", [10.0, 25.0, 60.0])
def test_no_lamellae_are_drawn_into_noise(sigma: float) -> None:
    rng = np.random.default_rng(int(sigma))
    noisy = np.clip(np.rint(rng.normal(128, sigma, (256, 256))), 0, 255).astype(np.uint8)
    out = Network()(noisy).astype(np.float64)
    # An ideal denoiser leaves nothing; a twelfth of the noise is invisible beside real structure.
    assert out.std() < sigma / 12
    assert out.mean() == pytest.approx(128, abs=1)


def test_noise_along_lines_is_not_taken_for_structure() -> None:
    rng = np.random.default_rng(4)
    noise = along_lines(rng.normal(0, 20, (256, 256)).astype(np.float32), 0.3)
    noisy = np.clip(np.rint(128 + noise), 0, 255).astype(np.uint8)
    # As for white noise: what is left is invisible beside real structure.
    assert Network()(noisy).astype(np.float64).std() < 20 / 8
