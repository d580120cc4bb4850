"""The shift filter: sharp, of exact phase, without ringing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from cemi_dask.resample import resample_rows, shift_frame, shift_rows, shift_taps

FRACTIONS = np.linspace(-0.5, 0.5, 21)


def response(fraction: float, period_px: float) -> complex:
    """Frequency response of the taps, divided by that of the ideal shift."""
    offsets = np.arange(-8, 9)
    omega = 2 * np.pi / period_px
    return complex(np.sum(shift_taps(fraction) * np.exp(1j * omega * (offsets - fraction))))


@pytest.mark.parametrize(("period_px", "loss"), [(20.0, 0.002), (5.4, 0.002), (2.7, 0.005)])
def test_lamellae_keep_their_modulation_at_every_fraction(period_px, loss):
    transfer = np.array([abs(response(f, period_px)) for f in FRACTIONS])
    assert transfer.min() >= 1 - loss
    assert transfer.max() <= 1 + loss


@pytest.mark.parametrize("period_px", [2.7, 3.5, 5.4, 20.0])
def test_phase_is_exact_to_a_thousandth_px(period_px):
    shifts = [np.angle(response(f, period_px)) * period_px / (2 * np.pi) for f in FRACTIONS]
    assert np.abs(shifts).max() < 1e-3


def test_taps_sum_to_one_and_no_shift_is_the_unit_impulse():
    for fraction in FRACTIONS:
        assert shift_taps(fraction).sum() == pytest.approx(1, abs=1e-12)
    impulse = np.zeros(17)
    impulse[8] = 1
    np.testing.assert_allclose(shift_taps(0.0), impulse, atol=1e-12)


def test_opposite_fractions_are_mirror_images():
    np.testing.assert_array_equal(shift_taps(0.3), shift_taps(-0.3)[::-1])


def test_edge_of_100_levels_rings_by_less_than_one_level():
    # An edge as a microscope shows it (Gaussian point spread, sigma 0.7 px).
    x = np.arange(200) - 100
    for phase in np.linspace(-0.5, 0.5, 5):
        row = 80 + 100 * ndtr((x - phase) / 0.7)
        picture = np.tile(row.astype(np.float32), (40, 1))
        for fraction in FRACTIONS:
            moved = shift_frame(picture, fraction, 0.0)[20, 16:-16]
            assert moved.min() > 79
            assert moved.max() < 181


def test_shifted_waves_equal_waves_made_at_the_shifted_place():
    y, x = np.mgrid[:120, :140].astype(np.float64)
    waves = [(2.7, 0.3, 0.1), (5.4, 1.1, 2.0), (9.0, 2.2, 0.7)]  # period, direction, phase

    def scene(y, x):
        return 120 + sum(
            30 * np.cos(2 * np.pi / p * (x * np.cos(a) + y * np.sin(a)) + f) for p, a, f in waves
        )

    moved = shift_frame(scene(y, x), 0.37, -0.21)
    wanted = scene(y + 0.21, x - 0.37)
    error = (moved - wanted)[8:-8, 8:-8]
    assert np.abs(error).max() < 0.5  # of 180 grey levels


def test_gain_and_offset_apply_to_moved_and_unmoved_frames_alike():
    flat = np.full((40, 50), 100, np.uint8)
    for right, down in ((0.0, 0.0), (0.4, 0.0), (0.25, -0.5)):
        moved = shift_frame(flat, right, down, gain=1.1, offset=-3.5)
        np.testing.assert_allclose(moved, 106.5, atol=1e-3)  # float32 sums of 34 products


def test_input_is_left_alone():
    frame = np.arange(400, dtype=np.float32).reshape(20, 20)
    before = frame.copy()
    for right in (0.0, 0.3):
        shift_frame(frame, right, 0.0)[:] = -1
    np.testing.assert_array_equal(frame, before)


def test_more_than_half_a_pixel_is_refused():
    with pytest.raises(ValueError, match=r"0\.6"):
        shift_taps(0.6)


def test_rows_move_each_by_its_own_distance() -> None:
    height, width = 120, 200
    y, x = np.mgrid[:height, :width].astype(float)

    def waves(at: np.ndarray) -> np.ndarray:
        return 128 + 50 * np.cos(2 * np.pi * at / 2.7 + 0.3 * y) + 50 * np.cos(at / 3)

    right = 0.07 * (np.arange(height) - 60)
    moved = shift_rows(waves(x), right)
    truth = waves(x - right[:, None])
    inside = (x > right[:, None] + 8) & (x < width - 9 + right[:, None]) & np.isfinite(moved)
    assert inside.mean() > 0.85
    # The filter is good to 0.4 % of an amplitude at a period of 2.7 px.
    assert np.abs(moved - truth)[inside].max() < 0.5


def test_rows_moved_out_of_the_frame_leave_the_fill_value() -> None:
    plane = np.ones((3, 10), np.float32)
    moved = shift_rows(plane, np.array([-3.0, 0.0, 20.0]))
    assert np.isnan(moved[0, -3:]).all()
    assert np.isfinite(moved[0, :-3]).all()
    assert np.array_equal(moved[1], plane[1])
    assert np.isnan(moved[2]).all()


def test_rows_are_read_anywhere_as_waves_made_there():
    x = np.arange(160.0)
    periods = np.array([2.7, 5.4, 9.0])[:, None]
    rows = 120 + 40 * np.cos(2 * np.pi * x / periods)
    places = 3 + np.linspace(0, 150, 333) + np.array([[0.0], [0.31], [-0.77]])
    read = resample_rows(rows.astype(np.float32), places)
    wanted = 120 + 40 * np.cos(2 * np.pi * places / periods)
    inside = (places > 8) & (places < 151)
    assert np.abs(read - wanted)[inside].max() < 0.3  # of 80 levels; the filter's own error


def test_rows_at_whole_places_are_copied_and_outside_there_is_nothing():
    rows = np.random.default_rng(0).integers(0, 255, (4, 30)).astype(np.uint8)
    places = np.tile(np.arange(-2.0, 33.0), (4, 1))
    read = resample_rows(rows, places)
    np.testing.assert_allclose(read[:, 2:32], rows, atol=1e-4)
    assert np.isnan(read[:, :2]).all()
    assert np.isnan(read[:, 32:]).all()
