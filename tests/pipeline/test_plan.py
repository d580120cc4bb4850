"""What a plan says of memory, from numbers alone."""

from __future__ import annotations

import pytest

from cemi_dask.blend import BLENDERS
from cemi_dask.pipeline.cluster import WORKER_BASE
from cemi_dask.pipeline.config import parse_config
from cemi_dask.pipeline.plan import work


def blending_memory(method: str, shard_px: int = 4096) -> int:
    """Bytes that blending asks of a worker beside its base, for the reference ingot."""
    config = parse_config(
        {
            "input": {"paths": ["row.avi"], "pixel_um": 0.222},
            "blend": method,
            "mosaic": {"shard_px": shard_px},
        }
    )
    wanted = {row[0]: row[3] for row in work(config, sources=18, frames=3902, shape=(690, 1024))}
    return wanted["blend"] - WORKER_BASE


@pytest.mark.parametrize("name", BLENDERS.classes())
def test_blending_asks_for_the_shard_its_halo_and_the_frames_it_reads(name: str) -> None:
    method = BLENDERS.parse(name)
    frame, area = 690 * 1024, (4096 + 2 * method.halo_px) ** 2
    asked = blending_memory(name)
    # At least the frames as recorded that lie side by side on the area; none is counted thrice.
    read = area / (1 - 0.45) ** 2
    assert method.memory_bytes(area, frame, 0) + read < asked
    assert asked < method.memory_bytes(area, frame, round(2 * read / frame)) + 2 * read
    assert blending_memory(name, 2048) < 0.5 * asked
