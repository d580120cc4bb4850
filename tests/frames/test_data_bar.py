"""A data bar is found and cropped; what is no bar stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cemi_dask.errors import ConfigError
from cemi_dask.frames import Crop, InputOptions, find_sources, prepare, scan_source
from cemi_dask.frames.databar import detect_bar
from tests.frames.recordings import HEIGHT, WIDTH, look, row_frames, write_video

BAR = 24


def with_bar(frames: list[np.ndarray], *, top: bool = False) -> list[np.ndarray]:
    barred = []
    for frame in frames:
        picture = frame.copy()
        bar = picture[:BAR] if top else picture[-BAR:]
        bar[:] = 0
        bar[8:12, 200:300] = 255
        cv2.putText(bar, "X 500 BSE 15kV", (10, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
        barred.append(picture)
    return barred


def test_bar_is_found_at_the_bottom_and_at_the_top() -> None:
    frames = row_frames(np.arange(0, 400, 50))
    assert detect_bar(with_bar(frames)) == Crop(bottom=BAR)
    assert detect_bar(with_bar(frames, top=True)) == Crop(top=BAR)


def test_text_without_a_border_is_cropped_beside_the_text() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(4):
        picture = np.zeros((HEIGHT, WIDTH), np.uint8)  # grains in black resin
        picture[20:120, 60:260] = rng.integers(80, 255, (100, 200))
        cv2.putText(picture, "100um X 250", (150, 235), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
        frames.append(picture)
    found = detect_bar(frames)
    text_top = int(np.flatnonzero(frames[0][130:].any(axis=1))[0]) + 130
    assert HEIGHT - text_top <= found.bottom <= HEIGHT - text_top + 6


@pytest.mark.parametrize("sigma", [0.0, 3.0, 25.0])
def test_frames_without_a_bar_stay_whole(sigma: float) -> None:
    rng = np.random.default_rng(1)
    assert detect_bar(row_frames(np.arange(0, 400, 50), sigma=sigma)) == Crop()
    blank = [look(np.full((HEIGHT, WIDTH), 90.0), rng, sigma) for _ in range(6)]
    assert detect_bar(blank) == Crop()
    assert detect_bar(row_frames([50] * 5, sigma=sigma)) == Crop()


def test_one_frame_cannot_show_what_stays_the_same() -> None:
    assert detect_bar(with_bar(row_frames([0]))) == Crop()


@pytest.mark.parametrize("kind", ["ffv1", "mjpeg", "h264"])
def test_the_bar_of_a_video_is_cropped_and_said(tmp_path: Path, kind: str) -> None:
    x = np.arange(0, 900, 45)
    write_video(tmp_path, with_bar(row_frames(x)), kind)
    options = InputOptions(paths=(str(tmp_path),))
    (source,) = prepare(find_sources(options), options)
    assert BAR <= source.crop.bottom <= BAR + 4  # lossy codecs smear the edge
    assert any("data bar cropped" in note for note in source.notes)
    found = scan_source(source)
    assert found["shape"] == [HEIGHT - source.crop.bottom, WIDTH]
    assert found["crop"]["bottom"] == source.crop.bottom
    tracked = [r["x_nominal_px"] for r in found["records"] if r["taken"]]
    assert tracked[-1] == pytest.approx(x[-1], abs=1.0)


def test_a_given_crop_is_obeyed_and_none_means_none(tmp_path: Path) -> None:
    write_video(tmp_path, with_bar(row_frames([0, 60, 120])))
    for crop, expected in (("none", Crop()), (Crop(top=3, left=5), Crop(top=3, left=5))):
        options = InputOptions(paths=(str(tmp_path),), crop=crop)
        assert prepare(find_sources(options), options)[0].crop == expected


def test_a_crop_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path, row_frames([0, 60]))
    options = InputOptions(paths=(str(tmp_path),), crop=Crop(top=HEIGHT))
    with pytest.raises(ConfigError, match="Cut less"):
        prepare(find_sources(options), options)
