"""The microscope: noise as stated, shading, data bar, blank frames, stage paths."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.simulate import Microscope, SimulateOptions, Specimen
from cemi_dask.simulate.stage import tile_path, video_path

SHAPE = (200, 300)


def record(microscope: Microscope, seed: int = 0, **options: object) -> np.ndarray:
    return microscope.record(
        Specimen(), (300.2, 900.7), SHAPE, gain=1.0, rng=np.random.default_rng(seed), **options
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [4.5, 25.0])
def test_noise_at_mid_grey_has_the_stated_sigma(sigma: float, share: float) -> None:
    scope = Microscope(noise_sigma=sigma, poisson_share=share, vignetting=0.0)
    flat = record(scope, blank=True).astype(float)
    # Blank frames are at 118 of 255; counts make noise grow with the square root of the level.
    expected = sigma * np.sqrt(1 - share + share * 118 / 128)
    assert flat.std() == pytest.approx(np.hypot(expected, np.sqrt(1 / 12)), rel=0.02)
    assert flat.mean() == pytest.approx(118, abs=0.5)


def test_bright_pixels_are_noisier_where_electrons_are_counted() -> None:
    scope = Microscope(noise_sigma=10.0, poisson_share=1.0, vignetting=0.0)
    clean = Specimen().image(300.2, 900.7, SHAPE, psf_sigma_px=scope.psf_sigma_px)
    noise = np.mean([(record(scope, k) - clean) ** 2 for k in range(30)], axis=0)
    bright, dark = noise[clean > 150].mean(), noise[clean < 70].mean()
    levels = clean[clean > 150].mean() / clean[clean < 70].mean()
    assert bright / dark == pytest.approx(levels, rel=0.05)


def test_without_noise_a_frame_is_the_specimen_to_half_a_grey_level() -> None:
    scope = Microscope(noise_sigma=0.0, vignetting=0.0)
    clean = Specimen().image(300.2, 900.7, SHAPE, psf_sigma_px=scope.psf_sigma_px)
    assert np.abs(record(scope) - clean).max() <= 0.501


def test_vignetting_darkens_the_corners_by_its_share() -> None:
    shading = Microscope(vignetting=0.08).shading((101, 201))
    assert shading[50, 100] == 1
    assert shading[0, 0] == pytest.approx(0.92)


def test_the_data_bar_is_below_the_picture_and_never_changes() -> None:
    plain, barred = Microscope(), Microscope(data_bar_px=44)
    first, second = record(barred), record(barred, 1)
    assert first.shape == (244, 300)
    np.testing.assert_array_equal(first[:200], record(plain))
    np.testing.assert_array_equal(first[200:], second[200:])
    assert set(np.unique(first[200])) == {255}
    assert first[201:].mean() < 60


def test_rows_cover_the_same_part_in_both_directions_within_the_stage_error() -> None:
    options = SimulateOptions(rows=4, frames_per_row=10, looks=3, serpentine=True).resolved()
    scope = options.microscope
    for row in range(4):
        path = video_path(options.plan, scope, row)
        x = path.x_px[::-1] if row % 2 else path.x_px
        assert len(path) == 28
        assert (np.diff(x) > 0).all()
        assert abs(x[0]) < scope.row_start_px + 5 * scope.jitter_px
        assert x[-1] - x[0] == pytest.approx(9 * 570, abs=10 * scope.jitter_px)
        error = path.y_px - row * 436
        assert np.abs(error).max() < scope.row_pitch_px + scope.row_drift_px + 5 * scope.jitter_px
        assert np.abs(path.gain - 1).max() <= scope.gain_drift


def test_tiles_miss_their_nominal_places_by_the_stage_error_at_most() -> None:
    options = SimulateOptions(rows=2, frames_per_row=50, blank_fraction=0.1).resolved()
    path = tile_path(options.plan, options.microscope, 1)
    away_x, away_y = path.x_px - path.nominal_x_px, path.y_px - path.nominal_y_px
    assert 6 < np.abs(away_x).max() <= 12
    assert 3 < np.abs(away_y).max() <= 6
    assert path.blank.sum() == 5
