"""Measures of denoising say what is known: noise, blur, waves, things made up and lost."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import cv2
import numpy as np
import pytest

from cemi_dask.denoise import Lpips, Measures, Ruler
from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.simulate import Specimen

SHAPE = (400, 512)
SIGMA = 25.0
Picture = np.ndarray


@pytest.fixture(scope="module")
def clean() -> Picture:
    return Specimen(seed=3).image(2000, 100_000, SHAPE, psf_sigma_px=0.6)


@pytest.fixture(scope="module")
def noisy(clean: Picture) -> Picture:
    return clean + np.random.default_rng(0).normal(0, SIGMA, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def ruler(noisy: Picture, clean: Picture) -> Ruler:
    return Ruler(noisy, clean, reference_sigma=0)


def test_the_reference_itself_is_perfect(ruler: Ruler, clean: Picture) -> None:
    found = ruler.measure(clean)
    assert found.psnr_db == float("inf")
    assert found.ssim == pytest.approx(1)
    assert found.edge_width_ratio == pytest.approx(1)
    assert (found.lamella_power, found.modulation) == pytest.approx((1, 1))
    assert found.unexplained_pct == pytest.approx(0, abs=1e-3)
    assert (found.residual_levels, found.made_up_pct, found.lost_pct) == (0, 0, 0)


def test_noise_is_measured_as_it_was_made(ruler: Ruler, noisy: Picture) -> None:
    found = ruler.measure(noisy)
    # 205 000 pixels: standard error of a standard deviation 0.16 %; 0.5 % allowed.
    assert found.residual_levels == pytest.approx(SIGMA, rel=5e-3)
    assert found.psnr_db == pytest.approx(20 * np.log10(255 / SIGMA), abs=0.05)
    assert found.noise_levels == pytest.approx(SIGMA, rel=0.03)
    assert found.modulation == pytest.approx(1, abs=0.02)  # independent noise does not count
    assert found.edge_width_ratio == pytest.approx(1, abs=0.1)
    assert found.unexplained_pct > 10
    assert found.made_up_pct < 0.1  # what noise explains is not made up


def test_the_noise_of_the_reference_is_not_put_on_the_picture(
    noisy: Picture, clean: Picture, ruler: Ruler
) -> None:
    sharp = clean + np.random.default_rng(1).normal(0, 4.5, SHAPE).astype(np.float32)
    denoised = cv2.GaussianBlur(noisy, (0, 0), 0.8)
    known, seen = ruler.measure(denoised), Ruler(noisy, sharp).measure(denoised)
    assert seen.residual_levels == pytest.approx(known.residual_levels, rel=0.02)
    assert seen.modulation == pytest.approx(known.modulation, abs=0.02)
    assert seen.edge_width_px == pytest.approx(known.edge_width_px, rel=0.1)


def test_waves_of_less_contrast_are_measured_as_such() -> None:
    y, x = np.mgrid[0:256, 0:320].astype(float)
    wave = np.sin(2 * np.pi * (0.6 * x + 0.8 * y) / 5.4)
    noise = np.random.default_rng(2).normal(0, 10, wave.shape)
    ruler = Ruler(120 + 50 * wave + noise, 120 + 50 * wave, reference_sigma=0)
    weaker = ruler.measure(120 + 35 * wave)
    assert weaker.modulation == pytest.approx(0.7, abs=0.005)
    assert weaker.lamella_power == pytest.approx(0.49, abs=0.005)
    assert weaker.unexplained_pct < 0.1
    # The wave of another direction has the same power, but explains nothing.
    other = ruler.measure(120 + 50 * np.sin(2 * np.pi * (0.6 * x - 0.8 * y) / 5.4))
    assert other.lamella_power == pytest.approx(1, abs=0.01)
    assert other.modulation == pytest.approx(0, abs=0.01)
    assert other.unexplained_pct > 95
    assert other.made_up_pct + other.lost_pct > 90


def test_edges_widen_as_the_blur_that_widened_them() -> None:
    # Discs of 40 px, seen with a point spread of 0.7 px: 10-90 % width 2.563 x 0.7 px.
    y, x = np.mgrid[0:320, 0:400].astype(float)
    radius = np.hypot((y % 80) - 40.3, (x % 80) - 39.8)
    from scipy.special import ndtr

    def seen(sigma_px: float) -> Picture:
        return 60 + 100 * ndtr((20 - radius) / sigma_px)

    noise = np.random.default_rng(4).normal(0, SIGMA, radius.shape)
    ruler = Ruler(seen(0.7) + noise, seen(0.7), reference_sigma=0)
    assert ruler.measure(seen(0.7)).edge_width_px == pytest.approx(2.563 * 0.7, rel=0.03)
    assert ruler.measure(seen(1.1)).edge_width_px == pytest.approx(2.563 * 1.1, rel=0.05)
    assert ruler.measure(seen(1.1) + noise).edge_width_px == pytest.approx(2.563 * 1.1, rel=0.15)


def test_a_made_up_and_a_lost_place_are_found_where_they_are(
    ruler: Ruler, clean: Picture, noisy: Picture
) -> None:
    y, x = np.mgrid[0:40, 0:40]
    invented = clean.copy()
    invented[100:140, 200:240] += 45 * np.sin(2 * np.pi * (x - 0.4 * y) / 6)
    found = ruler.measure(invented)
    area = 100 * 40 * 40 / clean.size
    assert (found.made_up_count, found.lost_pct) == (1, 0)
    assert found.made_up_pct == pytest.approx(area, rel=0.5)  # smeared by the window of 4 px
    smooth = clean.copy()
    smooth[100:140, 200:240] = cv2.GaussianBlur(clean, (0, 0), 3)[100:140, 200:240]
    found = ruler.measure(smooth)
    assert (found.made_up_count, found.made_up_pct) == (0, 0)
    assert found.lost_pct == pytest.approx(area, rel=0.6)
    half = ruler.measure(clean + 0.5 * (noisy - clean))  # half the noise is left
    assert (half.made_up_count, half.lost_pct) == (0, 0)


def test_blur_loses_lamellae_and_makes_nothing_up(ruler: Ruler, clean: Picture) -> None:
    found = ruler.measure(cv2.GaussianBlur(clean, (0, 0), 1.0))
    assert found.modulation < 0.6
    assert found.lamella_power == pytest.approx(found.modulation**2, rel=0.1)
    assert found.edge_width_ratio > 1.4
    assert found.lost_pct > 3
    assert found.made_up_pct == 0
    assert found.unexplained_pct < 0.5


def test_pixels_without_a_reference_do_not_count(noisy: Picture, clean: Picture) -> None:
    partly, picture = clean.copy(), clean.copy()
    partly[:60], picture[:60] = np.nan, 255
    found = Ruler(noisy, partly, reference_sigma=0).measure(picture)
    assert found.psnr_db == float("inf")
    assert (found.residual_levels, found.made_up_pct, found.lost_pct) == (0, 0, 0)
    assert found.ssim == pytest.approx(1)


def test_every_measure_is_a_number_and_shapes_must_agree(ruler: Ruler, noisy: Picture) -> None:
    values = asdict(ruler.measure(noisy))
    assert set(values) == {field.name for field in fields(Measures)}
    assert np.isfinite(list(values.values())).all()
    with pytest.raises(InputError, match="Align them first"):
        ruler.measure(noisy[:10])
    with pytest.raises(InputError, match="known nowhere"):
        Ruler(noisy, np.full(SHAPE, np.nan))


# LPIPS: the code was compared with the package lpips 0.1.4 on random backbones (equal to 1e-9).


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with weights of the right shapes: a random backbone, one linear layer of ones."""
    torch = pytest.importorskip("torch")
    from cemi_dask.torchlib import import_vision

    torch.manual_seed(0)
    features = import_vision("torchvision.models").alexnet(weights=None).features.state_dict()
    torch.save({f"features.{k}": v for k, v in features.items()}, tmp_path / "alexnet-x.pth")
    sizes = (64, 192, 384, 256, 256)
    linear = {
        f"lin{k}.model.1.weight": torch.full((1, n, 1, 1), float(k == 0))
        for k, n in enumerate(sizes)
    }
    torch.save(linear, tmp_path / "alex.pth")
    return tmp_path


