"""Recordings of running scans: what the screen shows is what the truth says, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from cemi_dask.errors import ConfigError
from cemi_dask.simulate import (
    Microscope,
    Recording,
    SimulatedIngot,
    SimulateOptions,
    Specimen,
    simulate_tiles,
    simulate_videos,
)
from cemi_dask.simulate.stage import ScanPath, slow_curve, video_path

HEIGHT, WIDTH = SHAPE = (96, 128)
SMALL = SimulateOptions(
    rows=2,
    frames_per_row=6,
    looks=5,
    frame_shape=SHAPE,
    noise_sigma=12.0,
    cell_px=(80, 100),
    specimen=Specimen(colony_px=60.0),
    microscope=Microscope(row_start_px=10.0, row_pitch_px=4.0),
)
PICTURES = 26  # of a row of SMALL: 5 pitches of 5 looks, and the last one


def options(**changes: Any) -> SimulateOptions:
    """SMALL with other values; those of `Recording` go there."""
    own = {name: changes.pop(name) for name in list(changes) if name in Recording.model_fields}
    scope = {n: changes.pop(n) for n in list(changes) if n in Microscope.model_fields}
    if "noise_sigma" in scope:
        changes["noise_sigma"] = scope["noise_sigma"]
    update = {"recording": Recording(**own), **changes}
    update["microscope"] = SMALL.microscope.model_copy(update=scope)
    return SMALL.model_copy(update=update)


def path_of(row: int = 0, **changes: Any) -> ScanPath:
    made = options(**changes).resolved()
    return video_path(made.plan, made.microscope, row)


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def rows_of(made: SimulatedIngot) -> list[tuple[list[np.ndarray], pd.DataFrame]]:
    truth = made.table("truth")
    return [(decode(path), truth[truth["file"] == path.name]) for path in made.files]


def test_without_a_recording_every_frame_is_taken_at_once_as_ever(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path, options(serpentine=True, blank_fraction=0.2))
    scope, n = made.options.microscope, PICTURES
    for row, (frames, truth) in enumerate(rows_of(made)):
        # The stage's way and the frames, written out once more without any recording.
        rng = np.random.default_rng([0, 1, row])
        at = np.linspace(0, 1, n)
        x = np.concatenate([[0], np.cumsum(1 + 0.06 * slow_curve(rng, at)[:-1])])
        x *= 5 * SMALL.pitch_px[1] / x[-1]
        x = (x[-1] - x if row else x) + rng.uniform(-1, 1) * 10
        y = 6 * (at - 0.5) * rng.uniform(-1, 1) + 1.5 * slow_curve(rng, at)
        y += row * SMALL.pitch_px[0] + rng.uniform(-1, 1) * 4
        jitter = 0.5 * rng.standard_normal((2, n))
        y, x = y + jitter[0], x + jitter[1]
        gain = 1 + 0.04 * slow_curve(rng, at)
        blank = np.isin(np.arange(n), rng.permutation(n)[:5])
        # The table holds nine digits.
        np.testing.assert_allclose(truth["x_px"], x, rtol=0, atol=1e-6)
        np.testing.assert_allclose(truth["y_px"], y, rtol=0, atol=1e-6)
        assert truth["blank"].tolist() == blank.tolist()
        for k in (0, 7, n - 1):
            noise = np.random.Generator(np.random.SFC64([0, 4, row, k]))
            expected = scope.record(
                made.options.specimen, (y[k], x[k]), SHAPE, gain=gain[k], rng=noise, blank=blank[k]
            )
            # Sums in another order move a place by 1e-13 px: one grey level at a rounding edge.
            assert (np.abs(frames[k].astype(int) - expected) > 0).mean() < 1e-3
        assert (truth["refresh_px"] == 0).all()
        assert (truth["scan"] == np.arange(n)).all()
        assert (truth["shear"] == 0).all()
        assert truth["steady"].all()


@pytest.mark.parametrize(
    ("period", "start", "flyback"), [(2.37, 0.0, 0.0), (3.0, 0.61, 0.07), (0.8, 0.3, 0.0)]
)
def test_a_line_changes_on_the_screen_only_when_it_is_scanned(
    tmp_path: Path, period: float, start: float, flyback: float
) -> None:
    made = simulate_videos(
        tmp_path,
        options(rows=1, scan_frames=period, refresh_start=start, flyback=flyback, data_bar_px=20),
    )
    ((frames, truth),) = rows_of(made)
    line_frames = period * (1 - flyback) / HEIGHT
    first = line_frames * (np.arange(1, HEIGHT + 1) - start * HEIGHT)  # line y of scan 0 is done
    for k in range(len(frames) - 1):
        scans_done = [np.floor((t - first) / period + 1e-9) for t in (k, k + 1)]
        refreshed = scans_done[1] > scans_done[0]
        changed = (frames[k] != frames[k + 1])[:HEIGHT].any(axis=1)
        # Noise of 12 grey levels: 128 new pixels are never all the same.
        np.testing.assert_array_equal(changed, refreshed)
        np.testing.assert_array_equal(frames[k][HEIGHT:], frames[k + 1][HEIGHT:])
        # The line at which the screen turns from the running scan to the one before.
        done = np.floor((k - first) / period + 1e-9)
        seam = int(np.count_nonzero(done > done[-1]))
        assert truth["refresh_px"].iloc[k] == seam
        assert truth["scan"].iloc[k] == done[-1]
    assert truth["refresh_px"].iloc[0] == int(start * HEIGHT)


def assembled(frames: list[np.ndarray], truth: pd.DataFrame) -> list[tuple[np.ndarray, Any]]:
    """Complete scans from two successive frames, with the truth of the frame after the wrap."""
    found = []
    for k in range(1, len(frames)):
        before, after = truth.iloc[k - 1], truth.iloc[k]
        if after["scan"] == before["scan"] + 1:
            seam = int(before["refresh_px"])
            assert after["refresh_px"] <= seam
            found.append((np.concatenate([frames[k - 1][:seam], frames[k][seam:HEIGHT]]), after))
    return found


@pytest.mark.parametrize("row", [0, 1])
def test_an_assembled_scan_has_the_stated_corner_shear_and_gain(tmp_path: Path, row: int) -> None:
    made = simulate_videos(
        tmp_path,
        options(
            scan_frames=2.37,
            flyback=0.05,
            refresh_start=0.4,
            serpentine=True,
            noise_sigma=0.0,
            vignetting=0.0,
            velocity_variation=0.0,
        ),
    )
    scans = assembled(*rows_of(made)[row])
    # 71 px in 5 looks, 2.37 frames for 96 / 0.95 lines; the other way in the other row.
    shear = 2.37 * SMALL.pitch_px[1] / 5 / (HEIGHT / 0.95) * (1 - 2 * row)
    assert len(scans) >= 9
    errors = []
    for picture, truth in scans:
        if not truth["steady"]:
            continue
        assert truth["shear"] == pytest.approx(shear, rel=1e-6)
        lines = [
            made.options.specimen.image(
                truth["y_px"] + y,
                truth["x_px"] + truth["shear"] * (y - (HEIGHT - 1) / 2),
                (1, WIDTH),
                psf_sigma_px=0.6,
            )
            for y in range(HEIGHT)
        ]
        errors.append(picture - np.concatenate(lines) * truth["gain"])
    # At most the scan during which the stage starts is not steady.
    assert len(errors) >= len(scans) - 1
    # Rounding (0.29) and the places' nine digits; the lamellae's own contrast is 60.
    assert np.sqrt(np.mean(np.square(errors))) < 0.5
    # A shift of all lines would show: 0.01 px is 0.3 grey levels on these lamellae.
    slope = np.gradient(np.concatenate([p for p, _ in scans[-len(errors) :]]).astype(float), axis=1)
    error = np.concatenate(errors)
    assert abs((error * slope).sum() / (slope * slope).sum()) < 0.005


def test_steady_says_whether_lines_keep_to_a_straight_line() -> None:
    path = path_of(scan_frames=2.0, blurred=2, pauses=1, jitter_px=0.0, frames_per_row=12)
    assert path.scans is not None
    line = np.arange(HEIGHT) - (HEIGHT - 1) / 2
    for k in range(len(path)):
        x = path.scans.lines_x(int(path.scan[k]))
        away = np.abs(x - path.x_px[k] - path.shear[k] * line).max()
        assert path.steady[k] == (away <= 0.25)
        assert path.shear[k] == pytest.approx((x[-1] - x[0]) / (HEIGHT - 1))
        steps = np.diff(x)
        assert (np.abs(steps) > 6).sum() <= 1  # a jump lies between two lines
    jumped = {
        int(n) for n in np.unique(path.scan) if np.abs(np.diff(path.scans.lines_x(n))).max() > 6
    }
    assert len(jumped) == 2
    assert not path.steady[np.isin(path.scan, list(jumped))].any()
    assert path.steady.mean() > 0.6


def test_a_scan_is_rigid_under_jitter_and_scans_are_moved_apart() -> None:
    still = path_of(scan_frames=1.5, jitter_px=0.0)
    moved = path_of(scan_frames=1.5, jitter_px=2.0)
    assert still.scans is not None
    assert moved.scans is not None
    offsets = []
    for scan in range(-1, int(moved.scan[-1]) + 1):
        away = moved.scans.lines_x(scan) - still.scans.lines_x(scan)
        assert np.ptp(away) < 1e-9
        offsets.append(away[0])
    # 17 normal numbers know their sigma to 17 % (1 sigma).
    assert np.std(offsets) == pytest.approx(2.0, rel=0.6)


def test_before_the_first_scan_the_screen_shows_one_taken_at_the_start(tmp_path: Path) -> None:
    made = simulate_videos(
        tmp_path,
        options(rows=1, scan_frames=6.0, refresh_start=0.25, noise_sigma=0.0, vignetting=0.0),
    )
    ((frames, truth),) = rows_of(made)
    assert truth["scan"].iloc[0] == -1
    start = truth.iloc[0]
    clean = made.options.specimen.image(start["y_px"], start["x_px"], SHAPE, psf_sigma_px=0.6)
    # Taken at rest, so that no line was resampled: half a grey level of rounding.
    assert np.abs(frames[0][24:] - clean[24:] * start["gain"]).max() < 0.51
    assert start["shear"] == 0
    assert start["steady"]


@pytest.mark.parametrize("scan_frames", [None, 2.37])
def test_stops_turns_and_returns_last_as_long_as_stated(scan_frames: float | None) -> None:
    quiet = {"scan_frames": scan_frames, "jitter_px": 0.0, "row_drift_px": 0.0}
    assert len(path_of(**quiet)) == PICTURES
    assert len(path_of(**quiet, still_start=5)) == PICTURES + 5
    assert len(path_of(**quiet, pauses=2, pause_frames=7)) == PICTURES + 14
    # 0.4 of 128 px at 71 px in 5 looks are 3.6 frames: 4 back and 4 on again, each time.
    assert len(path_of(**quiet, reversals=2)) == PICTURES + 16
    # 25 steps at six times the speed take 4.2 frames.
    assert len(path_of(**quiet, return_to_start=True)) == PICTURES + 5


def test_the_stage_stands_turns_and_returns_where_it_should() -> None:
    quiet = {"jitter_px": 0.0, "row_drift_px": 0.0, "frames_per_row": 21}
    way = path_of(**quiet).x_px
    step = np.diff(way).mean()
    still = path_of(**quiet, still_start=5).x_px
    np.testing.assert_array_equal(still[:6], way[0])
    np.testing.assert_array_equal(still[5:], way)
    paused = path_of(**quiet, pauses=2, pause_frames=7).x_px
    assert (np.diff(paused) == 0).sum() == 2 * 6
    turned = np.diff(path_of(**quiet, reversals=1).x_px)
    assert turned[turned < 0].sum() == pytest.approx(-0.4 * WIDTH, abs=1.2 * step)
    returned = path_of(**quiet, return_to_start=True).x_px
    assert returned[-1] == pytest.approx(way[0])
    assert np.diff(returned)[-5] == pytest.approx(-6 * step, rel=0.1)
    # With everything at once the stage still ends where its row ends.
    busy = path_of(**quiet, still_start=3, pauses=3, reversals=3).x_px
    assert busy[-1] == pytest.approx(way[-1])
    assert np.ptp(busy) == pytest.approx(np.ptp(way))


def test_a_ramp_starts_and_stops_the_stage_evenly() -> None:
    quiet = {"jitter_px": 0.0, "row_drift_px": 0.0, "velocity_variation": 0.0}
    way = path_of(**quiet).x_px
    ramped = path_of(**quiet, still_start=3, stage_ramp=4.0).x_px
    assert len(ramped) == PICTURES + 3 + 4
    np.testing.assert_allclose(ramped[:4], way[0])
    assert ramped[-1] == pytest.approx(way[-1])
    step = np.diff(way).mean()
    # Speed grows by a quarter a frame: a mean speed of 1/8 in the first, 3/8 in the second.
    expected = step * np.array([0.125, 0.375, 0.625, 0.875, 1, 1])
    np.testing.assert_allclose(np.diff(ramped)[3:9], expected, rtol=1e-6)
    np.testing.assert_allclose(np.diff(ramped)[-6:], expected[::-1], rtol=1e-6)
    scanned = path_of(**quiet, scan_frames=2.0, stage_ramp=1.5)
    assert len(scanned) == PICTURES + 3
    assert not scanned.steady[scanned.scan == 0].any()


def test_every_picture_is_recorded_as_often_as_stated(tmp_path: Path) -> None:
    once = simulate_videos(tmp_path / "1", options(scan_frames=2.37))
    thrice = simulate_videos(tmp_path / "3", options(scan_frames=2.37, repeats=3))
    for (frames, truth), (again, truths) in zip(rows_of(once), rows_of(thrice), strict=True):
        np.testing.assert_array_equal(np.repeat(frames, 3, axis=0), again)
        assert truths["source_index"].tolist() == list(range(3 * PICTURES))
        repeated = truth.drop(columns="source_index").loc[truth.index.repeat(3)]
        assert repeated.reset_index(drop=True).equals(
            truths.drop(columns="source_index").reset_index(drop=True)
        )
    assert once.shape == thrice.shape


def test_blurred_frames_are_the_mean_over_12_px(tmp_path: Path) -> None:
    quiet = {"noise_sigma": 0.0, "vignetting": 0.0, "rows": 1}
    made = simulate_videos(tmp_path, options(blurred=3, **quiet))
    ((frames, truth),) = rows_of(made)
    smeared = np.flatnonzero(~truth["steady"])
    assert len(smeared) == 3
    assert np.diff(smeared).min() > 1
    for k in smeared:
        corner = truth["y_px"].iloc[k], truth["x_px"].iloc[k]
        steps = np.arange(-6, 6, 0.5) + 0.25
        clean = np.mean(
            [
                made.options.specimen.image(corner[0], corner[1] + s, SHAPE, psf_sigma_px=0.6)
                for s in steps
            ],
            axis=0,
        )
        error = frames[k] - clean * truth["gain"].iloc[k]
        # Rounding (0.29), and a sum over whole px against one over half px.
        assert np.sqrt(np.mean(error**2)) < 1.0
    with pytest.raises(ConfigError, match="100 blurred frames, but row 0 has places for 13"):
        simulate_videos(tmp_path / "b", options(blurred=100))


def test_blank_scans_are_flat_and_marked(tmp_path: Path) -> None:
    made = simulate_videos(
        tmp_path,
        options(rows=1, scan_frames=2.0, blank_fraction=0.3, noise_sigma=0.0, vignetting=0.0),
    )
    ((frames, truth),) = rows_of(made)
    for grey, row in zip(frames, truth.itertuples(), strict=True):
        assert (np.std(grey[row.refresh_px :]) == 0) == row.blank
    assert 0.1 < truth["blank"].mean() < 0.5


def test_the_same_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    busy = options(
        scan_frames=1.9, still_start=2, pauses=1, reversals=1, blurred=1, repeats=2, serpentine=True
    )
    made = [simulate_videos(tmp_path / name, busy) for name in "ab"]
    for one, other in zip(made[0].files, made[1].files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pd.testing.assert_frame_equal(made[0].table("truth"), made[1].table("truth"))
    other_seed = simulate_videos(tmp_path / "c", busy.model_copy(update={"seed": 1}))
    assert other_seed.files[0].read_bytes() != made[0].files[0].read_bytes()


def test_the_mosaic_holds_the_corners_of_every_scan(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path, options(scan_frames=2.37, reversals=1, return_to_start=True))
    truth, (y0, x0) = made.table("truth"), made.origin_px
    assert (truth["y_px"].min(), truth["x_px"].min()) == pytest.approx((y0, x0), abs=1e-6)
    assert truth["y_px"].max() + HEIGHT <= y0 + made.shape[0] + 1e-6
    assert truth["x_px"].max() + WIDTH <= x0 + made.shape[1] + 1e-6
    assert made.table("truth_cells")["width_um"].sum() > 0


@pytest.mark.parametrize(("codec", "error"), [("mjpeg", 4.0), ("mpeg4", 4.0)])
def test_a_torn_screen_with_a_data_bar_survives_lossy_codecs(
    tmp_path: Path, codec: Any, error: float
) -> None:
    torn = options(rows=1, scan_frames=2.37, data_bar_px=60)
    lossless = decode(simulate_videos(tmp_path / "a", torn).files[0])
    lossy = decode(
        simulate_videos(tmp_path / "b", torn.model_copy(update={"codec": codec})).files[0]
    )
    assert len(lossy) == len(lossless) == PICTURES
    for grey, original in zip(lossy, lossless, strict=True):
        assert grey.shape == (HEIGHT + 60, WIDTH)
        difference = grey.astype(float) - original
        # At their highest qualities the codecs lose far less than the noise of 12.
        assert difference[:HEIGHT].std() <= error


def test_tiles_refuse_a_recording(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recording=\{'scan_frames': 2.0\} is for videos"):
        simulate_tiles(tmp_path, options(scan_frames=2.0))


def test_straight_scratches_stand_where_stated_at_any_corner() -> None:
    scratched = Specimen(scratch_lines_px=(100.3, 140.0))
    for corner in ((0.0, 80.0), (5_000.4, 80.37)):
        window = (*corner, (300, 80))
        factor = scratched.image(*window) / scratched.model_copy(
            update={"scratch_lines_px": ()}
        ).image(*window)
        x = corner[1] + np.arange(80)
        for place in (100.3, 140.0):
            near = np.abs(x - place) < 8
            depth = (1 - factor)[:, near]
            # Analytic at every subpixel corner, the same on every line.
            centre = (depth * x[near]).sum(axis=1) / depth.sum(axis=1)
            np.testing.assert_allclose(centre, place, atol=1e-3)
            # Depth 0.9 times a width of 3.2 px (sigma sqrt(2 pi)).
            np.testing.assert_allclose(depth.sum(axis=1), 0.9 * 3.196, rtol=1e-3)
    assert scratched.truth_at(0.0, 90.0, (50, 50))["valid"].all()
