"""A training of seconds: small networks, small batches of random stripes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cemi_dask.denoise.checkpoints import ModelCard
from cemi_dask.denoise.networks import UNetSpec, build_network
from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.loop import FitResult, fit
from cemi_dask.denoise.training.options import FitOptions
from cemi_dask.learn.batches import as_tensor, step_rng

SPEC = UNetSpec(channels=(4, 4, 8, 8))
CARD = ModelCard(name="tiny", spec=SPEC, data="stripes", licence="none")
SIZE_PX = 32


def stripes(step: int) -> Batch:
    """Four noisy patches of stripes."""
    rng = step_rng(5, step)
    x = np.arange(SIZE_PX)
    clean = [
        np.tile(0.5 + 0.3 * np.sin(2 * np.pi * (x / rng.uniform(6, 12) + rng.random())), (32, 1))
        for _ in range(4)
    ]
    noisy = [picture + rng.normal(0, 0.1, picture.shape) for picture in clean]
    return Batch(as_tensor(noisy), as_tensor(clean))


def train(
    folder: Path, batches: Any = stripes, *, net: Any = None, validate: Any = (), **options: Any
) -> tuple[Any, FitResult]:
    """(network, result) of a training in `folder`; `options` are those of the stage."""
    net = build_network(SPEC, seed=1) if net is None else net
    result = fit(net, batches, FitOptions(**options), folder=folder, card=CARD, validate=validate)
    return net, result
