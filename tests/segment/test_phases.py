import dask.array as da
import numpy as np
import pytest

from cemi_dask.analyse import CellView, PhaseFractions
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.segment import PHASES, Bradley, Level, Levels, Mixture, Otsu, Sauvola, segment
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
    with pytest.raises(ConfigError, match=r"must be odd.*try 65"):
        PHASES.parse({"method": "bradley", "window_px": 64})


@pytest.mark.parametrize("method", [Otsu(), Mixture(), Sauvola(k=0.0, window_px=101)])
def test_levels_lie_between_the_phases(method):
    field = colonies((256, 256))
    grey = record(field.grey, psf_px=0.0, noise=5.0)
    sure = np.abs(field.bcc - 0.5) > 0.45
    for picture in (grey, grey.astype(np.uint16) * 200, grey.astype(np.float32)):
        found = method(picture)[sure]
        assert (found == (field.bcc > 0.5)[sure]).mean() > 0.99


def test_otsu_is_the_textbooks():
    rng = np.random.default_rng(3)
    grey = np.clip(rng.normal(rng.choice([60, 130, 200], (300, 300)), 12), 1, 255).astype(np.uint8)
    from skimage.filters import threshold_multiotsu, threshold_otsu

    two = Otsu().settled([Otsu().counted(grey)], grey.dtype).levels
    assert two[0] == threshold_otsu(grey) + 1  # ours is where the brighter class begins
    three = Otsu(phases=3).settled([Otsu(phases=3).counted(grey)], grey.dtype).levels
    assert three == pytest.approx(threshold_multiotsu(grey, 3), abs=3.0)


def test_a_mixture_parts_a_rare_phase_better_than_otsu():
    rng = np.random.default_rng(0)
    rare = rng.random((400, 400)) < 0.03
    grey = np.clip(rng.normal(np.where(rare, 70, 130), 15), 1, 255).astype(np.uint8)
    share = {m.method: float((m(grey) == 1).mean()) for m in (Otsu(), Mixture())}
    assert abs(share["mixture"] - 0.03) < 0.005 < abs(share["otsu"] - 0.03)


def test_three_phases_are_numbered_from_bcc_on():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, (20, 20)).repeat(12, 0).repeat(12, 1)
    grey = np.clip(rng.normal(np.array([60, 120, 180])[true], 10), 1, 255).astype(np.uint8)
    for method in (Otsu(phases=3, majority_px=3), Mixture(phases=3, majority_px=3)):
        assert (method(grey) == (true + 1) % 3).mean() > 0.98
        bright = method.model_copy(update={"dark": False})(grey)
        assert (bright == (3 - true) % 3).mean() > 0.98
    assert (Levels(levels=(90.0, 150.0))(grey) == (true + 1) % 3).mean() > 0.98
    view = CellView(grey, {"bcc": Otsu(phases=3)(grey)})
    found = PhaseFractions(phases=3)(view)
    shares = [found[f"phase_{k}_fraction"] for k in (1, 2, 3)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == pytest.approx([(true == k).mean() for k in range(3)], abs=0.01)


def test_levels_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="fewer than two grey levels"):
        segment(da.full((50, 50), 7, dtype=np.uint8, chunks=25), method="otsu")
    with pytest.raises(InputError, match="2 grey levels cannot be parted into 3 phases"):
        Otsu(phases=3)(np.tile(np.array([[10, 20]], np.uint8), (9, 9)))
    with pytest.raises(ConfigError, match="must rise"):
        PHASES.parse({"method": "levels", "levels": [120, 90]})


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
