"""Frames whose scan is bent show the specimen exactly where the field says."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.errors import ConfigError
from cemi_dask.simulate import Microscope, ScanField, SimulateOptions, Specimen, simulate_videos

SHAPE, CORNER = (120, 160), (300.2, 900.7)


def test_each_pixel_shows_the_specimen_at_its_displaced_place():
    specimen = Specimen()
    scope = Microscope(
        distortion=ScanField(barrel_px=3.0, scale_px=-1.0, shear_px=0.5, drift_px=1.0)
    )
    bent, field = scope.scan(specimen, CORNER, SHAPE), scope.distortion.on(SHAPE)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(150):
        y, x = int(rng.integers(SHAPE[0])), int(rng.integers(SHAPE[1]))
        fx, fy = field.at(x, y)
        there = (CORNER[0] + y + fy, CORNER[1] + x + fx)
        seen = specimen.image(*there, (1, 1), psf_sigma_px=scope.psf_sigma_px)[0, 0]
        errors.append(float(bent[y, x]) - float(seen))
    # Steps of 120 grey levels; a displacement wrong by 0.01 px would show as 0.5.
    assert np.sqrt(np.mean(np.square(errors))) < 0.1
    assert np.abs(errors).max() < 1.0


def test_an_even_scan_is_the_specimen_itself():
    scope = Microscope()
    assert scope.distortion.even
    plain = Specimen().image(*CORNER, SHAPE, psf_sigma_px=scope.psf_sigma_px)
    np.testing.assert_array_equal(scope.scan(Specimen(), CORNER, SHAPE), plain)


@pytest.mark.parametrize("recording", [{"scan_frames": 2.0}, {"blurred": 1}])
def test_scans_that_run_are_not_bent_and_say_so(tmp_path, recording):
    options = SimulateOptions(
        rows=1, recording=recording, microscope={"distortion": {"barrel_px": 2.0}}
    )
    with pytest.raises(ConfigError, match=r"microscope\.distortion"):
        simulate_videos(tmp_path, options)
