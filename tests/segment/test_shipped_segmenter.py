"""What the shipped segmenter does on specimens that no training saw."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cemi_dask.pipeline.evaluate_segment import HELD_OUT_SEED, judge, simulated_pictures
from cemi_dask.segment import Coherence, Network
from cemi_dask.segment.checkpoints import SHIPPED, load_model, shipped_models
from cemi_dask.simulate import Microscope
from cemi_dask.simulate.labelled import random_specimen
from tests.segment.test_lamellar import iou

NETWORK = Network(device="cpu")


def test_weights_are_small_and_say_what_they_are() -> None:
    assert shipped_models() == ["compact"]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10e6
    card = load_model("compact").card
    assert (card.labels, card.licence) == (("lamellar",), "BSD-3-Clause")
    assert card.training["config"]["seed"] >= 0
    assert 0.8 < card.metrics["iou"] < 1


@pytest.mark.parametrize("noise", [5.0, 25.0])
def test_lamellar_regions_of_the_ingot_are_found(noise: float) -> None:
    for picture in simulated_pictures(2, shape=(420, 500), noise_sigma=noise, seed=4):
        told, _ = judge(NETWORK, picture)
        # The aim; measured 0.99 (docs/performance.md).
        assert told["iou"] > 0.95
        assert abs(told["fraction_error_points"]) < 1.5


def test_it_beats_the_classical_one_where_periods_differ() -> None:
    ours, classical = [], []
    for number in range(4):
        rng = np.random.default_rng((HELD_OUT_SEED, 77, number))
        specimen = random_specimen(rng, periods_px=(4.0, 12.0))
        clean = specimen.image(0, 0, (384, 384), psf_sigma_px=0.6)
        grey = np.maximum(Microscope(noise_sigma=15.0).expose(clean, gain=1.0, rng=rng), 1)
        truth = specimen.truth_at(0, 0, (384, 384))["lamellar"]
        ours.append(iou(NETWORK(grey), truth))
        # It is told the period; the network is not.
        classical.append(iou(Coherence(period_px=specimen.period_px.middle)(grey), truth))
    assert np.mean(ours) > 0.93
    assert np.mean(ours) > np.mean(classical) + 0.01


@pytest.mark.parametrize("sigma", [2.0, 20.0])
def test_noise_and_ramps_are_not_lamellar(sigma: float) -> None:
    rng = np.random.default_rng(int(sigma))
    ramp = np.linspace(90, 150, 384)[:, None] + np.zeros(384)
    grey = np.clip(np.rint(ramp + rng.normal(0, sigma, ramp.shape)), 1, 255).astype(np.uint8)
    assert NETWORK(grey).mean() < 0.02


@pytest.mark.real
def test_the_colony_of_a_real_eutectic_is_lamellar(real_data: Path) -> None:
    """Lamellae about 16 px apart by eye; the network is not told."""
    path = real_data / "lamellar_eutectic_alloy_jpg" / "Alloy.jpg"
    found = NETWORK(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert found[345:385, 20:270].mean() > 0.8
    assert found[60:180, 640:].mean() < 0.05  # a primary grain
