"""The field by which frames are bent: its inverse, its extent, and pictures read through it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cemi_dask.distortion import EXPONENTS, Distortion
from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.resample import resample
from cemi_dask.simulate import ScanField

SHAPE = (90, 120)
STRONG = ScanField(barrel_px=4.0, shear_px=-1.5, scale_px=1.0, drift_px=2.0).on(SHAPE)


@pytest.mark.parametrize("shear", [0.0, 0.08])
def test_the_two_passes_read_where_the_field_leads_to_the_wanted_pixel(shear):
    x, y = np.arange(8.0, 110) + 0.3, np.arange(8.0, 80) - 0.4
    along_x, along_y = STRONG.sources(x, y, shear=shear)
    assert along_x.shape == (90, len(x))
    assert along_y.shape == (len(y), len(x))
    for row in (0, 30, len(y) - 1):
        for column in (0, 50, len(x) - 1):
            at_y = along_y[row, column]
            # Between two lines the first map is smooth: a cubic through four of them.
            near = np.arange(int(at_y) - 1, int(at_y) + 3)
            line = np.polynomial.Polynomial.fit(near, along_x[near, column], 3)
            at_x = float(line(at_y))
            fx, fy = STRONG.at(at_x, at_y)
            assert at_x + shear * (at_y - 44.5) + fx == pytest.approx(x[column], abs=1e-3)
            assert at_y + fy == pytest.approx(y[row], abs=1e-3)


def test_corner_and_largest_displacement_are_those_of_the_field():
    barrel = ScanField(barrel_px=3.0).on((345, 512))
    assert barrel.corner_px == pytest.approx(3.0)
    assert barrel.max_px == pytest.approx(3.0 * 511 / np.hypot(511, 344), rel=0.01)
    np.testing.assert_allclose(barrel.at(255.5, 172.0), 0, atol=1e-12)
    assert ScanField(drift_px=2.0).on(SHAPE).at(3.0, 0.0).tolist() == pytest.approx([2.0, 0.0])


def test_a_field_survives_json_and_bad_ones_are_refused():
    assert Distortion.from_json(json.loads(json.dumps(STRONG.to_json()))) == STRONG
    with pytest.raises(InputError, match="9 terms along each axis, not 2 and 9"):
        Distortion(SHAPE, (0.0, 1.0), STRONG.y_px)
    with pytest.raises(InputError, match="finite"):
        Distortion(SHAPE, STRONG.x_px, (np.nan,) * len(EXPONENTS))
    with pytest.raises(InputError, match=r"\(345, 512\)"):
        Layout(np.zeros(1), np.zeros(1), (345, 512), distortion=STRONG)


def test_a_picture_read_at_curved_places_equals_the_scene_there():
    y, x = np.mgrid[:90, :120].astype(float)

    def scene(y, x):
        return 120 + 50 * np.cos(2 * np.pi * (x / 4.1 + y / 9.7)) + 30 * np.sin(y / 2.2)

    along_x, along_y = STRONG.sources(np.arange(120.0), np.arange(90.0))
    straight = resample(
        scene(y + STRONG.at(x, y)[..., 1], x + STRONG.at(x, y)[..., 0]), along_x, along_y
    )
    error = (straight - scene(y, x))[16:-16, 16:-16]
    # The filter itself errs by 0.3 of 80 grey levels, and there are two passes.
    assert np.abs(error).max() < 0.6
