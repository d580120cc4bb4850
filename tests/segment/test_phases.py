import dask.array as da
import numpy as np
import pytest

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.segment import PHASES, Bradley, Level, otsu_level, segment
from tests.segment.two_phase import BRIGHT, DARK, colonies, record


def textbook_bradley(grey, valid, window_px, percent):
    """Bradley's rule pixel by pixel, with rational arithmetic."""
    half, out = window_px // 2, np.zeros(grey.shape, np.uint8)
    for y in range(grey.shape[0]):
        for x in range(grey.shape[1]):
            part = slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1)
            inside = valid[part]
            total, count = int(grey[part][inside].sum(dtype=np.int64)), int(inside.sum())
            out[y, x] = valid[y, x] and int(grey[y, x]) * count * 100 < total * (100 - percent)
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bradley_is_the_rule_at_borders_and_beside_missing_data(dtype):
    rng = np.random.default_rng(0)
    grey = rng.integers(1, np.iinfo(dtype).max, (41, 53), endpoint=True).astype(dtype)
    grey[10:20, 30:40] = 0  # no data
    expected = textbook_bradley(grey, grey != 0, 9, 15)
    assert np.array_equal(Bradley(window_px=9)(grey), expected)
    assert not expected[10:20, 30:40].any()
    assert 0.2 < expected.mean() < 0.6


def test_float_and_integer_mosaics_get_the_same_labels():
    grey = record(colonies((120, 150)).grey, seed=1)
    grey[:20, :30] = 0
    as_float = np.where(grey == 0, np.nan, grey.astype(np.float32))
    assert np.array_equal(Bradley()(as_float), Bradley()(grey))
    assert not Level(level=120.0)(as_float)[:20, :30].any()


def test_bright_phase_is_the_mirror_of_the_dark_one():
    grey = np.full((80, 80), 100, np.uint8)
    grey[30:35] = 150
    bright = Bradley(dark=False)(grey)
    assert bright[30:35].all()
    assert not bright[:30].any()


def test_a_window_without_a_centre_is_refused():
    with pytest.raises(ConfigError, match=r"window_px must be odd.*try 65"):
        PHASES.parse({"method": "bradley", "window_px": 64})


def test_otsu_level_lies_between_the_phases():
    grey = record(colonies((256, 256)).grey, psf_px=0.0, noise=5.0)
    grey[:40] = 0
    level = otsu_level(da.from_array(grey, chunks=100))
    assert DARK + 15 < level < BRIGHT - 15
    as_float = np.where(grey == 0, np.nan, grey.astype(np.float32))
    assert otsu_level(da.from_array(as_float, chunks=100)) == pytest.approx(level, abs=1.0)


def test_otsu_level_of_one_grey_level_is_refused():
    with pytest.raises(InputError, match="fewer than two grey levels"):
        otsu_level(da.full((50, 50), 7, dtype=np.uint8, chunks=25))


def test_level_labels_the_known_fraction():
    field = colonies((256, 256), fraction=0.34)
    middle = (DARK + BRIGHT) / 2
    # Pixels that the phases share equally go to either side: the two levels bracket the truth.
    low, high = (
        float(segment(field.grey, method=Level(level=level)).mean().compute())
        for level in (middle - 0.1, middle + 0.1)
    )
    assert low < float(field.bcc.mean()) < high
    assert high - low < 0.06
