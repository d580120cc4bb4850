"""Small networks with random weights, written as files, for the tests of denoising."""

from __future__ import annotations

from pathlib import Path

from cemi_dask.denoise.checkpoints import ModelCard
from cemi_dask.denoise.networks import NetworkSpec, RRDBSpec, UNetSpec, build_network
from cemi_dask.learn.weights import save_weights

SMALL_UNET = UNetSpec(channels=(4, 8, 8, 8), blocks=1)
SMALL_RRDB = RRDBSpec(features=8, blocks=1)


def card_of(spec: NetworkSpec) -> ModelCard:
    return ModelCard(name="random", spec=spec, data="nothing", licence="BSD-3-Clause")


def written_model(path: Path, spec: NetworkSpec = SMALL_UNET, *, seed: int = 0) -> Path:
    save_weights(path, build_network(spec, seed=seed), card_of(spec))
    return path
