"""The shading that all frames share is found, told with its error, and divided out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cemi_dask.errors import InputError
from cemi_dask.frames import (
    FlatField,
    SelectionOptions,
    find_sources,
    fit_flat_field,
    flatten,
    open_frames,
    prepare,
    scan_source,
)
from cemi_dask.frames.flat import flattened, log_shading
from cemi_dask.frames.options import InputOptions
from cemi_dask.frames.shading import TERMS, ShadingSink, basis, centres, shading_sample
from cemi_dask.frameset import Frames
from cemi_dask.simulate import SimulateOptions, simulate_videos
from cemi_dask.simulate.microscope import Microscope
from cemi_dask.simulate.specimen import Specimen

SHAPE = (256, 384)
STEP_PX = 210


def relative(field: FlatField) -> np.ndarray:
    """The estimated shading, mean 1."""
    shading = np.exp(log_shading(field.coefficients, field.shape))
    return shading / shading.mean()


def error_percent(field: FlatField, true: np.ndarray) -> float:
    """Rms over the frame of what is left when the true shading is corrected by `field`."""
    left = true * field.gain()
    return 100 * float((left / left.mean()).std())


def scan_of(
    frames: list[np.ndarray], x_px: np.ndarray, *, row: int = 0, used: list[bool] | None = None
) -> dict[str, Any]:
    """What scanning these frames, placed along x, tells about their shading."""
    sink = ShadingSink(None)
    for frame in frames:
        sink(frame)
    used = used or [True] * len(frames)
    records = [
        {"taken": True, "used": u, "row": row, "x_nominal_px": float(x), "y_nominal_px": 0.0}
        for x, u in zip(x_px, used, strict=True)
    ]
    return json.loads(json.dumps({"shading": sink.summary(records)}))


def recorded_row(
    row: int, count: int, *, microscope: Microscope, specimen: Specimen | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of a simulated ingot with a slow drift of the gain, and their places."""
    specimen = specimen or Specimen(seed=4)
    rng = np.random.default_rng(row)
    x = STEP_PX * np.arange(count, dtype=np.float64)
    gains = 1 + 0.04 * np.sin(np.linspace(0, 5, count) + 2 * row)
    frames = [
        microscope.record(specimen, (160.0 * row, float(left)), SHAPE, gain=float(gain), rng=rng)
        for left, gain in zip(x, gains, strict=True)
    ]
    return frames, x


def ingot_scans(vignetting: float, sigma: float, *, rows: int = 3, count: int = 10) -> list[Any]:
    microscope = Microscope(vignetting=vignetting, noise_sigma=sigma)
    return [
        scan_of(*recorded_row(row, count, microscope=microscope), row=row) for row in range(rows)
    ]


def test_the_smooth_functions_are_orthonormal_over_the_frame() -> None:
    y, x = np.meshgrid(centres(400), centres(600), indexing="ij")
    values = basis(x.ravel(), y.ravel())
    gram = values.T @ values / len(values)
    np.testing.assert_allclose(gram, np.eye(len(TERMS)), atol=1e-3)  # sums in place of integrals
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)


def test_block_means_are_means_of_blocks_in_any_type() -> None:
    image = np.random.default_rng(0).integers(0, 60000, (288, 432)).astype(np.uint16)
    expected = image.reshape(48, 6, 72, 6).mean(axis=(1, 3))
    np.testing.assert_allclose(shading_sample(image), expected, rtol=1e-5)
    np.testing.assert_allclose(shading_sample(image / np.float32(7)), expected / 7, rtol=1e-5)


@pytest.mark.parametrize("vignetting", [0.06, 0.15])
@pytest.mark.parametrize("sigma", [4.5, 25.0])
def test_vignetting_is_found_to_half_a_percent(vignetting: float, sigma: float) -> None:
    true = Microscope(vignetting=vignetting).shading(SHAPE)
    field = fit_flat_field(ingot_scans(vignetting, sigma), SHAPE)
    assert field.applied
    assert error_percent(field, true) < 0.5
    # The stated error is the truth's order of magnitude: rms of 14 terms known to some 30 %.
    assert error_percent(field, true) < 3 * 100 * field.error < 1.5
    assert field.strength == pytest.approx(np.ptp(true) / true.mean(), abs=0.012)
    assert field.gain().mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sigma", [4.5, 25.0])
