"""Complete scans from recordings of a screen that is being scanned."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cemi_dask.frames.refresh import ScanAssembler
from cemi_dask.frames.video import Picture
from tests.frames.recordings import HEIGHT, look, specimen

WIDTH = 256
FPS = 10.0


def scans(count: int, *, step_px: float = 9.0, sigma: float = 25.0, seed: int = 0) -> np.ndarray:
    """Complete scans (n, y, x) of a moving specimen, each with its own noise."""
    rng = np.random.default_rng(seed)
    ground = specimen(WIDTH + int(step_px * count) + 2, seed=seed)

    corners = [round(step_px * n) for n in range(count)]
    return np.stack([look(ground[10 : 10 + HEIGHT, x : x + WIDTH], rng, sigma) for x in corners])


def screen(pictures: np.ndarray, per_scan: float, start: float = 0.0) -> list[Picture]:
    """What a recorder sees: above the refresh line the running scan, below it the one before."""
    recorded = []
    for k in range(int((len(pictures) - 2) * per_scan)):
        turns = start + k / per_scan + 1
        scan, line = int(turns), round(turns % 1 * HEIGHT)
        image = np.concatenate([pictures[scan][:line], pictures[scan - 1][line:]])
        recorded.append(Picture(k, k, k / FPS, image))
    return recorded


def assembled(recorded: list[Picture]) -> tuple[list[Picture], ScanAssembler]:
    assembler = ScanAssembler(HEIGHT)
    out = [p for picture in recorded for p in assembler.see(picture)]
    return out + assembler.finish(), assembler


def number_of(picture: Picture, pictures: np.ndarray) -> int:
    """Which complete scan a picture is; -1 where it is none."""
    same = (n for n, scan in enumerate(pictures) if np.array_equal(picture.image, scan))
    return next(same, -1)


@pytest.mark.parametrize("per_scan", [1.07, 1.5, 2.37, 3.0, 8.9, 27.3])
@pytest.mark.parametrize("start", [0.0, 0.4, 0.93])
def test_every_assembled_picture_is_one_complete_scan(per_scan: float, start: float) -> None:
    pictures = scans(16)
    out, assembler = assembled(screen(pictures, per_scan, start))
    assert assembler.mode == "scanning"
    found = [
        next((n for n, scan in enumerate(pictures) if np.array_equal(p.image, scan)), -1)
        for p in out
    ]
    assert -1 not in found  # no torn frame
    assert len(found) >= 10  # nearly all scans are recovered
    assert all(b == a + 1 for a, b in pairwise(found))


@pytest.mark.parametrize("per_scan", [1.4, 2.37, 8.9])
def test_period_and_speed_of_the_refresh_line_are_measured(per_scan: float) -> None:
    refresh = assembled(screen(scans(16), per_scan, 0.3))[1].refresh()
    assert refresh is not None
    assert refresh.period_s == pytest.approx(per_scan / FPS, rel=0.003)
    assert refresh.lines_per_s == pytest.approx(HEIGHT * FPS / per_scan, rel=0.003)


def test_a_screen_without_refresh_line_passes_unchanged() -> None:
    recorded = [Picture(n, n, n / FPS, image) for n, image in enumerate(scans(12))]
    out, assembler = assembled(recorded)
    assert assembler.mode == "whole"
    assert assembler.refresh() is None
    assert [p.source_index for p in out] == list(range(12))
    assert all(p.upper is None for p in out)


def test_exact_repetitions_are_set_apart() -> None:
    pictures = scans(8)
    order = [0, 0, 0, 1, 2, 2, 3, 4, 5, 5]
    out, assembler = assembled([Picture(k, k, k / FPS, pictures[n]) for k, n in enumerate(order)])
    assert [p.source_index for p in out] == [0, 3, 4, 6, 7, 8]
    assert [p.source_index for p in assembler.duplicates] == [1, 2, 5, 9]


def test_a_stage_at_rest_does_not_hide_the_refresh_line() -> None:
    pictures = scans(14, step_px=0.0)
    out, assembler = assembled(screen(pictures, 2.6, 0.2))
    assert assembler.mode == "scanning"
    assert len(out) >= 8


def test_a_dark_bottom_is_no_refresh_line() -> None:
    pictures = scans(12)
    pictures[:, 150:] = 0
    out, assembler = assembled([Picture(n, n, n / FPS, image) for n, image in enumerate(pictures)])
    assert assembler.mode == "whole"
    assert len(out) == 12


def test_a_lost_frame_costs_a_scan_but_tears_none() -> None:
    pictures = scans(16)
    recorded = screen(pictures, 2.37, 0.3)
    for k in (7, 15, 16):
        recorded[k] = Picture(k, k, k / FPS, None, "damaged")
    out, _ = assembled(recorded)
    whole = [p for p in out if p.image is not None]
    assert sum(p.problem == "damaged" for p in out) == 3
    assert all(number_of(p, pictures) >= 0 for p in whole)
    assert len(whole) >= 8


def test_a_running_clock_on_a_frozen_screen_is_no_refresh_line() -> None:
    still = scans(1)[0]
    recorded = []
    for k in range(12):
        image = still.copy()
        image[100:112, 20:60] = (17 * k) % 255
        recorded.append(Picture(k, k, k / FPS, image))
    assert assembled(recorded)[1].mode != "scanning"
