"""Training from frames that overlap: exact placing, untouched targets, noise that is told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cemi_dask.denoise.training.independence import noise_facts, noise_power
from cemi_dask.denoise.training.looks import LookPairs, overlap_px, usable_pairs
from cemi_dask.denoise.training.loop import measure
from cemi_dask.denoise.training.placing import Placing
from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.resample import MARGIN_PX
from cemi_dask.simulate import ScanField
from tests.denoise.training import train

SIGMA = 20.0
PATCH = 48


def scene(x: Any, y: Any) -> Any:
    """Grey levels of waves of 4 to 12 px at any place, in px."""
    waves = [(2.7, 3.1, 18), (-1.1, 4.6, 15), (8.0, 5.0, 25), (0.3, -11.0, 12)]
    return 128 + sum(
        a * np.sin(2 * np.pi * (x * u + y * v) / (u * u + v * v) + u) for u, v, a in waves
    )


def frames_at(
    x_px: list[float],
    y_px: list[float],
    *,
    sigma: float = SIGMA,
    gain: Any = 1.0,
    offset: Any = 0.0,
) -> np.ndarray:
    """8-bit frames (n, 90, 130) of the scene with their corners there."""
    y, x = np.mgrid[0:90, 0:130].astype(np.float64)
    clean = np.stack([scene(x + a, y + b) for a, b in zip(x_px, y_px, strict=True)])
    gain, offset = (np.broadcast_to(v, len(x_px))[:, None, None] for v in (gain, offset))
    noise = np.random.default_rng(3).normal(0, sigma, clean.shape)
    return np.clip(np.rint((clean + noise - offset) / gain), 0, 255).astype(np.uint8)


X, Y = [0.0, 40.3, 81.7], [0.0, -6.4, 5.2]
LAYOUT = Layout(np.array(X), np.array(Y), (90, 130))
PAIRS = np.array([[0, 1], [1, 2]])


def source(frames: np.ndarray, layout: Layout = LAYOUT, **changes: Any) -> LookPairs:
    options = {"pairs": PAIRS, "batch": 4, "patch_px": PATCH, "seed": 2} | changes
    return LookPairs(frames.__getitem__, layout, **options)


def every_turn(frames: np.ndarray) -> Iterator[Any]:
    """Looks of a pair in all eight ways."""
    look = source(frames).look(0, 1, np.random.default_rng(0))
    return (look.turned(turn) for turn in range(8))


def placed(look: Any, picture: np.ndarray) -> np.ndarray:
    numbers = (look.right_px, look.down_px, look.scale, look.offset)
    place = Placing(*(np.array([value]) for value in numbers))
    tensor = torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None, None]
    return place(tensor)[0, 0].numpy()


def test_a_picture_is_placed_to_a_hundredth_of_a_pixel_in_every_turn() -> None:
    slope = 255 * np.abs(np.diff(frames_at(X, Y, sigma=0)[0] / 255.0)).mean()
    for look in every_turn(frames_at(X, Y, sigma=0)):
        error = 255 * (placed(look, look.noisy) - look.target)
        # Both pictures are rounded to whole grey levels (rms 0.29 each); the rest is the shift.
        assert np.sqrt((error**2).mean()) < np.hypot(0.29, 0.29) + 0.01 * slope
        assert np.abs(error).max() < 2


def test_the_shift_is_exact_for_a_band_limited_picture() -> None:
    y, x = np.mgrid[0:64, 0:64].astype(np.float64)
    right, down = np.array([0.37, -0.5, 0.02]), np.array([-0.21, 0.5, 0.0])
    pictures = torch.from_numpy(np.stack([scene(x, y)] * 3)[:, None].astype(np.float32))
    moved = Placing(right, down, np.ones(3), np.zeros(3))(pictures)[:, 0].numpy()
    inner = slice(MARGIN_PX, -MARGIN_PX)
    for k in range(3):
        wanted = scene(x - right[k], y - down[k])[inner, inner]
        slope = np.sqrt((np.gradient(wanted)[1] ** 2).mean())
        assert np.sqrt(((moved[k] - wanted) ** 2).mean()) < 0.01 * slope


def test_the_gradient_of_placing_is_right() -> None:
    place = Placing(np.array([0.3, -0.4]), np.array([0.1, 0.5]), np.array([1.1, 0.9]), np.zeros(2))
    picture = torch.rand(2, 1, 20, 21, requires_grad=True)
    weight = torch.rand(2, 1, 4, 5)
    (place(picture) * weight).sum().backward()
    step = torch.zeros_like(picture)
    step[1, 0, 9, 10] = 1.0  # linear, so a step of one grey level is exact
    change = ((place(picture + step) - place(picture)) * weight).sum()
    assert picture.grad is not None
    assert float(picture.grad[1, 0, 9, 10]) == pytest.approx(float(change.detach()), abs=1e-5)


def test_targets_are_stored_pixels_and_both_directions_occur() -> None:
    frames = frames_at(X, Y)
    batches = source(frames, turns=False)
    directions = set()
    for step in range(8):
        batch = batches(step)
        levels = 255 * batch.target.numpy()
        assert np.abs(levels - np.rint(levels)).max() < 1e-4
        for noisy, target in zip(batch.noisy.numpy(), batch.target.numpy(), strict=True):
            first, second = (
                [k for k in range(3) if holds(frames[k], np.rint(255 * p[0]).astype(np.uint8))]
                for p in (noisy, target)
            )
            assert len(first) == len(second) == 1
            directions.add((first[0], second[0]))
    assert directions == {(0, 1), (1, 0), (1, 2), (2, 1)}


def holds(frame: np.ndarray, patch: np.ndarray) -> bool:
    """Whether `patch` stands in `frame` as it is."""
    corners = np.lib.stride_tricks.sliding_window_view(frame, (4, 4))
    for y, x in np.argwhere((corners == patch[:4, :4]).all((2, 3))):
        if np.array_equal(frame[y : y + len(patch), x : x + len(patch)], patch):
            return True
    return False


def test_grey_levels_of_the_solve_are_followed() -> None:
    gain, offset = np.array([1.0, 1.25, 0.9]), np.array([0.0, -6.0, 4.0])
    frames = frames_at(X, Y, sigma=0, gain=gain, offset=offset)
    layout = Layout(np.array(X), np.array(Y), (90, 130), gain=gain, offset=offset)
    for stack in (frames, frames.astype(np.uint16) * 100):
        scaled = Layout(
            layout.x_px, layout.y_px, (90, 130), gain=gain, offset=offset * stack.max() / 255
        )
        batch = source(stack, scaled if stack.dtype == np.uint16 else layout)(0)
        assert batch.place is not None
        error = batch.place(batch.noisy) - batch.target
        assert float(error.abs().mean()) < 0.01


def test_sheared_frames_are_matched_line_by_line() -> None:
    shear = np.full(3, 0.08)
    y, x = np.mgrid[0:90, 0:130].astype(np.float64)
    frames = np.stack(
        [scene(x + a + 0.08 * (y - 44.5), y + b) for a, b in zip(X, Y, strict=True)]
    ).astype(np.float32)
    layout = Layout(np.array(X), np.array(Y), (90, 130), shear=shear)
    look = source(frames, layout).look(0, 1, np.random.default_rng(0))
    assert np.abs(placed(look, look.noisy) - look.target).max() < 0.02


def test_patches_of_bent_frames_are_matched_in_their_middle() -> None:
    field = ScanField(barrel_px=2.0).on((90, 130))
    y, x = np.mgrid[0:90, 0:130].astype(np.float64)
    bend = field.at(x, y)
    frames = np.stack(
        [scene(x + a + bend[..., 0], y + b + bend[..., 1]) for a, b in zip(X, Y, strict=True)]
    ).astype(np.float32)
    error = {}
    for known in (field, None):
        layout = Layout(np.array(X), np.array(Y), (90, 130), distortion=known)
        misses = []
        for seed in range(8):
            look = source(frames, layout).look(0, 1, np.random.default_rng(seed))
            miss = placed(look, look.noisy) - look.target
            middle = slice(len(miss) // 2 - 4, len(miss) // 2 + 4)
            misses.append(np.abs(miss[middle, middle]).max())
        error[known] = max(misses)
    # 4 px from the middle the field has changed by a tenth px: 8 grey levels at the steepest.
    assert error[field] < 0.07
    assert error[None] > 3 * error[field]


def test_pairs_that_miss_each_other_or_share_too_little_are_left_out() -> None:
    layout = Layout(
        np.array([0.0, 40.0, 100.0, 42.0, 44.0]),
        np.zeros(5),
        (90, 130),
        used=np.array([True, True, True, True, False]),
        shear=np.array([0.0, 0.0, 0.0, 0.02, 0.0]),
    )
    pairs = np.array([[0, 1], [0, 1], [0, 1], [0, 2], [0, 3], [0, 4]])
    residual = np.array([0.29, 0.31, np.nan, 0.0, 0.0, 0.0])
    # Too far off, not measured, 30 px in common, sheared by 0.48 px more, not used.
    np.testing.assert_array_equal(usable_pairs(layout, pairs, residual, patch_px=PATCH), [[0, 1]])
    assert overlap_px(layout, pairs[:1]).tolist() == [[89, 89]]
    with pytest.raises(InputError, match="no pair"):
        source(frames_at(X, Y), pairs=pairs[:0])


def looks_of(frames: np.ndarray) -> list[Any]:
    pairs, rng = source(frames, patch_px=72), np.random.default_rng(1)
    order = [(0, 1), (1, 2), (2, 1), (1, 0)] * 4
    return [pairs.look(*pair, rng).alike() for pair in order]


def test_the_noise_is_measured_whatever_the_shift() -> None:
    facts = noise_facts(looks_of(frames_at(X, Y)), frames_at(X, Y))
    assert 255 * facts.sigma == pytest.approx(SIGMA, rel=0.03)
    # Some thousand independent pixels count: the error of a correlation is about 0.02.
    assert max(abs(facts.along_x), abs(facts.along_y)) < 0.06
    # Without noise nothing but the rounding is left: the shift itself makes none.
    power = np.mean([noise_power(*look) for look in looks_of(frames_at(X, Y, sigma=0))])
    assert 255 * np.sqrt(power) < 0.06 * SIGMA


def test_correlated_noise_and_clipping_are_warned_about() -> None:
    white = frames_at(X, Y)
    assert noise_facts(looks_of(white), white).warnings() == []
    noise = np.random.default_rng(0).normal(0, 60, white.shape)
    rows = np.stack([cv2.GaussianBlur(n, (3, 1), 0.6) for n in noise])
    blurred = np.clip(np.rint(frames_at(X, Y, sigma=0) + rows), 0, 255).astype(np.uint8)
    facts = noise_facts(looks_of(blurred), blurred)
    assert facts.along_x > 0.3
    assert abs(facts.along_y) < 0.05
    assert facts.clipped > 0.005
    correlated, clipped = facts.warnings()
    assert "neighbouring pixels is correlated" in correlated
    assert "ends of the grey range" in clipped
    assert noise_facts(looks_of(white), white.astype(np.float32)).clipped == 0


def test_validation_estimates_the_psnr_against_the_noise_free_picture() -> None:
    held = source(frames_at(X, Y), validates=True, batch=16)
    batches = [held(step) for step in range(4)]
    metrics = measure(torch.nn.Identity(), batches, "cpu")
    # The identity leaves the noise, of which the filter of the shift lets this share through.
    places: list[Any] = [batch.place for batch in batches]
    kept = [(p.taps_x**2).sum((1, 2, 3)) * (p.taps_y**2).sum((1, 2, 3)) for p in places]
    share = float(torch.cat(kept).mean())
    clean, noise = SIGMA**2 * share, SIGMA**2
    # Errors of both estimates: some thousand pixels, 3 %.
    assert metrics["clean_psnr_db"] == pytest.approx(10 * np.log10(255**2 / clean), abs=0.3)
    assert metrics["psnr_db"] == pytest.approx(10 * np.log10(255**2 / (clean + noise)), abs=0.3)


def test_two_trainings_give_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"iterations": 5, "loss": {"pixel": "l2"}}
    (first, _), (second, _) = (
        train(tmp_path / name, source(frames_at(X, Y)), **options) for name in "ab"
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_noisy_frames_alone_teach_to_denoise(tmp_path: Path) -> None:
    frames = frames_at(X, Y)
    options: dict[str, Any] = {
        "iterations": 200,
        "loss": {"pixel": "l2"},
        "learning_rate": {"start": 5e-3, "schedule": "cosine"},
        "precision": "float32",
    }
    net, _ = train(tmp_path, source(frames), **options)
    clean = frames_at(X, Y, sigma=0)
    with torch.no_grad():
        out = 255 * net(torch.from_numpy(frames[:, None].astype(np.float32) / 255))[:, 0].numpy()
    error = np.sqrt(((out - clean) ** 2).mean())
    assert error < 0.9 * SIGMA  # 0.81 when written, by a network of 4 and 8 channels