def test_an_ingot_without_shading_is_left_unharmed(sigma: float) -> None:
    field = fit_flat_field(ingot_scans(0.0, sigma), SHAPE)
    assert error_percent(field, np.ones(SHAPE)) < 0.3
    assert field.applied or "no shading stands out" in field.note


def test_the_gradient_of_the_specimen_does_not_print_through() -> None:
    # 40 % darker over 10 frames: 2.4 % across each frame, more than half of the shading.
    x = np.arange(SHAPE[1])
    scans = []
    for row in range(3):
        frames, places = recorded_row(
            row, 10, microscope=Microscope(vignetting=0.06, noise_sigma=4.5)
        )
        length = places[-1] + SHAPE[1]
        graded = [
            np.rint(f * (1 - 0.4 * (left + x) / length)).astype(np.uint8)
            for f, left in zip(frames, places, strict=True)
        ]
        scans.append(scan_of(graded, places, row=row))
    field = fit_flat_field(scans, SHAPE)
    true = Microscope(vignetting=0.06).shading(SHAPE)
    assert error_percent(field, true) < 0.5
    left = true * field.gain()
    slope = np.polyfit(np.arange(SHAPE[1]), left.mean(axis=0), 1)[0] * SHAPE[1]
    assert abs(slope) < 0.01  # 4 % drift of the gain over 10 frames leaves so much


def test_dendrites_and_patches_do_not_print_through() -> None:
    rng = np.random.default_rng(7)
    true = Microscope(vignetting=0.06).shading(SHAPE)
    scans = []
    for row in range(3):
        frames, places = recorded_row(
            row, 10, microscope=Microscope(vignetting=0.06, noise_sigma=4.5)
        )
        for frame in frames[::3]:  # bright and black, always in the same quarter
            y, x = int(rng.integers(10, 60)), int(rng.integers(10, 100))
            frame[y : y + 90, x : x + 110] = rng.choice([0, 245])
        scans.append(scan_of(frames, places, row=row))
    assert error_percent(fit_flat_field(scans, SHAPE), true) < 0.6


def test_blank_frames_and_the_gain_of_single_frames_do_not_count() -> None:
    microscope = Microscope(vignetting=0.15, noise_sigma=4.5)
    frames, places = recorded_row(0, 12, microscope=microscope)
    plain = fit_flat_field([scan_of(frames, places)], SHAPE)
    blank = np.tile(np.linspace(10, 250, SHAPE[1]).astype(np.uint8), (SHAPE[0], 1))
    with_blank = scan_of(
        [*frames, blank, blank], np.append(places, [0, 0]), used=[True] * 12 + [False] * 2
    )
    assert fit_flat_field([with_blank], SHAPE) == plain
    louder = [np.float32(1 + 0.3 * (n % 3)) * f for n, f in enumerate(frames)]
    scan = scan_of(louder, places)
    assert abs(relative(fit_flat_field([scan], SHAPE)) - relative(plain)).max() < 0.01


def test_too_few_frames_are_told() -> None:
    frames, places = recorded_row(0, 7, microscope=Microscope(vignetting=0.15, noise_sigma=4.5))
    field = fit_flat_field([scan_of(frames, places)], SHAPE)
    assert not field.applied
    assert field.note == "not applied: 7 usable frames, and at least 8 are needed"
    assert (field.gain() == 1).all()
    nothing = scan_of([np.zeros(SHAPE, np.uint8)] * 9, np.arange(9))
    assert fit_flat_field([nothing], SHAPE).frames == 0


def test_layers_along_a_single_row_stay() -> None:
    # Each frame of the row shows the same layers: nothing tells them from shading along y.
    layers = np.linspace(0.8, 1.2, SHAPE[0])[:, None]
    true = Microscope(vignetting=0.15).shading(SHAPE)
    frames, places = recorded_row(0, 10, microscope=Microscope(vignetting=0.15, noise_sigma=4.5))
    layered = [np.clip(f * layers, 0, 255).astype(np.uint8) for f in frames]
    field = fit_flat_field([scan_of(layered, places)], SHAPE)
    assert field.applied
    assert "shading along y alone cannot be told from one row" in field.note
    profile = field.gain().mean(axis=1)
    assert np.ptp(profile) < 0.01  # the layers keep their 40 %
    along_x = (true * field.gain()).mean(axis=0)
    assert np.ptp(along_x) < 0.02  # of 7.5 %: the x part is corrected all the same


