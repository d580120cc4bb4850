import numpy as np
import pytest

from cemi_dask.analyse import (
    AnalyseOptions,
    CellView,
    InterfaceDensity,
    Orientation,
    PointCount,
    RegionSize,
)
from tests.segment.two_phase import stripes

RNG = np.random.default_rng


def view(**labels):
    shape = next(iter(labels.values())).shape
    return CellView(
        np.full(shape, 100, np.uint8), {k: v.astype(np.uint8) for k, v in labels.items()}
    )


def test_point_counts_average_to_the_area_fraction_and_their_interval_covers_it():
    covered, found = 0, []
    for seed in range(100):
        bcc = RNG(seed).random((400, 500)) < 0.3
        cell = PointCount()(view(bcc=bcc))
        found.append(cell["point_fraction"])
        covered += abs(cell["point_fraction"] - 0.3) <= cell["point_fraction_ci95"]
    assert np.mean(found) == pytest.approx(0.3, abs=0.005)
    assert covered >= 89  # of 100 at 95 %: fewer by chance once in 200
    assert cell["point_fraction_ra"] == pytest.approx(
        100 * cell["point_fraction_ci95"] / cell["point_fraction"]
    )


def test_points_without_data_do_not_count():
    bcc = np.ones((200, 200), bool)
    grey = np.full(bcc.shape, 100, np.uint8)
    grey[:, :100] = 0
    cell = PointCount()(CellView(grey, {"bcc": bcc.astype(np.uint8)}))
    assert cell["point_fraction"] == 1.0
    assert np.isnan(PointCount()(CellView(np.zeros_like(grey), {"bcc": bcc}))["point_fraction"])


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.6, np.pi / 4, 1.2, 2.5])
def test_interfaces_of_lamellae_of_any_direction(angle):
    # Two borders per period: their length per area is 2 / period, S_V = 4 / pi times that.
    dark = stripes((300, 300), period_px=12.0, angle=angle, fraction=0.4, sub=4) > 0.5
    cell = InterfaceDensity()(view(bcc=dark))
    # Four directions: 5 % too low at worst; one border in 50 lies on the picture's edge.
    assert cell["interface_density_per_px"] == pytest.approx(4 / np.pi * 2 / 12.0, rel=0.07)
    assert 0 < cell["interface_density_per_px_se"] < 0.02


def test_interfaces_of_round_particles_are_right_to_two_per_cent():
    # Sections of 40 px radius; the naive sum of pixel edges would be 4 / pi too long.
    y, x = np.mgrid[:512, :512]
    disc = np.hypot(y % 128 - 63.7, x % 128 - 64.2) < 40.3
    expected = 4 / np.pi * 2 * np.pi * 40.3 / 128**2
    cell = InterfaceDensity()(view(bcc=disc))
    assert cell["interface_density_per_px"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("axis", [3.0, 90.0, 140.0, 178.0])
def test_the_axis_of_lamellae_is_found_also_around_180_degrees(axis):
    normal = np.deg2rad(axis - 90.0)
    grey = 90 + 60 * stripes((256, 256), angle=normal, sub=4)
    noisy = np.clip(grey + RNG(0).normal(0, 10, grey.shape), 1, 255).astype(np.uint8)
    cell = Orientation()(CellView(noisy, {"lamellar": np.ones(grey.shape, np.uint8)}))
    apart = (cell["orientation_deg"] - axis + 90) % 180 - 90
    assert abs(apart) < 0.3
    assert cell["orientation_order"] > 0.999
    assert cell["orientation_error_deg"] < 0.3


def test_crossed_lamellae_have_no_order():
    one, other = (stripes((256, 128), angle=a, sub=4) for a in (0.2, 0.2 + np.pi / 2))
    grey = np.hstack([90 + 60 * one, 90 + 60 * other]).astype(np.uint8)
    cell = Orientation()(CellView(grey, {"lamellar": np.ones(grey.shape, np.uint8)}))
    assert cell["orientation_order"] < 0.1
    nothing = Orientation()(CellView(grey, {"lamellar": np.zeros(grey.shape, np.uint8)}))
    assert all(np.isnan(v) for v in nothing.values())


def test_regions_are_weighted_by_area_and_cut_ones_told():
    lamellar = np.zeros((300, 300), bool)
    lamellar[50:150, 50:150] = True  # 10 000 px inside
    lamellar[200:300, 0:30] = True  # 3000 px at the border
    lamellar[250:255, 100:105] = True  # too small
    cell = RegionSize()(view(lamellar=lamellar))
    small, large = 2 * np.sqrt(3000 / np.pi), 2 * np.sqrt(10_000 / np.pi)
    assert cell["region_count"] == 2
    assert cell["region_diameter_px"] == pytest.approx((small * 3 + large * 10) / 13)
    assert cell["region_cut_fraction"] == pytest.approx(3 / 13)
    assert np.isnan(RegionSize()(view(lamellar=lamellar & False))["region_diameter_px"])


def test_they_are_chosen_by_name():
    names = ["point_count", "interface_density", "orientation", "region_size"]
    assert [m.method for m in AnalyseOptions(measures=names).measures] == names
