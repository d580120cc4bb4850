"""The pair kernel: accuracy, honesty of its covariance, and what it refuses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cemi_dask.errors import InputError
from cemi_dask.overlap import PairShift
from cemi_dask.register import RegisterOptions, measure_pair
from tests.register.specimens import record, texture

SHAPE = (345, 512)


def pair_at(shift: tuple[float, float], noise_sigma: float, seed: int = 0, **kind: float):
    corners = [(60.0, 60.0), (60.0 + shift[0], 60.0 + shift[1])]
    return record(
        texture((520, 960), seed, **kind), corners, SHAPE, noise_sigma=noise_sigma, seed=seed
    )


@pytest.mark.parametrize(
    ("noise_sigma", "limit_px"),
    # Three to four stated standard deviations for this overlap and contrast.
    [(5.0, 0.02), (25.0, 0.04), (60.0, 0.1)],
)
def test_known_displacements_are_found_with_and_without_expectation(noise_sigma, limit_px):
    rng = np.random.default_rng(5)
    for seed in range(4):
        shift = (285 + rng.uniform(-12, 12), rng.uniform(-6, 6))
        fixed, moving = pair_at(shift, noise_sigma, seed)
        for expected in ((285.0, 0.0, 16.0), None):
            found = measure_pair(fixed, moving, expected)
            assert found.status == "ok"
            best = found.peaks[0]
            assert abs(best.dx_px - shift[0]) < limit_px
            assert abs(best.dy_px - shift[1]) < limit_px


def test_displacement_has_no_bias_at_any_subpixel_phase():
    # A bias of 0.01 px a frame would be 2 px over a row of 217.
    for phase in (0.1, 0.25, 0.5, 0.75):
        errors = []
        for seed in range(6):
            fixed, moving = pair_at((285 + phase, phase - 0.5), 25.0, seed)
            best = measure_pair(fixed, moving, (285.0, 0.0, 5.0)).peaks[0]
            errors.append((best.dx_px - 285 - phase, best.dy_px - phase + 0.5))
        # Each error scatters by 0.008 px, the mean of six by 0.0033 px.
        assert np.abs(np.mean(errors, axis=0)).max() < 0.012


def bent_pair(seed: int, noise_sigma: float):
    """Frames at 350, 3 px whose moving one is bent by up to 8, -5 px down its lines, and the
    median displacement of their overlap."""
    rng = np.random.default_rng(seed)
    h, w = 690, 512
    field = (120 + 35 * texture((h + 100, w + 450), seed)).astype(np.float32)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    bend = (y / h) ** 2
    moving = cv2.remap(field, x + 390 + 8 * bend, y + 43 - 5 * bend, cv2.INTER_LANCZOS4)
    pictures = np.stack([field[40 : 40 + h, 40 : 40 + w], moving])
    noisy = np.rint(pictures + noise_sigma * rng.standard_normal(pictures.shape))
    middle = float(np.median(bend[: h - 3]))
    return np.clip(noisy, 0, 255).astype(np.uint8), (350 + 8 * middle, 3 - 5 * middle)


@pytest.mark.parametrize("noise_sigma", [10.0, 25.0])
def test_a_bent_overlap_has_the_median_of_its_displacements(noise_sigma):
    for seed in range(3):
        (fixed, moving), truth = bent_pair(seed, noise_sigma)
        found = measure_pair(fixed, moving, (350.0, 3.0, 6.0))
        assert found.status == "ok"
        best = found.peaks[0]
        # 0.3 px is how unevenly structure is spread; least squares misses by 0.5 to 1 px.
        assert abs(best.dx_px - truth[0]) < 0.4
        assert abs(best.dy_px - truth[1]) < 0.4
        # Nothing finer than the bend can be said of a whole frame.
        assert best.cov_px2[0] ** 0.5 > 0.5


def test_stated_covariance_is_that_of_the_errors():
    misses = []
    for seed in range(24):
        fixed, moving = pair_at((285.3, 2.7), 30.0, seed)
        best = measure_pair(fixed, moving, (285.0, 3.0, 5.0)).peaks[0]
        xx, _, yy = best.cov_px2
        misses += [(best.dx_px - 285.3) / xx**0.5, (best.dy_px - 2.7) / yy**0.5]
    # 48 normal values: their rms is 1 +- 0.1; the estimate itself may be 40 % off.
    assert 0.55 < np.sqrt(np.mean(np.square(misses))) < 1.5


def test_swapping_the_frames_negates_the_displacement():
    fixed, moving = pair_at((285.4, -3.2), 10.0)
    there = measure_pair(fixed, moving).peaks[0]
    back = measure_pair(moving, fixed).peaks[0]
    assert abs(there.dx_px + back.dx_px) < 0.01
    assert abs(there.dy_px + back.dy_px) < 0.01


def test_shading_and_gain_do_not_move_the_displacement():
    shift = (285.4, -3.2)
    fixed, moving = pair_at(shift, 10.0)
    shade = 1 - 0.15 * np.linspace(-1, 1, SHAPE[1]) ** 2
    best = measure_pair(
        (0.9 * fixed * shade).astype(np.float32), (1.1 * moving * shade).astype(np.float32)
    ).peaks[0]
    assert abs(best.dx_px - shift[0]) < 0.03
    assert abs(best.dy_px - shift[1]) < 0.03


def test_narrow_overlaps_of_8_percent_are_found_in_whole_frames():
    for shift in ((471.3, 12.6), (-471.3, 12.6), (9.4, 317.2), (9.4, -317.2)):
        field = texture((800, 1100), 3)
        start = (60.0 + max(0, -shift[0]), 60.0 + max(0, -shift[1]))
        fixed, moving = record(
            field, [start, (start[0] + shift[0], start[1] + shift[1])], SHAPE, noise_sigma=15
        )
        found = measure_pair(fixed, moving)
        assert found.status == "ok"
        assert abs(found.peaks[0].dx_px - shift[0]) < 0.1
        assert abs(found.peaks[0].dy_px - shift[1]) < 0.1


def test_unrelated_frames_are_rejected_and_noise_is_empty():
    rng = np.random.default_rng(0)
    for seed in range(8):
        a, b = (
            record(texture(SHAPE, 50 + 2 * seed + k), [(0, 0)], SHAPE, noise_sigma=20)[0]
            for k in (0, 1)
        )
        for expected in ((285.0, 0.0, 16.0), None):
            assert measure_pair(a, b, expected).status == "rejected"
        blank = np.clip(np.rint(120 + 25 * rng.standard_normal(SHAPE)), 0, 255).astype(np.uint8)
        assert measure_pair(blank, a).status == "empty"
        assert measure_pair(blank, np.full(SHAPE, 9, np.uint8)).status == "empty"


def test_bare_lattice_is_ambiguous_and_known_across_the_lamellae():
    shift = np.array((285.0, 1.5))
    fixed, moving = pair_at((285.0, 1.5), 10.0, period_px=5.4)
    found = measure_pair(fixed, moving, (285.0, 0.0, 3.0))
    assert found.status == "ambiguous"
    misses = np.array([(p.dx_px, p.dy_px) for p in found.peaks]) - shift
    # All peaks are whole periods away across the lamellae, whatever they say along them.
    periods = misses @ (np.cos(0.4), np.sin(0.4)) / 5.4
    assert np.abs(periods - np.round(periods)).max() < 0.1
    assert np.linalg.norm(misses, axis=1).min() < 2


def test_what_is_not_ok_says_why():
    a, b = (record(texture(SHAPE, 60 + k), [(0, 0)], SHAPE, noise_sigma=20)[0] for k in (0, 1))
    fixed, moving = pair_at((285.0, 1.5), 10.0)
    lattice = pair_at((285.0, 1.5), 10.0, period_px=5.4)
    for pair, options, expected in (
        ((fixed, moving), {}, ("ok", "")),
        ((fixed, moving), {"min_score": 0.999}, ("rejected", "low_score")),
        ((fixed, moving), {"min_overlap": 0.9}, ("rejected", "no_overlap")),
        ((fixed, np.full(SHAPE, 9, np.uint8)), {}, ("empty", "no_texture")),
        ((a, b), {"min_score": 0.0}, ("rejected", "not_significant")),
        (lattice, {}, ("ambiguous", "lattice")),
        (lattice, {"min_significance": 1.0}, ("ambiguous", "lattice")),
    ):
        found = measure_pair(*pair, (285.0, 0.0, 3.0), RegisterOptions(**options))
        assert (found.status, found.reason) == expected


def test_overlaps_that_agree_in_a_corner_alone_are_rejected():
    # Unrelated but for a patch, a fifth of the overlap at the displacement expected.
    a, b = (record(texture(SHAPE, 70 + k), [(0, 0)], SHAPE, noise_sigma=10)[0] for k in (0, 1))
    patch = record(texture(SHAPE, 80), [(0, 0)], SHAPE, noise_sigma=0)[0][:130, :200]
    noise = 10 * np.random.default_rng(5).standard_normal((2, *patch.shape))
    x, y = 120, 8
    for frame, left, top, n in ((a, 150, 40, noise[0]), (b, 150 - x, 40 - y, noise[1])):
        frame[top : top + 130, left : left + 200] = np.clip(patch + n, 0, 255)
    found = measure_pair(a, b, (x, y, 3.0))
    assert found.peaks[0].dx_px == pytest.approx(x, abs=2)
    assert found.peaks[0].score > 0.1
    assert (found.status, found.reason) == ("rejected", "unexplained")


def test_result_survives_json_and_is_deterministic():
    fixed, moving = pair_at((285.4, -3.2), 25.0)
    found = measure_pair(fixed, moving)
    assert PairShift.from_json(found.to_json()) == found
    assert measure_pair(fixed, moving) == found


def test_grey_statistics_are_those_of_the_overlap():
    fixed, moving = pair_at((285.0, 0.0), 0.0)
    found = measure_pair(fixed, moving)
    assert found.grey is not None
    expected = (
        fixed[:, 285:].mean(),
        moving[:, :-285].mean(),
        fixed[:, 285:].std(),
        moving[:, :-285].std(),
    )
    np.testing.assert_allclose(found.grey, expected, rtol=1e-6)
    assert found.overlap_px == SHAPE[0] * (SHAPE[1] - 285)


def test_wrong_input_is_refused():
    frame = np.zeros(SHAPE, np.uint8)
    with pytest.raises(InputError, match="different shapes"):
        measure_pair(frame, frame[:-1])
    with pytest.raises(InputError, match="NaN"):
        measure_pair(np.full(SHAPE, np.nan, np.float32), frame.astype(np.float32))
    with pytest.raises(ValueError, match="whitening"):
        RegisterOptions(whitening=2)
