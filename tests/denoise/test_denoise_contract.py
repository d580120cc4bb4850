"""What every registered denoiser owes its caller."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.denoise import DENOISERS, Denoiser, Median, NonLocalMeans
from cemi_dask.errors import InputError

METHODS = sorted(name for name, cls in DENOISERS.classes().items() if cls.needs == "frame")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Denoiser:
    return DENOISERS.parse(request.param)


def noisy_frame(dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:75, 0:101]
    grey = 120 + 40 * np.sin(2 * np.pi * (0.8 * x + 0.6 * y) / 5.4) + rng.normal(0, 20, x.shape)
    scale = {"uint8": 1.0, "uint16": 200.0, "float32": 1.0 / 255}[dtype]
    if dtype == "float32":
        return (grey * scale).astype(np.float32)
    return np.clip(np.rint(grey * scale), 0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_shape_and_dtype_stay_and_noise_falls(method: Denoiser, dtype: str) -> None:
    frame = noisy_frame(dtype)
    before = frame.copy()
    out = method(frame)
    assert out.shape == frame.shape
    assert out.dtype == frame.dtype
    assert np.array_equal(frame, before), "the argument was changed"
    rough = [np.abs(np.diff(a.astype(np.float64), axis=0)).mean() for a in (frame, out)]
    assert rough[1] < rough[0]
    # Denoising must not shift the grey level: 0.5 % of the range is below what anything measures.
    assert out.mean() == pytest.approx(frame.mean(), rel=0.01)


def test_same_bytes_every_time(method: Denoiser) -> None:
    frame = noisy_frame("uint8")
    assert np.array_equal(method(frame), method(frame))


@pytest.mark.parametrize("level", [0, 7, 255])
def test_constant_frame_comes_back_unchanged(method: Denoiser, level: int) -> None:
    frame = np.full((40, 50), level, np.uint8)
    out = method(frame)
    assert np.array_equal(out, frame)
    assert out is not frame


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_is_an_input_error(method: Denoiser, bad: float) -> None:
    frame = noisy_frame("float32")
    frame[3, 4] = bad
    with pytest.raises(InputError, match="1 NaN or infinite"):
        method(frame)


@pytest.mark.parametrize(
    "frame", [np.zeros((2, 30, 30), np.uint8), np.zeros((0, 5), np.uint8), np.zeros((30, 30), int)]
)
def test_what_is_no_frame_is_an_input_error(method: Denoiser, frame: np.ndarray) -> None:
    with pytest.raises(InputError):
        method(frame)


def test_yaml_mapping_and_python_object_are_the_same_method(method: Denoiser) -> None:
    assert DENOISERS.parse(method.model_dump(mode="json")) == method


def test_no_noise_leaves_a_frame_as_it_is() -> None:
    y, x = np.mgrid[0:64, 0:64]
    frame = (x // 8 * 8 + y // 16).astype(np.uint8)  # steps on block borders, flat inside
    for name in ("fourier", "dct"):
        out = DENOISERS.parse({"method": name, "sigma": 0})(frame)
        assert np.array_equal(out, frame)


def test_wide_median_takes_16_bits() -> None:
    frame = noisy_frame("uint16")
    out = Median(size_px=7)(frame)
    assert out[30, 40] == np.median(frame[27:34, 37:44])


def test_non_local_means_filter_alike_in_8_and_16_bits() -> None:
    narrow, wide = noisy_frame("uint8"), noisy_frame("uint16")
    method = NonLocalMeans()
    difference = method(narrow).astype(float) - method(wide) / 200.0
    # 16 bits know only absolute differences; the results agree to a fraction of the noise (20).
    assert np.sqrt(np.mean(difference**2)) < 5
