"""Pairs of a noisy and a sharp picture: their map is found, other fields are refused."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.denoise import Alignment, align_pair
from cemi_dask.errors import InputError
from tests.denoise.pairs import Askew, Pair, make_pair

WHOLE, PART = (690, 1024), (345, 512)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair(PART, Askew())


def rms_px(found: Alignment, pair: Pair) -> float:
    """Distance of the map from the true one, rms over valid pixels."""
    assert found.geometry is not None
    y, x = found.geometry.positions()
    rows, cols = (slice(n) for n in y.shape)
    off = np.hypot(y - pair.true_y[rows, cols], x - pair.true_x[rows, cols])
    return float(np.sqrt(np.mean(off[found.valid] ** 2)))


# Bounds are about twice what was measured, in brackets. A line of 1024 px tells its own
# jitter to about 0.03 px at sigma 25; half as long, with half the lines for the drift, less.
@pytest.mark.parametrize(
    ("shape", "askew", "bound_px"),
    [
        (WHOLE, Askew(), 0.06),  # (0.031)
        (WHOLE, Askew(hd_jitter_px=0.5), 0.08),  # (0.041)
        (WHOLE, Askew(rotation_deg=-1, scale=1.01, shift_px=(40, -30), seed=2), 0.07),  # (0.034)
        (PART, Askew(rotation_deg=0, jitter_px=0, drift_px=0), 0.08),
        (PART, Askew(rotation_deg=1, hd_jitter_px=0.5), 0.2),  # (0.117)
        (PART, Askew(jitter_px=1.0, seed=3), 0.16),  # (0.081)
        (PART, Askew(ld_sigma=50), 0.3),  # (0.15)
    ],
)
def test_the_map_is_found_with_rotation_shift_drift_and_jitter(
    shape: tuple[int, int], askew: Askew, bound_px: float
) -> None:
    pair = make_pair(shape, askew)
    found = align_pair(pair.ld, pair.hd)
    assert found.accepted, found.reason
    assert found.valid.mean() > 0.85
    assert rms_px(found, pair) < bound_px
    assert found.geometry is not None
    assert found.geometry.rotation_deg == pytest.approx(askew.rotation_deg, abs=0.03)
    # Jitter of HD lines is told from that of LD lines by the rotation, and not made up.
    assert found.geometry.hd_lines.any() == bool(askew.hd_jitter_px)


@pytest.mark.parametrize(("shape", "seed"), [(WHOLE, 0), (PART, 1), (PART, 2), (PART, 3)])
def test_other_fields_of_the_same_texture_are_refused(shape: tuple[int, int], seed: int) -> None:
    still = {"rotation_deg": 0.0, "jitter_px": 0.0, "drift_px": 0.0}
    here = make_pair(shape, Askew(seed=seed, **still))
    there = make_pair(shape, Askew(seed=seed, **still), place=(5000 + 900 * seed, 57_000))
    found = align_pair(here.ld, there.hd)
    assert not found.accepted
    assert "different fields" in found.reason
    assert not found.valid.any()


def test_the_aligned_picture_is_the_scene_itself() -> None:
    # Without noise both pictures show the same grey levels: what differs is interpolation and
    # the rest of the map (2.0 levels measured, of 120 between the phases).
    pair = make_pair(PART, Askew(ld_sigma=0, hd_sigma=0))
    found = align_pair(pair.ld, pair.hd)
    ours, theirs = pair.ld[found.valid].astype(float), found.hd[found.valid].astype(float)
    assert np.std(ours - theirs) < 3.0
    contrast = np.cov(ours, theirs)
    assert contrast[0, 1] / contrast[0, 0] == pytest.approx(1, abs=0.005)  # nothing is blurred
    assert np.isnan(found.hd[~found.valid]).all()


def test_whole_pixels_are_not_interpolated(pair: Pair) -> None:
    ld, hd = pair.hd[20:-5, 9:-12], pair.hd
    found = align_pair(ld, hd)
    assert found.score == pytest.approx(1, abs=1e-3)
    assert np.abs(found.hd - ld)[found.valid].max() < 3  # levels; a position is off by 0.01 px


def test_shading_contrast_grey_types_and_sizes_do_not_matter(pair: Pair) -> None:
    y, x = np.mgrid[0 : PART[0], 0 : PART[1]] / PART[1]
    shaded = (pair.ld * (1 - 0.5 * ((x - 0.5) ** 2 + y**2)) * 0.6 + 30).astype(np.float32)
    for ld, hd in (
        (shaded, pair.hd),
        (pair.ld, pair.hd.astype(np.uint16) * 200),
        (pair.ld[:300], pair.hd),
        (pair.ld, pair.hd[:320, :480]),
    ):
        found = align_pair(ld, hd)
        assert found.accepted, found.reason
        assert rms_px(found, pair) < 0.2
    found = align_pair(pair.ld, (pair.hd.astype(np.float32) - 20) * 2)
    assert found.gain == pytest.approx(0.5, abs=0.02)
    assert found.offset == pytest.approx(20, abs=3)


def test_a_changed_place_does_not_pull_the_rest_away(pair: Pair) -> None:
    ld = pair.ld.copy()
    ld[100:200, 200:330] = np.random.default_rng(0).integers(0, 255, (100, 130))
    found = align_pair(ld, pair.hd)
    assert found.accepted
    assert rms_px(found, pair) < 0.2


def test_inputs_stay_as_they_are_and_runs_agree(pair: Pair) -> None:
    ld, hd = pair.ld.copy(), pair.hd.copy()
    first, second = align_pair(ld, hd), align_pair(ld, hd)
    np.testing.assert_array_equal(ld, pair.ld)
    np.testing.assert_array_equal(hd, pair.hd)
    np.testing.assert_array_equal(first.hd, second.hd)


def test_pictures_without_structure_are_refused_and_wrong_arrays_raise(pair: Pair) -> None:
    assert not align_pair(np.full(PART, 90, np.uint8), pair.hd).accepted
    noise = np.random.default_rng(1).integers(0, 255, PART)
    assert not align_pair(noise, pair.hd).accepted
    with pytest.raises(InputError, match="LD picture has shape"):
        align_pair(pair.ld[:50], pair.hd)
    with pytest.raises(InputError, match="HD picture holds NaN"):
        align_pair(pair.ld, np.where(pair.hd > 100, np.nan, pair.hd))
