"""What a recorder sees: pictures taken at once, or a screen on which scans run down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cemi_dask.simulate.microscope import BLANK_LEVEL, Uint8
from cemi_dask.simulate.options import SimulateOptions
from cemi_dask.simulate.scans import Scans, render_scan, render_smeared
from cemi_dask.simulate.stage import ScanPath


def record_pictures(options: SimulateOptions, path: ScanPath, row: int) -> Iterator[Uint8]:
    """The pictures (8-bit, data bar included) of one row in recording order, one at a time."""
    if path.scans is None:
        return _frames(options, path, row)
    return _screens(options, path, path.scans, row)


def _frames(options: SimulateOptions, path: ScanPath, row: int) -> Iterator[Uint8]:
    microscope, scene = options.microscope, options.specimen
    for k in range(len(path)):
        corner = (float(path.y_px[k]), float(path.x_px[k]))
        gain = float(path.gain[k])
        # One generator per frame: a frame's noise does not depend on those before it.
        rng = np.random.Generator(np.random.SFC64([options.seed, 4, row, k]))
        if path.smear_px[k]:
            clean = render_smeared(
                scene,
                corner,
                options.frame_shape,
                smear_px=round(float(path.smear_px[k])),
                psf_sigma_px=microscope.psf_sigma_px,
            )
            picture = microscope.expose(clean, gain=gain, rng=rng)
            yield microscope.with_data_bar(picture, scene.pixel_um)
            continue
        yield microscope.record(
            scene, corner, options.frame_shape, gain=gain, rng=rng, blank=bool(path.blank[k])
        )


def _screens(options: SimulateOptions, path: ScanPath, scans: Scans, row: int) -> Iterator[Uint8]:
    # Scans are kept as recorded: a line that is not refreshed stays the same on the screen.
    kept: dict[int, Uint8] = {}
    for scan, shown in zip(path.scan.tolist(), path.refresh_px.tolist(), strict=True):
        kept = {number: picture for number, picture in kept.items() if number >= scan}
        for number in (scan, scan + 1) if shown else (scan,):
            if number not in kept:
                kept[number] = record_scan(options, scans, number, row)
        screen = kept[scan].copy()
        if shown:
            screen[:shown] = kept[scan + 1][:shown]
        yield options.microscope.with_data_bar(screen, options.specimen.pixel_um)


def record_scan(options: SimulateOptions, scans: Scans, scan: int, row: int) -> Uint8:
    """One whole scan as it would be on the screen were none to follow, without the data bar."""
    microscope = options.microscope
    if scans.blank[scan + 1]:
        clean = np.full(options.frame_shape, BLANK_LEVEL, np.float32)
    else:
        clean = render_scan(
            options.specimen,
            scans.corner(scan),
            scans.lines_x(scan),
            options.frame_shape[1],
            psf_sigma_px=microscope.psf_sigma_px,
        )
    return microscope.expose(
        clean,
        gain=float(scans.gain[scan + 1]),
        rng=np.random.Generator(np.random.SFC64([options.seed, 8, row, scan + 1])),
    )
