"""Pyramid levels: means of valid pixels, unbiased labels, the same for any shards."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest

from cemi_dask.errors import StoreError
from cemi_dask.store import (
    MosaicOptions,
    halve_labels,
    halve_mean,
    open_mosaic,
    thumbnail,
    write_label,
    write_mosaic,
    write_pyramid,
)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def slow_mean(image):
    """2 x 2 means of non-zero pixels, rounded half up, one block at a time."""
    height, width = image.shape
    out = np.zeros((-(-height // 2), -(-width // 2)), image.dtype)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            block = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            if block.any():
                out[y, x] = int(np.floor(block[block > 0].mean() + 0.5))
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("holes", [0.0, 0.4, 1.0])
def test_mean_equals_the_definition(dtype, holes):
    rng = np.random.default_rng(0)
    image = rng.integers(1, np.iinfo(dtype).max, (37, 52)).astype(dtype)
    image[rng.random(image.shape) < holes] = 0
    # An odd side: the repeated row counts twice, which changes no mean of two rows' pixels
    # unless one of the two is a hole; compare there only where the padding is plain.
    np.testing.assert_array_equal(halve_mean(image)[:-1], slow_mean(image)[:-1])
    assert halve_mean(image).shape == (19, 26)


def test_means_of_hole_free_parts_do_not_depend_on_holes_elsewhere():
    image = np.random.default_rng(1).integers(1, 255, (40, 40)).astype(np.uint8)
    pierced = image.copy()
    pierced[0, 0] = 0
    np.testing.assert_array_equal(halve_mean(image)[1:], halve_mean(pierced)[1:])


def test_float_means_pass_over_nan():
    image = np.array([[1, np.nan, np.nan, np.nan], [3, 2, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(halve_mean(image), np.array([[2, np.nan]], np.float32))


def test_labels_keep_the_majority_and_ties_favour_no_label():
    blocks = {
        (1, 1, 1, 0): 1,
        (0, 1, 1, 1): 1,
        (1, 0, 0, 0): 0,
        (2, 0, 1, 1): 1,
        (2, 1, 0, 1): 1,
        (2, 1, 1, 0): 1,
        (1, 1, 0, 0): 1,
        (0, 1, 1, 0): 0,
        (3, 2, 1, 0): 3,
    }
    for (a, b, c, d), wanted in blocks.items():
        block = np.array([[a, b], [c, d]], np.uint8)
        assert halve_labels(block) == [[wanted]], block
    noise = (np.random.default_rng(2).random((400, 400)) < 0.5).astype(np.uint8)
    # 40000 blocks: the standard deviation of the fraction is 0.25 %.
    assert halve_labels(noise).mean() == pytest.approx(0.5, abs=0.01)


def write(path, pixels, shard_px, levels=4):
    options = MosaicOptions(shard_px=shard_px, chunk_px=16, levels=levels)
    blocks = da.from_array(pixels, chunks=shard_px)
    mosaic = write_mosaic(blocks, path, pixel_um=1.0, options=options)
    label = (mosaic.levels[0] > 100).astype(np.uint8)
    write_label(label, path, "bright")
    write_pyramid(path, label="bright")
    return write_pyramid(path)


def test_every_sharding_gives_the_same_levels(tmp_path):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 255, (201, 333)).astype(np.uint8)
    whole = write(tmp_path / "a", pixels, 512)
    cut = write(tmp_path / "b", pixels, 48)
    expected = pixels
    for level in range(4):
        np.testing.assert_array_equal(whole.levels[level].compute(), expected)
        np.testing.assert_array_equal(cut.levels[level].compute(), expected)
        np.testing.assert_array_equal(
            whole.label("bright", level).compute(), cut.label("bright", level).compute()
        )
        expected = halve_mean(expected)


def test_levels_go_down_to_1024_px_unless_given():
    options = MosaicOptions()
    assert options.level_count((7848, 123672)) == 8  # 123672 / 2^7 = 967
    assert options.level_count((600, 1024)) == 1
    assert options.level_count((600, 1025)) == 2
    assert MosaicOptions(levels=3).level_count((10, 10)) == 3


def test_display_window_covers_the_valid_grey_levels(tmp_path):
    pixels = np.zeros((200, 200), np.uint8)
    pixels[:, :100] = np.linspace(50, 150, 100).astype(np.uint8)
    start, end = write(tmp_path / "m", pixels, 64, levels=1).window
    assert start == pytest.approx(50, abs=2)
    assert end == pytest.approx(150, abs=2)


def test_thumbnail_has_the_size_and_the_means_of_the_mosaic(tmp_path):
    y, x = np.mgrid[:300, :400]
    pixels = (50 + x / 4 + y / 8).astype(np.uint8)
    pixels[:, 200:240] = 0
    mosaic = write(tmp_path / "m", pixels, 64)
    small = thumbnail(mosaic, 80)
    assert small.shape == (60, 80)
    assert (small[:, 41:47] == 0).all()  # no data stays no data
    valid = small > 0
    expected = pixels.reshape(60, 5, 80, 5).astype(float).mean(axis=(1, 3))
    inner = valid & (np.abs(np.arange(80) - 43.5) > 6)[None, :]
    assert np.abs(small - expected)[inner].max() <= 1.5  # two roundings and half a pixel
    assert thumbnail(mosaic, 5000).shape == (300, 400)


def test_images_of_other_software_get_no_levels(tmp_path):
    import json

    mosaic = write(tmp_path / "m", np.ones((64, 64), np.uint8), 64)
    file = mosaic.path / "zarr.json"
    document = json.loads(file.read_text())
    del document["attributes"]["cemi"]
    file.write_text(json.dumps(document))
    assert open_mosaic(mosaic.path).pixel_um == 1.0
    with pytest.raises(StoreError, match="not written by cemi_dask"):
        write_pyramid(mosaic.path)
