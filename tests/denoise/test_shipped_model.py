"""What the shipped weights do on specimens that no training saw."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.denoise import DENOISERS, Network, Ruler
from cemi_dask.denoise.checkpoints import SHIPPED, load_model, shipped_models
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
    for field in fields:
        ruler = Ruler(field.noisy, field.reference, grey_range=255, reference_sigma=0.0)
        network, fourier = (
            ruler.measure(DENOISERS.parse(name)(field.noisy)) for name in ("network", "fourier")
        )
        # Measured: 1.4 to 2.3 dB (docs/performance.md has more frames, and BM3D).
        assert network.psnr_db > fourier.psnr_db + 1.0
        assert network.modulation > 0.97


@pytest.mark.parametrize("sigma", [10.0, 25.0, 60.0])
def test_no_lamellae_are_drawn_into_noise(sigma: float) -> None:
    rng = np.random.default_rng(int(sigma))
    noisy = np.clip(np.rint(rng.normal(128, sigma, (256, 256))), 0, 255).astype(np.uint8)
    out = Network()(noisy).astype(np.float64)
    # An ideal denoiser leaves nothing; a twelfth of the noise is invisible beside real structure.
    assert out.std() < sigma / 12
    assert out.mean() == pytest.approx(128, abs=1)


def test_sharp_pictures_stay_as_they_are(fields: list[Field]) -> None:
    clean = np.clip(np.rint(fields[0].reference), 0, 255).astype(np.uint8)
    # Rounding alone is 0.3 grey levels; HD pictures have a noise of 4.5.
    assert np.sqrt(np.mean((Network()(clean).astype(float) - clean) ** 2)) < 2.5
