"""Row videos: motion is tracked, overlaps are kept, what cannot be used is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cemi_dask.errors import InputError
from cemi_dask.frames import SelectionOptions, Source, scan_source
from cemi_dask.frames.row import RowFollower
from cemi_dask.frames.video import Picture
from cemi_dask.resample import shift_rows
from tests.frames.recordings import HEIGHT, WIDTH, row_frames, specimen, write_video


def scan(frames: list[np.ndarray], folder: Path, kind: str = "ffv1") -> dict[str, Any]:
    path = write_video(folder, frames, kind)
    return scan_source(Source("000_row", "video", (str(path),)))


def taken(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [record for record in found["records"] if record["taken"]]


def error_px(found: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Tracked minus true x of the taken frames, px; 0 for the first."""
    records = taken(found)
    truth = x[[r["source_index"] for r in records]]
    return np.array([r["x_nominal_px"] for r in records]) - (truth - truth[0])


def overlaps(found: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return 1 - np.abs(np.diff(x[[r["source_index"] for r in taken(found)]])) / WIDTH


MOTIONS = {
    "steady": np.arange(0, 1500, 21),
    "backwards": np.arange(1500, 0, -33),
    "half a frame each": np.arange(0, 1700, 190),
    "pauses": np.concatenate(
        [np.zeros(6), np.arange(0, 700, 40), np.full(12, 700), np.arange(700, 1500, 55)]
    ).astype(int),
    "jitter": np.clip(np.cumsum(np.random.default_rng(2).integers(-8, 45, 80)), 0, 1500),
}


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("sigma", [3.0, 25.0, 50.0])
def test_positions_are_tracked_to_a_pixel_and_overlaps_kept(name: str, sigma: float) -> None:
    x = MOTIONS[name]
    follower = RowFollower((HEIGHT, WIDTH), SelectionOptions())
    for number, frame in enumerate(row_frames(x, sigma=sigma)):
        follower.see(Picture(number, number, number / 10, frame))
    follower.finish()
    numbers = np.array([t.candidate.source_index for t in follower.taken])
    tracked = np.array([t.candidate.x_px for t in follower.taken])
    assert len(follower.stretches) == 1
    assert not follower.refused
    # A step is measured to some tenths of a pixel (in these small frames, by noise); the
    # errors of a row's dozen steps add up. Registration refines them.
    error = tracked - (x[numbers] - x[0])
    assert np.abs(np.diff(error)).max() < (1.5 if sigma > 25 else 0.8)
    assert np.abs(error).max() < (2.0 if sigma > 25 else 1.3)
    overlap = 1 - np.abs(np.diff(x[numbers])) / WIDTH
    assert overlap.min() >= 0.3 - 1 / WIDTH
    assert overlap.max() <= 0.6 + 1 / WIDTH


def test_the_ends_of_the_row_are_taken(tmp_path: Path) -> None:
    x = np.arange(0, 1000, 37)
    numbers = [r["source_index"] for r in taken(scan(row_frames(x), tmp_path))]
    assert numbers[0] == 0
    assert numbers[-1] == len(x) - 1


def test_fewest_frames_are_taken() -> None:
    # 1500 px at steps of at most 70 % of 384 px: 6 steps; aiming at 42 % overlap, 7.
    x = MOTIONS["steady"]
    follower = RowFollower((HEIGHT, WIDTH), SelectionOptions())
    for number, frame in enumerate(row_frames(x)):
        follower.see(Picture(number, number, number / 10, frame))
    follower.finish()
    assert len(follower.taken) in (7, 8)


@pytest.mark.parametrize("kind", ["mjpeg", "h264", "mpeg4"])
def test_compressed_videos_are_tracked(tmp_path: Path, kind: str) -> None:
    x = np.arange(0, 1200, 48)
    found = scan(row_frames(x), tmp_path, kind)
    assert np.abs(error_px(found, x)).max() < 1.0
    assert overlaps(found, x).min() >= 0.3
    assert not [r["reason"] for r in found["records"] if r["reason"]]


def test_the_sink_gets_the_pixels_of_the_taken_frames(tmp_path: Path) -> None:
    frames = row_frames(np.arange(0, 900, 60))
    path = write_video(tmp_path, frames)
    got: list[np.ndarray] = []
    found = scan_source(Source("000_row", "video", (str(path),)), sink=got.append)
    numbers = [r["source_index"] for r in taken(found)]
    assert len(got) == len(numbers)
    for number, picture in zip(numbers, got, strict=True):
        assert np.array_equal(picture, frames[number])


def test_a_scan_is_plain_json_and_repeatable(tmp_path: Path) -> None:
    path = write_video(tmp_path, row_frames(np.arange(0, 900, 60), blank=[4]))
    source = Source("000_row", "video", (str(path),))
    first, second = scan_source(source), scan_source(source)
    assert json.loads(json.dumps(first, allow_nan=False)) == json.loads(json.dumps(second))
    assert {"records", "shape", "dtype", "warnings", "recorded"} <= set(first)
    assert first["recorded"] == 15


@pytest.mark.parametrize("sigma", [0.0, 5.0, 25.0])
def test_blank_frames_are_refused_and_tracking_goes_on_beyond(tmp_path: Path, sigma: float) -> None:
    x = np.arange(0, 1500, 60)
    blank = [0, 5, 6, 13, 24]
    found = scan(row_frames(x, sigma=sigma, blank=blank), tmp_path)
    refused = {r["source_index"]: r["reason"] for r in found["records"] if not r["taken"]}
    reasons = dict.fromkeys(blank, "blank")
    if sigma == 0:
        reasons[6] = "duplicate"  # without noise it is the same picture as number 5
    assert refused == reasons
    assert np.abs(error_px(found, x)).max() < 1.0
    assert overlaps(found, x).min() >= 0.3
    count = list(reasons.values()).count("blank")
    assert any(f"{count} of 25 recorded frames are blank" in w for w in found["warnings"])


def test_a_gap_is_bridged_by_the_mean_velocity_and_said(tmp_path: Path) -> None:
    x = np.arange(0, 2200, 200)
    found = scan(row_frames(x, blank=[5]), tmp_path)  # 400 of 384 px: nothing is shared
    assert np.abs(error_px(found, x)).max() < 1.0  # constant velocity: the bridge is exact
    assert any("frames 4 and 6 share nothing measurable" in w for w in found["warnings"])
    assert any("below overlap_min" in w for w in found["warnings"])


def test_a_frame_of_something_else_is_refused() -> None:
    x = np.arange(0, 900, 50)
    frames = row_frames(x)
    frames[7] = specimen(WIDTH, HEIGHT, seed=99).astype(np.uint8)
    follower = RowFollower((HEIGHT, WIDTH), SelectionOptions())
    for number, frame in enumerate(frames):
        follower.see(Picture(number, number, number / 10, frame))
    follower.finish()
    assert [(p.source_index, reason) for p, reason in follower.refused] == [(7, "unmatched")]
    assert len(follower.stretches) == 1


def test_memory_does_not_grow_with_the_row() -> None:
    follower = RowFollower((HEIGHT, WIDTH), SelectionOptions())
    ground = specimen(3000)
    rng = np.random.default_rng(0)
    most = 0
    for number in range(260):
        left = 10 * number
        noisy = ground[20 : 20 + HEIGHT, left : left + WIDTH] + rng.normal(0, 10, (HEIGHT, WIDTH))
        image = np.clip(noisy, 0, 255).astype(np.uint8)
        follower.see(Picture(number, number, number / 10, image))
        most = max(most, len(follower._selector._window))
    # 2.2 frames ahead, one candidate per twelfth of a frame.
    assert most <= 28
    assert all(t.candidate.picture.image is None for t in follower.taken)


def test_saturated_frames_are_refused(tmp_path: Path) -> None:
    frames = row_frames(np.arange(0, 600, 60))
    frames[3] = np.where(frames[3] > 60, 255, frames[3]).astype(np.uint8)
    found = scan(frames, tmp_path)
    refused = {r["source_index"]: r["reason"] for r in found["records"] if not r["taken"]}
    assert refused == {3: "saturated"}


def test_a_row_at_rest_gives_one_frame(tmp_path: Path) -> None:
    assert len(taken(scan(row_frames([100] * 12), tmp_path))) == 1


def test_a_video_without_a_usable_frame_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="8 blank"):
        scan(row_frames([0] * 8, blank=range(8)), tmp_path)


