import dask
import dask.array as da
import numpy as np
import pytest

from cemi_dask.analyse import AnalyseOptions, GridOptions, analyse, make_grid, profile
from cemi_dask.geometry import Box
from cemi_dask.segment import segment
from cemi_dask.simulate import Microscope, Specimen

ONLY_BCC = AnalyseOptions(measures=["bcc_fraction"])
GRID = GridOptions(rows=5, cols=6)


@pytest.fixture(scope="module")
def ingot():
    """A small ingot whose fraction rises along x, and its true fraction per grid column."""
    specimen = Specimen(width_px=3048, height_px=2065, seed=2)
    truth = specimen.truth(Box(0, 0, 2065, 3048))
    share = []
    for start, stop in make_grid((2065, 3048), GRID).x_spans:
        valid = truth["valid"][:, start:stop]
        share.append(truth["bcc"][:, start:stop][valid].mean(dtype=float))
    return specimen, np.array(share)


def picture(specimen, *, psf_px, noise, gain=1.0, offset=0.0):
    clean = specimen.image(0, 0, (2065, 3048), psf_sigma_px=psf_px)
    microscope = Microscope(noise_sigma=noise)
    noisy = microscope._noisy(clean, np.random.default_rng(0))
    return np.clip(np.rint(gain * noisy + offset), 1, 255).astype(np.uint8)


def bins(grey, **labels):
    with dask.config.set(scheduler="synchronous"):
        return profile(
            analyse(da.from_array(grey, chunks=2048), labels, grid=GRID, options=ONLY_BCC)
        )


# Bounds per profile bin, in percentage points: what the method promises at this size of bin
# (1 Mpx), where the grains' own brightness (1 %) alone makes 0.2.
@pytest.mark.parametrize(
    ("psf_px", "noise", "mean", "worst"),
    [(0.5, 0.0, 0.3, 0.5), (0.7, 4.5, 0.5, 1.0), (0.7, 25.0, 2.0, 3.0)],
    ids=["noise-free", "HD", "LD"],
)
def test_phase_fraction_is_the_specimens(ingot, psf_px, noise, mean, worst):
    specimen, truth = ingot
    found = bins(picture(specimen, psf_px=psf_px, noise=noise))
    error = 100 * (found["bcc_fraction"].to_numpy() - truth)
    assert abs(error.mean()) < mean
    assert np.abs(error).max() < worst


def test_brightness_and_contrast_leave_the_level_balance_alone(ingot):
    specimen, truth = ingot
    for gain, offset in ((0.6, 0.0), (0.6, 80.0), (1.3, 0.0)):
        grey = picture(specimen, psf_px=0.7, noise=4.5, gain=gain, offset=offset)
        label = segment(da.from_array(grey, chunks=2048), method="bradley")
        found = bins(grey, bcc=label)
        error = 100 * (found["bcc_fraction"].to_numpy() - truth)
        assert np.abs(error).max() < 1.0
    # The last one's threshold follows contrast; at 0.6 with raised brightness it fails.
    grey = picture(specimen, psf_px=0.7, noise=4.5, gain=0.6, offset=80.0)
    label = segment(da.from_array(grey, chunks=2048), method="bradley")
    assert abs(100 * (float(label.mean().compute()) - truth.mean())) > 3.0


def test_a_bright_bcc_is_the_complement(ingot):
    specimen, _ = ingot
    grey = picture(specimen, psf_px=0.7, noise=4.5)[:413, :1016]
    both = []
    for dark in (True, False):
        options = AnalyseOptions(measures=[{"method": "bcc_fraction", "dark": dark}])
        mosaic = da.from_array(grey, chunks=2048)
        table = analyse(mosaic, {}, grid=GridOptions(rows=1, cols=1), options=options)
        both.append(float(table["bcc_fraction"].iloc[0]))
    assert sum(both) == pytest.approx(1.0)


def test_a_hole_darker_than_bcc_does_not_count(ingot):
    specimen, _ = ingot
    grey = picture(specimen, psf_px=0.7, noise=4.5)
    plain = bins(grey)["bcc_fraction"].to_numpy()
    holed = grey.copy()
    rng = np.random.default_rng(1)
    holed[100:500, 600:900] = np.clip(rng.normal(15, 4.5, (400, 300)), 1, 255)
    assert bins(holed)["bcc_fraction"].to_numpy() == pytest.approx(plain, abs=0.006)


def test_a_picture_without_contrast_is_nan(ingot):
    flat = np.random.default_rng(0).normal(120, 5, (800, 800)).astype(np.uint8)
    table = analyse(
        da.from_array(flat, chunks=400), {}, grid=GridOptions(rows=2, cols=2), options=ONLY_BCC
    )
    assert table["bcc_fraction"].isna().all()
    assert table["bcc_fraction_se"].isna().all()


def test_coarse_phases_are_measured_from_their_flat_patches():
    y, x = np.indices((900, 900))
    dark = (x + 0.3 * y) / 120.0 % 1.0 < 0.4
    grey = np.where(dark, 60, 180) + np.random.default_rng(0).normal(0, 5, dark.shape)
    mosaic = da.from_array(np.rint(grey).astype(np.uint8), chunks=450)
    table = analyse(mosaic, {}, grid=GridOptions(rows=2, cols=2), options=ONLY_BCC)
    assert table["bcc_fraction"].mean() == pytest.approx(dark.mean(), abs=0.005)
