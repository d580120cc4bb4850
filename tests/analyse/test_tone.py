import dask.array as da
import numpy as np
import pytest

from cemi_dask.analyse import AnalyseOptions, GridOptions, analyse
from cemi_dask.analyse.tone import find_tone
from cemi_dask.simulate import Specimen

SHAPE = (1239, 2032)
GRID = GridOptions(rows=3, cols=4)


@pytest.fixture(scope="module")
def even():
    """A specimen whose grains are equally bright, without noise."""
    return Specimen(width_px=2032, height_px=1239, seed=3, tone_variation=0.0).image(0, 0, SHAPE)


def fractions(grey):
    picture = np.clip(np.rint(grey), 1, 255).astype(np.uint8)
    options = AnalyseOptions(measures=["bcc_fraction"])
    return analyse(da.from_array(picture), {}, grid=GRID, options=options)["bcc_fraction"]


def patchwork(size_px):
    """Squares that are 1 % brighter or darker, by chance."""
    y, x = (np.arange(n) // size_px for n in SHAPE)
    signs = np.random.default_rng(0).choice([0.99, 1.01], (y[-1] + 1, x[-1] + 1))
    return signs[np.ix_(y, x)]


def test_brighter_and_darker_grains_leave_the_fraction_alone(even):
    tone = patchwork(300)
    error = 100 * (fractions(even * tone) - fractions(even))
    cells = tone[:1239, :2032].reshape(3, 413, 4, 508).mean(axis=(1, 3)).ravel() - tone.mean()
    # 1 % of the mean's 130 grey levels, of a contrast of 121.5.
    taken_for_bcc = 107 * cells
    assert taken_for_bcc.std() > 0.3
    assert (error - error.mean()).std() < 0.5 * taken_for_bcc.std()


def test_tops_and_means_do_not_go_together_where_the_fraction_varies_by_chance(even):
    tone = find_tone(even[:413, :508], np.ones((413, 508), bool))
    assert tone.share > 0.5
    assert abs(tone.covariance) < 20 * 0.3**2  # 20 blocks, 0.3 grey levels: 0.2 % of the tops


def test_brightness_of_a_block_is_seen_in_grey_levels(even):
    bright = even[:413, :508].copy()
    bright[:, 254:] *= 1.02
    tone = find_tone(bright, np.ones(bright.shape, bool))
    step = np.median(tone.local[:, 300:]) - np.median(tone.local[:, :200])
    assert step == pytest.approx(0.02 * 170, abs=0.8)


def test_a_cell_without_data_has_no_tone():
    tone = find_tone(np.zeros((413, 508), np.uint8), np.zeros((413, 508), bool))
    assert tone.share == 0.0
    assert np.isnan(tone.top)
    assert not tone.local.any()