def test_truncated_video_is_scanned_with_its_loss_recorded(tmp_path: Path) -> None:
    x = np.arange(0, 1500, 60)
    path = write_video(tmp_path, row_frames(x), "mjpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = scan_source(Source("000_row", "video", (str(path),)))
    assert np.abs(error_px(found, x)).max() < 1.0
    assert len(taken(found)) >= 3
    assert any("header announces 25 frames" in w for w in found["warnings"])


def test_a_microscope_that_distorts_every_picture_is_followed() -> None:
    # Lines waver by 1 px, each picture in its own way: no one shear fits any two of them.
    x = np.arange(0, 1300, 40)
    lines = np.arange(HEIGHT)
    rng = np.random.default_rng(4)
    follower = RowFollower((HEIGHT, WIDTH), SelectionOptions())
    for number, frame in enumerate(row_frames(x, sigma=8.0)):
        waver = 1.0 * np.sin(2 * np.pi * (lines / 90 + rng.random()))
        image = np.rint(shift_rows(frame, waver, fill=110.0)).clip(0, 255).astype(np.uint8)
        follower.see(Picture(number, number, number / 10, image))
    follower.finish()
    numbers = np.array([t.candidate.source_index for t in follower.taken])
    assert len(follower.stretches) == 1
    assert np.diff(x[numbers]).max() <= 0.75 * WIDTH
    tracked = np.array([t.candidate.x_px for t in follower.taken])
    assert np.abs(tracked - (x[numbers] - x[numbers[0]])).max() < 4.0