def test_lpips_is_the_distance_of_unit_activations(
    weights: Path, clean: Picture, noisy: Picture
) -> None:
    import torch

    a, b = clean[:64, :80], noisy[:64, :80]
    lpips = Lpips(weights)
    assert lpips(a, a) == 0
    assert lpips(a, b) == pytest.approx(lpips(b, a), rel=1e-5)
    first = torch.load(weights / "alexnet-x.pth", weights_only=True)
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    units = []
    for picture in (a, b):
        colours = (picture[None] / 127.5 - 1 - shift[:, None, None]) / scale[:, None, None]
        seen = torch.nn.functional.conv2d(
            torch.tensor(colours[None], dtype=torch.float32),
            first["features.0.weight"],
            first["features.0.bias"],
            stride=4,
            padding=2,
        ).clamp(min=0)[0]
        units.append(seen / seen.norm(dim=0))
    expected = float(((units[0] - units[1]) ** 2).sum(dim=0).mean())
    assert lpips(a, b) == pytest.approx(expected, rel=1e-4)


def test_lpips_without_its_weights_says_how_to_get_them(weights: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"no complete set.*alexnet\*\.pth.*--lpips-weights"):
        Lpips(empty)
    (weights / "alex.pth").write_bytes(b"not weights")
    with pytest.raises(UnreadableError, match="cannot be read as weights"):
        Lpips(weights)
    (weights / "alex.pth").write_bytes((weights / "alexnet-x.pth").read_bytes())
    with pytest.raises(UnreadableError, match="not the weights of LPIPS with alex"):
        Lpips(weights)
