"""The phase fraction at the end of the whole job, against the simulated specimen's truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cemi_dask.pipeline import run
from cemi_dask.pipeline.simulation import simulate_ingot
from tests.pipeline.conftest import LOCAL

ROWS = {"rows": 3, "frames_per_row": 12, "looks": 3}


def errors_per_bin(
    folder: Path, denoisers: Sequence[str | None], **options: Any
) -> Iterator[np.ndarray]:
    """Percentage points by which each bin of a run's profile misses the truth, per denoiser."""
    config = simulate_ingot(folder / "videos", {**ROWS, **options})
    truth = pd.read_csv(config.parent / "truth_profile.csv")
    values = yaml.safe_load(config.read_text())
    values["cluster"] = LOCAL
    for denoise in denoisers:
        values["denoise"] = denoise
        config.write_text(yaml.safe_dump(values))
        # One folder: what comes before denoising is done once.
        tables = run(config, out=folder / "run", until="analyse").tables
        found = pd.read_csv(tables / "profile.csv")
        n = min(len(found), len(truth))
        assert n >= 14
        assert found["x_um"].to_numpy()[:n] == pytest.approx(truth["x_um"].to_numpy()[:n], abs=6.0)
        yield 100.0 * (found["bcc_fraction"].to_numpy()[:n] - truth["bcc_fraction"].to_numpy()[:n])


# Bounds on the mean and on the worst bin in percentage points. Colonies differ by 1 % in
# brightness, which alone makes 0.2 in a bin. Denoised lamellae over- and undershoot, and
# noise hides uneven places: both move the levels.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "denoisers", "mean", "worst"),
    [(4.5, [None], 0.4, 0.8), (25.0, [None, "fourier"], 1.2, 1.8)],
    ids=["HD", "LD"],
)
@pytest.mark.parametrize("seed", [3, 8])
def test_the_profile_of_a_run_is_the_specimens(
    tmp_path: Path, seed: int, noise: float, denoisers: list[str | None], mean: float, worst: float
) -> None:
    for error in errors_per_bin(tmp_path, denoisers, seed=seed, noise_sigma=noise):
        assert abs(error.mean()) < mean
        assert np.abs(error).max() < worst


@pytest.mark.slow
def test_empty_patches_are_not_taken_for_the_dark_phase(tmp_path: Path) -> None:
    # Denoised, empty patches are the flattest dark places of all; ten times the usual number.
    (error,) = errors_per_bin(
        tmp_path,
        ["fourier"],
        seed=5,
        noise_sigma=25.0,
        specimen={"kind": "eutectic", "empty_per_cell": 0.4},
        microscope={"vignetting": 0.08},
    )
    assert abs(error.mean()) < 1.5
    assert np.abs(error).max() < 2.0
