"""The rendered charts, shared by the tests that look at them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.charts import VARIANTS, examine


@pytest.fixture(scope="session")
def charts() -> dict[str, Any]:
    """Every variant by name, examined once: {"lint", "manifests", "faults", "notes"}."""
    return examine(VARIANTS)
