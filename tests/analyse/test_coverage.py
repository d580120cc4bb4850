"""95 % intervals cover the truth of the cells of simulated ingots."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def cells():
    """27 cells of three windows of ingots, measured, and their truth."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location("coverage_bench", folder / "coverage.py")
        bench = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bench)
    return pd.concat([bench.measured(seed, 10.0) for seed in (41, 42, 43)])


@pytest.mark.parametrize("name", ["bcc_fraction", "lamellar_fraction", "lamella_width_px"])
def test_intervals_cover_the_truth(cells, name):
    # 90 to 98 % over many cells (the benchmark); of 27, five misses have a chance of 1 % at 95 %.
    known = cells.dropna(subset=[f"{name}_se", name])
    assert len(known) >= 18
    error = (known[name] - known[f"{name}_true"]).abs()
    assert np.count_nonzero(error > 1.96 * known[f"{name}_se"] + 1e-5) <= 5
    # Not covered by being absurdly wide: errors are no smaller than a third of what is stated.
    assert np.sqrt((error**2).mean()) > np.sqrt((known[f"{name}_se"] ** 2).mean()) / 3
