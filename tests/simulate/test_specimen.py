"""The specimens: exact under shift, reproducible in any window, and true to their truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import convolve1d
from scipy.spatial import cKDTree

from cemi_dask.geometry import Box
from cemi_dask.simulate import Gradient, GradientFilm, Scene, Specimen
from cemi_dask.simulate.colonies import Tessellation, find_colonies

PLAIN = Specimen(
    width_px=14_000,
    height_px=1_500,
    dendrites_per_cell=0.0,
    empty_per_cell=0.0,
    scratches_per_cell=0.0,
)
EVENTFUL = Specimen(dendrites_per_cell=0.7, empty_per_cell=0.6, scratches_per_cell=0.7)


def bradley(grey: np.ndarray, window_px: int = 63, percent: float = 15.0) -> np.ndarray:
    """Bradley & Roth (2007): dark where below the local mean by so many percent."""
    mean = cv2.boxFilter(grey, cv2.CV_32F, (window_px, window_px))
    return grey < mean * (1 - percent / 100)


def sinc_kernel(shift: float, taps: int = 24) -> np.ndarray:
    """Kaiser-windowed sinc that evaluates a sampled signal `shift` px further on."""
    k = np.arange(-taps, taps + 1)
    kernel = np.sinc(k - shift) * np.i0(8 * np.sqrt(np.maximum(0, 1 - ((k - shift) / taps) ** 2)))
    return (kernel / kernel.sum())[::-1]


def shift_error_px(scene: Scene, corner: tuple[float, float], step: tuple[float, float]) -> float:
    """How far the picture at corner + step is from the interpolated picture at corner.

    Seen through a blur of 1.3 px: with less, the lamellae's harmonics beyond the sampling limit
    would bias the interpolation, not the picture, by up to 0.002 px.
    """
    shape = (400, 520)
    first = scene.image(*corner, shape, psf_sigma_px=1.3).astype(np.float64)
    second = scene.image(corner[0] + step[0], corner[1] + step[1], shape, psf_sigma_px=1.3)
    moved = convolve1d(
        convolve1d(first, sinc_kernel(step[0]), axis=0), sinc_kernel(step[1]), axis=1
    )
    inner = np.s_[30:-30, 30:-30]
    slopes = np.stack([g[inner].ravel() for g in np.gradient(moved)], axis=1)
    rest = (second - moved)[inner].ravel()
    found, *_ = np.linalg.lstsq(slopes, rest, rcond=None)
    return float(np.hypot(*found))


@pytest.mark.parametrize("step", [(0.37, 0.61), (0.5, 0.5), (-0.83, 0.05)])
@pytest.mark.parametrize("corner", [(500.0, 3_000.0), (7_100.25, 122_900.75)])
def test_a_shifted_window_shows_the_shifted_scene_to_0_001_px(
    step: tuple[float, float], corner: tuple[float, float]
) -> None:
    # 0.001 px is a third of the Cramer-Rao bound of one LD pair: no stitcher sees it.
    assert shift_error_px(Specimen(), corner, step) < 0.001
    assert shift_error_px(EVENTFUL, corner, step) < 0.001


def test_the_film_is_exact_under_shift_too() -> None:
    assert shift_error_px(GradientFilm(), (30.0, 6_000.0), (0.37, 0.61)) < 0.001


@pytest.mark.parametrize("scene", [EVENTFUL, GradientFilm()], ids=["eutectic", "film"])
def test_windows_agree_where_they_overlap(scene: Scene) -> None:
    whole = scene.image(-100.3, 5_000.6, (500, 900))
    part = scene.image(-100.3 + 123, 5_000.6 + 331, (200, 300))
    # float32 rounding of coordinates: 2e-4 px on slopes of at most 150 grey levels per px.
    np.testing.assert_allclose(part, whole[123:323, 331:631], atol=0.1)
    truth, truth_part = (
        scene.truth_at(-100, 5_000, (500, 900)),
        scene.truth_at(23, 5_331, (200, 300)),
    )
    for name in ("lamellar", "valid"):
        np.testing.assert_array_equal(truth_part[name], truth[name][123:323, 331:631])
    np.testing.assert_allclose(truth_part["bcc"], truth["bcc"][123:323, 331:631], atol=2e-3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_specimen() -> None:
    again = Specimen().image(0.5, 0.5, (100, 100))
    assert again.tobytes() == Specimen().image(0.5, 0.5, (100, 100)).tobytes()
    assert np.abs(again - Specimen(seed=1).image(0.5, 0.5, (100, 100))).mean() > 20


def test_colonies_are_those_of_the_nearest_warped_centre() -> None:
    cells = Tessellation(seed=4, pitch_px=150.0)
    y, x = np.arange(900.0) - 200.7, np.arange(1_200.0) + 1e5 + 0.3
    found = find_colonies(cells, y, x, border_px=2.8)
    i, j = np.meshgrid(np.arange(-6, 10), np.arange(660, 682), indexing="ij")
    seed_y, seed_x = cells.seeds(i, j)
    dy, dx = cells.warp(y, x)
    tree = cKDTree(np.column_stack([seed_y.ravel(), seed_x.ravel()]))
    _, nearest = tree.query(np.stack([y[:, None] + dy, x[None, :] + dx], axis=-1))
    np.testing.assert_array_equal(found.i[found.label], i.ravel()[nearest])
    np.testing.assert_array_equal(found.j[found.label], j.ravel()[nearest])


def test_the_fraction_per_pixel_is_that_of_the_sharp_specimen() -> None:
    # Average an almost sharp picture over 12 x 12 places in every pixel.
    plain = PLAIN.model_copy(update={"tone_variation": 0.0})
    offsets = (np.arange(12) - 5.5) / 12
    window = (700, 4_000, (120, 120))
    total = np.zeros(window[2])
    for dy in offsets:
        for dx in offsets:
            total += plain.image(window[0] + dy, window[1] + dx, window[2], psf_sigma_px=0.03)
    share = (plain.bright_level - total / 144) / (plain.bright_level - plain.dark_level)
    truth = plain.truth_at(*window)
    error = (share - truth["bcc"])[truth["lamellar"]]
    assert truth["lamellar"].mean() > 0.3
    # 12 x 12 places know a pixel's fraction to about 0.01; colony borders are mixed.
    assert np.sqrt(np.mean(error**2)) < 0.02
    assert abs(error.mean()) < 0.001


def test_bradley_finds_the_fraction_of_the_noise_free_specimen_to_0_3_points() -> None:
    pad, height, width = 40, 1_200, 508
    for x0 in range(0, 13_500, 1_500):
        picture = PLAIN.image(-pad, x0 - pad, (height + 2 * pad, width + 2 * pad))
        found = bradley(picture)[pad:-pad, pad:-pad].mean()
        truth = PLAIN.truth_at(0, x0, (height, width))["bcc"].mean()
        assert abs(found - truth) < 0.003, x0


def test_the_dark_fraction_follows_its_gradient() -> None:
    for place in (0.0, 0.5, 1.0):
        x0 = int(place * (PLAIN.width_px - 1_000))
        truth = PLAIN.truth_at(0, x0, (1_500, 1_000))
        expected = PLAIN.bcc_fraction.at(np.array((x0 + 500) / PLAIN.width_px))
        found = truth["bcc"][truth["lamellar"]].mean()
        # 25 colonies with noise in their lamellae's thickness: 0.0006 (1 sigma).
        assert found == pytest.approx(float(expected), abs=0.002)


def test_the_lamellar_share_follows_its_gradient() -> None:
    scene = PLAIN.model_copy(
        update={"colony_px": 80.0, "lamellar_fraction": Gradient(left=1, middle=0.5, right=0)}
    )
    for place, expected in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.1)):
        x0 = round(place * scene.width_px) - 600
        found = scene.truth_at(0, x0, (1_200, 1_200))["lamellar"].mean()
        # 225 colonies of unequal size, assigned evenly: 0.025 (1 sigma).
        assert found == pytest.approx(expected, abs=0.075)


@pytest.mark.parametrize("colony", [0, 2, 4])
def test_the_period_is_the_one_in_the_picture_to_0_5_percent(colony: int) -> None:
    scene = PLAIN.model_copy(
        update={
            "colony_px": 3_000.0,
            "lamellar_fraction": Gradient(left=1, middle=1, right=1),
            "waviness_px": 0.5,
        }
    )
    y, x = Tessellation(scene.seed, scene.colony_px).seeds(np.array(0), np.array(colony))
    corner, shape = (float(y[0]) - 128, float(x[0]) - 128), (256, 256)
    truth = scene.truth_at(*corner, shape)["period_px"]
    taper = np.outer(np.hanning(256), np.hanning(256))
    power = np.abs(np.fft.fft2((scene.image(*corner, shape) - 128) * taper, (1_024, 1_024))) ** 2
    frequency = np.hypot(np.fft.fftfreq(1_024)[:, None], np.fft.fftfreq(1_024)[None, :])
    peak = frequency.ravel()[np.argmax(power * (frequency > 0.1))]
    ring = np.abs(frequency - peak) < 0.015
    found = power[ring].sum() / (power * frequency)[ring].sum()
    assert len(np.unique(truth)) == 1
    assert found == pytest.approx(float(truth[0, 0]), rel=0.005)


def test_empty_patches_are_flat_invalid_and_hold_no_phase() -> None:
    scene = Specimen(empty_per_cell=0.9, scratches_per_cell=0.0, dendrites_per_cell=0.0)
    truth = scene.truth(Box(0, 0, 800, 800))
    empty = ~truth["valid"]
    assert 0.02 < empty.mean() < 0.6
    assert truth["bcc"][empty].max() == 0
    assert not truth["lamellar"][empty].any()
    assert np.isnan(truth["period_px"][empty]).all()
    inside = cv2.erode(empty.astype(np.uint8), np.ones((9, 9))) > 0
    assert np.ptp(scene.image(0, 0, (800, 800))[inside]) < 0.1


def test_dendrites_are_bright_and_not_lamellar() -> None:
    bare = Specimen(dendrites_per_cell=0.0, empty_per_cell=0.0, scratches_per_cell=0.0)
    grown = bare.model_copy(update={"dendrites_per_cell": 0.9})
    window = (0, 0, (800, 800))
    lost = bare.truth_at(*window)["lamellar"] & ~grown.truth_at(*window)["lamellar"]
    assert 0.01 < lost.mean() < 0.3
    inside = cv2.erode(lost.astype(np.uint8), np.ones((7, 7))) > 0
    assert grown.truth_at(*window)["bcc"][inside].max() == 0
    np.testing.assert_allclose(grown.image(*window)[inside], 170, rtol=0.02)


def test_the_films_particles_grow_along_x_and_match_their_picture() -> None:
    film = GradientFilm(tone_variation=0.0)
    fractions = []
    for x0 in (0, 3_000, 6_000, 8_600):
        truth = film.truth_at(0, x0, (500, 500))
        grey = film.image(0, x0, (500, 500))
        share = (film.bright_level - grey) / (film.bright_level - film.dark_level)
        fractions.append(float(truth["bcc"].mean()))
        # Touching particles multiply instead of merging: a few tenths of a percent.
        assert float(share.mean()) == pytest.approx(fractions[-1], abs=0.004)
    assert fractions == sorted(fractions)
    assert fractions[-1] > 5 * fractions[0]


def test_a_gradient_passes_through_its_three_values() -> None:
    curve = Gradient(left=6.0, middle=4.8, right=5.5)
    np.testing.assert_allclose(curve.at(np.array([0.0, 0.5, 1.0])), [6.0, 4.8, 5.5])
    np.testing.assert_allclose(curve.at(np.array([-3.0, 7.0])), [6.0, 5.5])
