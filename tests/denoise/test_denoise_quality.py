"""Noise goes, lamellae stay: what the methods do to a simulated frame of known truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cemi_dask.denoise import DENOISERS, Dct, Fourier, Median, NonLocalMeans
from cemi_dask.simulate import Specimen

SHAPE = (400, 512)
SIGMA = 25.0
CLASSICAL = [
    name for name, cls in DENOISERS.classes().items() if cls.needs == "frame" and name != "network"
]


@pytest.fixture(scope="module")
def scene() -> dict[str, np.ndarray]:
    specimen = Specimen(seed=1)
    clean = specimen.image(2000, 60_000, SHAPE, psf_sigma_px=0.7)
    rng = np.random.default_rng(1)
    noisy = np.clip(np.rint(clean + rng.normal(0, SIGMA, SHAPE)), 0, 255).astype(np.uint8)
    lamellar = specimen.truth_at(2000, 60_000, SHAPE)["lamellar"]
    return {"clean": clean, "noisy": noisy, "lamellar": lamellar}


def psnr_db(picture: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((picture.astype(float) - clean) ** 2)))


def kept_modulation(picture: np.ndarray, scene: dict[str, np.ndarray]) -> float:
    """Share of the lamellae's contrast that is left: regression of high-passed grey levels."""
    fine = [a - cv2.GaussianBlur(a, (0, 0), 4) for a in (picture.astype("f4"), scene["clean"])]
    a, b = (f[scene["lamellar"]] for f in fine)
    return float((a * b).sum() / (b * b).sum())


def test_fourier_shrinkage_beats_the_others_and_keeps_the_lamellae(
    scene: dict[str, np.ndarray],
) -> None:
    results = {name: DENOISERS.parse(name)(scene["noisy"]) for name in CLASSICAL}
    quality = {name: psnr_db(out, scene["clean"]) for name, out in results.items()}
    # Measured on specimens with many and with few globules: fourier 28.6 and 31.3 dB,
    # dct 27.8 and 29.5, nlm 24.6 and 27.0, median 23.6 and 23.1, noisy 20.2.
    assert quality["fourier"] > quality["dct"] + 0.5
    assert quality["dct"] > quality["nlm"] + 0.5
    assert quality["fourier"] > psnr_db(scene["noisy"], scene["clean"]) + 7.5
    assert kept_modulation(results["fourier"], scene) > 0.95  # measured 0.976
    assert kept_modulation(results["dct"], scene) > 0.90
    assert kept_modulation(results["median"], scene) < 0.75  # why it is not the default


@pytest.mark.parametrize("angle_deg", [0.0, 20.0, 45.0, 70.0, 90.0])
def test_contrast_is_kept_in_every_direction(angle_deg: float) -> None:
    turn = np.deg2rad(angle_deg)
    y, x = np.mgrid[0:200, 0:240]
    wave = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / 5.4)
    rng = np.random.default_rng(5)
    frame = (120 + 30 * wave + rng.normal(0, 25, wave.shape)).astype(np.float32)
    out = Fourier()(frame)
    amplitude = 2 * np.mean((out - out.mean()) * wave)
    assert amplitude == pytest.approx(30, rel=0.06)


def test_second_pass_pays(scene: dict[str, np.ndarray]) -> None:
    for method in (Fourier, Dct):
        first = psnr_db(method(wiener_noise=0)(scene["noisy"]), scene["clean"])
        both = psnr_db(method()(scene["noisy"]), scene["clean"])
        assert both > first + 0.1


def test_noise_that_follows_the_grey_level_is_better_known_as_such() -> None:
    clean = Specimen(seed=1).image(2000, 60_000, SHAPE, psf_sigma_px=0.7)
    clean = clean * np.linspace(0.25, 1.3, SHAPE[1], dtype=np.float32)
    rng = np.random.default_rng(6)
    spread = np.sqrt(4 * clean + 20)
    noisy = (clean + rng.normal(0, 1, SHAPE) * spread).astype(np.float32)
    quality = {kind: psnr_db(Fourier(noise=kind)(noisy), clean) for kind in ("constant", "grey")}
    assert quality["grey"] > quality["constant"] + 0.2


@pytest.mark.parametrize(
    "method", [Fourier(sigma=SIGMA), Dct(sigma=SIGMA), Median(), NonLocalMeans(strength=20.0)]
)
def test_a_block_with_its_halo_equals_the_whole(
    method: Fourier | Dct | Median | NonLocalMeans, scene: dict[str, np.ndarray]
) -> None:
    whole = method(scene["noisy"])
    halo = -(-method.halo_px // 8) * 8  # blocks of coefficients start at multiples of the step
    y0, x0, side = 144, 192, 96
    part = scene["noisy"][y0 - halo : y0 + side + halo, x0 - halo : x0 + side + halo]
    inner = method(part)[halo : halo + side, halo : halo + side]
    difference = np.abs(inner.astype(int) - whole[y0 : y0 + side, x0 : x0 + side])
    # Sums in another order may round the other way: at most one grey level, almost nowhere.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_mean_grey_level_is_kept_where_there_is_no_texture() -> None:
    rng = np.random.default_rng(7)
    frame = rng.normal(100, 20, (160, 160)).astype(np.float32)
    out = Fourier()(frame)
    # The mean of 25 600 pixels of sigma 20 is known to 0.125; denoising must not move it.
    assert out.mean() == pytest.approx(frame.mean(), abs=0.05)
    assert out.std() < 2.0