def as_field(dtype: type = np.uint8) -> FlatField:
    coefficients = [0.0] * len(TERMS)
    coefficients[TERMS.index((2, 0))] = coefficients[TERMS.index((0, 2))] = -0.01
    return FlatField((64, 96), tuple(coefficients), 0.07, 0.001, 9, 8, True, "test")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_frames_keep_their_type_and_are_rounded_half_to_even(dtype: type) -> None:
    rng = np.random.default_rng(0)
    top = 255 if dtype is np.uint8 else 30000
    image = rng.integers(0, top, (64, 96)).astype(dtype)
    gain = as_field().gain()
    exact = image.astype(np.float64) * gain
    got = flattened(image, gain)
    assert got.dtype == dtype
    if np.dtype(dtype).kind == "f":
        np.testing.assert_allclose(got, exact, rtol=1e-6)
        assert np.isnan(flattened(np.full((64, 96), np.nan, dtype), gain)).all()
    else:
        limits = np.iinfo(dtype)
        # float32 products differ from exact ones by 2e-3 of a level at most
        assert np.abs(got - np.clip(exact, limits.min, limits.max)).max() <= 0.5 + 2e-3
        full = np.full((64, 96), limits.max, dtype)
        assert (flattened(full, gain)[gain >= 1] == limits.max).all()
        half = np.full((64, 96), 3, dtype)
        assert (flattened(half, np.full((64, 96), 0.5, np.float32)) == 2).all()
    assert (flattened(np.zeros((64, 96), dtype), gain) == 0).all()


def test_blocks_are_flattened_like_whole_stacks() -> None:
    stack = np.random.default_rng(1).integers(0, 255, (5, 64, 96)).astype(np.uint8)
    raw, field = Frames.from_array(stack), as_field()
    flat = flatten(raw, field)
    expected = np.stack([flattened(frame, field.gain()) for frame in stack])
    np.testing.assert_array_equal(flat.data.compute(scheduler="sync"), expected)
    assert flat.data.chunks == raw.data.chunks
    assert flat.dtype == np.uint8
    third = flat.delayed()[3].compute(scheduler="sync")
    np.testing.assert_array_equal(third[0], expected[3])
    assert flatten(raw, FlatField((64, 96))) is raw
    with pytest.raises(InputError, match="flat field is for frames of"):
        flatten(raw, FlatField((64, 95)))


def test_a_flat_field_survives_json_to_the_byte() -> None:
    scans = ingot_scans(0.15, 4.5, rows=1, count=9)
    field = fit_flat_field(scans, SHAPE)
    again = FlatField.from_json(json.loads(json.dumps(field.as_json())))
    assert again == field
    assert again.gain().tobytes() == field.gain().tobytes()
    assert fit_flat_field(json.loads(json.dumps(scans)), SHAPE) == field
    assert len(json.dumps(scans[0])) < 12_000  # one line of the ledger


def test_frames_of_videos_are_opened_flat_unless_switched_off(tmp_path: Path) -> None:
    size = SimulateOptions(
        rows=2,
        frames_per_row=7,
        looks=2,
        frame_shape=SHAPE,
        noise_sigma=4.5,
        microscope=Microscope(vignetting=0.15),
    )
    ingot = simulate_videos(tmp_path, size)
    flat = open_frames(ingot.files)
    raw = open_frames(ingot.files, selection=SelectionOptions(flat_field="none"))
    options = InputOptions(paths=tuple(str(f) for f in ingot.files))
    scans = [scan_source(s) for s in prepare(find_sources(options), options)]
    field = fit_flat_field(scans, SHAPE)
    assert field.applied
    assert error_percent(field, Microscope(vignetting=0.15).shading(SHAPE)) < 0.7
    for n in (0, len(raw) - 1):
        expected = flattened(raw.data[n].compute(scheduler="sync"), field.gain())
        np.testing.assert_array_equal(flat.data[n].compute(scheduler="sync"), expected)
