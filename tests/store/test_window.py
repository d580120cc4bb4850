"""The grey levels to show come from single pixels, not from means of them."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from cemi_dask import store


def test_fine_structure_keeps_its_contrast_and_pixels_without_data_do_not_count(
    tmp_path: Path,
) -> None:
    stripes = np.where(np.arange(3000) % 2, 60, 180).astype(np.uint8)
    picture = np.repeat(stripes[None], 900, axis=0)
    picture[:200] = 0
    options = store.MosaicOptions(shard_px=1024, chunk_px=256)
    chunks = options.shard_shape(picture.shape)
    store.write_mosaic(
        da.from_array(picture, chunks=chunks), tmp_path / "m", pixel_um=None, options=options
    )
    mosaic = store.write_pyramid(tmp_path / "m")
    finest, *_, coarsest = store.level_arrays(mosaic)
    assert store.sampled_window(finest) == pytest.approx((60, 180))
    assert np.ptp(store.sampled_window(coarsest)) <= 2  # every stripe is gone
    assert (store.sample(finest) > 0).all()
