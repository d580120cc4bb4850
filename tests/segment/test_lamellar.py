import cv2
import numpy as np
import pytest

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Box
from cemi_dask.segment import Bandpass, Coherence
from cemi_dask.simulate import Specimen
from tests.segment.two_phase import colonies, record, stripes


def iou(found, truth):
    found = found != 0
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture(scope="module")
def specimen():
    """A window of the simulated ingot with lamellae, globules and dendrites, and its truth."""
    ingot, box = Specimen(width_px=4000, height_px=1400, seed=3), Box(0, 2600, 1400, 4000)
    grey = ingot.image(box.y0, box.x0, box.shape, psf_sigma_px=0.7)
    return grey, ingot.truth(box)


@pytest.mark.parametrize(("noise", "least"), [(5.0, 0.93), (25.0, 0.9)])
def test_lamellar_regions_of_the_ingot_are_found(specimen, noise, least):
    grey, truth = specimen
    assert 0.3 < truth["lamellar"].mean() < 0.9
    found = Coherence()(record(grey, psf_px=0.0, noise=noise))
    assert iou(found, truth["lamellar"]) > least


def test_brightness_and_contrast_change_almost_nothing(specimen):
    grey, _ = specimen
    plain = Coherence()(record(grey, psf_px=0.0, noise=5.0))
    for gain, offset in ((0.6, 0.0), (0.6, 60.0), (1.2, 0.0)):
        other = Coherence()(record(gain * grey + offset, psf_px=0.0, noise=5.0 * gain))
        assert iou(other, plain != 0) > 0.99


def test_noise_and_scratches_are_not_lamellar():
    rng = np.random.default_rng(0)
    grey = np.full((600, 600), 120.0, np.float32)
    for _ in range(8):
        (x0, y0), slope = rng.uniform(0, 600, 2), rng.uniform(-0.3, 0.3)
        end = (int(x0 + 900), int(y0 + 900 * slope))
        cv2.line(grey, (int(x0) - 900, int(y0 - 900 * slope)), end, 200.0, 3, cv2.LINE_AA)
    noisy = record(grey, psf_px=0.7, noise=25.0)
    assert Coherence()(noisy).mean() < 0.02
    clean = record(grey, psf_px=0.7, noise=1.0)
    assert Coherence()(clean).mean() < 0.02


def test_coarser_lamellae_are_found_at_their_period():
    grey = 90 + 60 * stripes((400, 400), period_px=16.0, angle=1.1)
    picture = record(grey, noise=10.0)
    inner = np.s_[60:-60, 60:-60]
    assert Coherence(period_px=16.0)(picture)[inner].mean() > 0.99
    assert Coherence(period_px=5.4)(picture).mean() < 0.01
    assert np.array_equal(
        Coherence(period_um=3.2).at_scale(0.2)(picture), Coherence(period_px=16.0)(picture)
    )


def test_a_period_in_micrometres_needs_the_pixel_size():
    with pytest.raises(ConfigError, match=r"period_um = 1.2 needs the pixel size"):
        Coherence(period_um=1.2).at_scale(None)


def test_bandpass_finds_strong_texture_of_any_direction():
    field = colonies((400, 400), seed=2)
    found = Bandpass()(record(field.grey))
    assert iou(found, field.lamellar) > 0.85


def test_no_data_gets_no_label():
    grey = record(90 + 60 * stripes((200, 260)))
    grey[:, 100:160] = 0
    found = Coherence()(grey)
    assert not found[:, 100:160].any()
    assert found[40:-40, 40:90].all()


def test_other_arrays_are_refused():
    with pytest.raises(InputError, match="uint8, uint16 or float, not int32"):
        Coherence()(np.zeros((50, 50), np.int32))
    with pytest.raises(InputError, match=r"not an array of shape \(2, 50, 50\)"):
        Coherence()(np.zeros((2, 50, 50), np.uint8))


@pytest.mark.real
def test_the_colony_of_a_real_eutectic_is_lamellar(real_data):
    grey = cv2.imread(
        str(real_data / "lamellar_eutectic_alloy_jpg" / "Alloy.jpg"), cv2.IMREAD_GRAYSCALE
    )
    found = Coherence(period_px=16.0)(grey)
    assert found[345:385, 20:270].mean() > 0.9  # lamellae about 16 px apart, by eye
    assert found[60:180, 640:].mean() < 0.05  # a primary grain
