"""The lazy stage: one task per frame, errors that name the frame, plain method choice."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from cemi_dask.denoise import Fourier, Median, denoise
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import Frames


def stack(n: int = 3, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(120, 20, (n, 48, 64)), 0, 255).astype(dtype)


def test_each_frame_is_one_task_with_a_speaking_name() -> None:
    frames = Frames.from_array(stack())
    clean = denoise(frames, method=Median())
    assert clean.data.name.startswith("denoise-")
    assert clean.data.chunks == ((1, 1, 1), (48,), (64,))
    assert clean.dtype == np.uint8
    assert clean.table.equals(frames.table)


def test_lazy_equals_frame_by_frame_whatever_the_chunks() -> None:
    pixels = stack()
    expected = np.stack([Fourier()(frame) for frame in pixels])
    for chunks in ((1, -1, -1), (2, 20, 30)):
        frames = Frames.from_array(da.from_array(pixels, chunks=chunks))
        assert np.array_equal(denoise(frames).data.compute(), expected)


def test_name_mapping_and_object_choose_the_same_method() -> None:
    frames = Frames.from_array(stack())
    names = {
        denoise(frames, method=method).data.name
        for method in ("median", {"method": "median", "size_px": 3}, Median())
    }
    assert len(names) == 1
    assert denoise(frames, method=Median(size_px=5)).data.name not in names


def test_unknown_method_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"fourier.*dct.*nlm.*median"):
        denoise(Frames.from_array(stack()), method="bm3d")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"method": "median", "size": 3}, "size"),
        ({"method": "median", "size_px": 4}, "odd"),
        ({"method": "fourier", "block_px": 30}, "divide"),
        ({"method": "fourier", "sigma": -1}, "sigma"),
    ],
)
def test_wrong_option_is_named(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        denoise(Frames.from_array(stack()), method=options)


def test_an_error_names_the_frame() -> None:
    pixels = stack(dtype="float32")
    pixels[2, 5, 5] = np.nan
    clean = denoise(Frames.from_array(pixels), method="median")
    assert np.isfinite(clean.data[0].compute()).all()
    with pytest.raises(InputError, match=r"Frame 2: .*NaN"):
        clean.data.compute()
