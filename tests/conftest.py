"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Tests run side by side, one per core: more threads only wait for each other. And the last bits
# of a training depend on the number of threads. Before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real micrographs; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CEMI_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real micrographs at {folder} (set CEMI_REAL_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _gpu_or_skip(request: pytest.FixtureRequest) -> None:
    """Tests marked `gpu` are skipped where torch sees no CUDA device."""
    if request.node.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")
