"""A data bar is found and cropped; what is no bar stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cemi_dask.errors import ConfigError
from cemi_dask.frames import Crop, InputOptions, find_sources, prepare, scan_source
from cemi_dask.frames.databar import detect_bar
from tests.frames.recordings import HEIGHT, WIDTH, look, row_frames, specimen, write_video

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


def test_one_frame_shows_a_plain_bar_only_where_it_can_be_nothing_else() -> None:
    (picture,) = with_bar(row_frames([0]))
    assert detect_bar([picture]) == Crop(bottom=BAR)
    assert detect_bar(with_bar([picture], top=True)) == Crop(top=BAR, bottom=BAR)
    assert detect_bar([picture.astype(np.uint16) * 200]) == Crop(bottom=BAR)
    no_text = row_frames([0])[0]
    no_text[-BAR:] = 0
    in_resin = picture.copy()
    in_resin[-3 * BAR : -BAR] = 0  # nothing tells where the black resin ends
    glass = overlaid(row_frames([0]), opacity=0.7)[0]
    for other in (no_text, in_resin, glass, np.zeros_like(picture)):
        assert detect_bar([other]) == Crop()


def test_a_bar_is_found_while_the_stage_stands() -> None:
    assert detect_bar(with_bar(row_frames([50] * 6, sigma=0.0))) == Crop(bottom=BAR)
    assert detect_bar(with_bar(row_frames([50] * 6))) == Crop(bottom=BAR)


def overlaid(
    frames: list[np.ndarray], *, opacity: float, level: int = 0, top: bool = False
) -> list[np.ndarray]:
    """A bar that lets the picture through, with a text, a clock, and a scale bar over it."""
    text = 255 if level < 128 else 0
    barred = []
    for number, frame in enumerate(frames):
        picture = frame.copy()
        lines = slice(0, BAR) if top else slice(-BAR, None)
        bar = np.rint(picture[lines] * (1 - opacity) + opacity * level).astype(np.uint8)
        clock = f"12:{number:02d}:{(number * 37) % 60:02d} x {number * 5.37:.3f}"
        for told, x in (("X 500 BSE 15kV", 10), (clock, 140)):
            cv2.putText(bar, told, (x, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, text, 1)
        bar[8:12, 300:370] = text
        picture[lines] = bar
        barred.append(picture)
    return barred


@pytest.mark.parametrize("opacity", [0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("level", [0, 60, 255])
def test_a_bar_that_the_picture_shows_through_is_found_to_the_line(
    opacity: float, level: int
) -> None:
    for sigma in (3.0, 25.0):
        frames = row_frames(np.arange(0, 400, 50), sigma=sigma)
        bar = overlaid(frames, opacity=opacity, level=level)
        assert detect_bar(bar) == Crop(bottom=BAR)
        both = overlaid(bar, opacity=opacity, level=level, top=True)
        assert detect_bar(both) == Crop(top=BAR, bottom=BAR)


@pytest.mark.parametrize("kind", ["mjpeg", "mpeg4", "h264"])
@pytest.mark.parametrize("opacity", [0.3, 0.7, 1.0])
def test_compression_hides_no_bar(tmp_path: Path, kind: str, opacity: float) -> None:
    for level in (0, 255):
        bar = overlaid(row_frames(np.arange(0, 900, 45)), opacity=opacity, level=level)
        write_video(tmp_path, bar, kind)
        options = InputOptions(paths=(str(tmp_path),))
        (source,) = prepare(find_sources(options), options)
        # Codecs smear the edge over a line or two.
        assert BAR - 1 <= source.crop.bottom <= BAR + 2
        assert source.crop.top == 0


def moving(ground: np.ndarray, count: int, sigma: float) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [look(ground[:HEIGHT, x : x + WIDTH], rng, sigma) for x in 50 * np.arange(count)]


def striped() -> dict[str, np.ndarray]:
    """Specimens whose structure runs along the motion or repeats with it."""
    ground = specimen(900)
    y, x = np.mgrid[: len(ground), :900]
    bands, resin = ground.copy(), ground.copy()
    bands[40:70] = bands[40:70] * 0.2 + 150
    bands[200:] = bands[200:] * 0.3 + 20
    bands[100], bands[180:184, 100:] = 255, 0
    resin[:50], resin[-110:] = 30, 12
    return {
        "bands": bands,
        "resin": resin,
        "lamellae along x": np.where(np.sin(y * 2.3) > 0, 180.0, 60.0) + 0.1 * ground,
        "lamellae that repeat with the motion": np.where((x + y // 3) % 5 < 2, 200.0, 40.0),
    }


@pytest.mark.parametrize("name", striped())
def test_structure_along_the_motion_is_no_bar(name: str) -> None:
    for sigma in (0.0, 3.0, 25.0):
        for count in (1, 2, 3, 8):
            assert detect_bar(moving(striped()[name], count, sigma)) == Crop()


@pytest.mark.parametrize("sigma", [0.0, 3.0, 25.0])
def test_torn_and_half_frozen_pictures_show_no_bar(sigma: float) -> None:
    frames = row_frames(np.arange(0, 450, 50), sigma=sigma)
    rng = np.random.default_rng(3)
    torn, frozen, barred = [], [], []
    with_text = with_bar(frames)
    for number in range(8):
        seam = int(rng.integers(0, HEIGHT))
        for made, of in ((torn, frames), (barred, with_text)):
            made.append(np.vstack([of[number + 1][:seam], of[number][seam:]]))
        frozen.append(np.vstack([frames[number + 1][:150], frames[0][150:]]))
    assert detect_bar(torn) == Crop()
    assert detect_bar(frozen) == Crop()
    assert detect_bar(barred) == Crop(bottom=BAR)


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
