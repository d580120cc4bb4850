"""Videos decode to the right frames, and what is lost is named."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from cemi_dask.errors import UnreadableError
from cemi_dask.frames.video import decode_video, index_video, read_video_frame, video_header
from tests.frames.recordings import FORMATS, number_in, numbered_frames, write_video

COUNT = 50


def write(folder: Path, kind: str) -> Path:
    frames = numbered_frames(COUNT)
    if kind.endswith("16"):
        frames = [frame.astype(np.uint16) * 257 for frame in frames]
    return write_video(folder, frames, kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_frames_come_in_display_order_with_their_numbers(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    pictures = list(decode_video(path, index_video(path)))
    assert [p.source_index for p in pictures] == list(range(COUNT))
    assert [number_in(p.image) for p in pictures] == list(range(COUNT))
    times = np.array([p.time_s for p in pictures])
    assert np.allclose(np.diff(times), 0.1, atol=1e-3)  # Matroska keeps milliseconds


@pytest.mark.parametrize("kind", FORMATS)
def test_a_single_frame_is_the_one_asked_for(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    index = index_video(path)
    whole = {p.source_index: p for p in decode_video(path, index)}
    for number in (0, 1, 11, 12, 13, 30, COUNT - 1):
        pts = whole[number].pts
        assert pts is not None
        key = index.key_before(pts)
        image = read_video_frame(path, source_index=number, pts=pts, key_pts=key)
        assert np.array_equal(image, whole[number].image)
        assert number_in(image) == number


def test_frames_without_time_stamps_are_counted_from_the_start(tmp_path: Path) -> None:
    path = write(tmp_path, "h264")
    assert number_in(read_video_frame(path, source_index=17)) == 17


def test_deep_pixels_keep_their_depth(tmp_path: Path) -> None:
    path = write(tmp_path, "ffv1-16")
    assert video_header(path) == ((64, 96), "uint16")
    picture = next(decode_video(path, index_video(path)))
    assert picture.image is not None
    assert picture.image.dtype == np.uint16
    assert picture.image[0, 0] == 30 * 257


@pytest.mark.parametrize("kind", ["ffv1", "mjpeg", "mpeg4-avi"])
def test_truncated_video_gives_its_good_frames_and_says_what_is_lost(
    tmp_path: Path, kind: str
) -> None:
    path = write(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    index = index_video(path)
    good = [p for p in decode_video(path, index) if p.image is not None]
    assert 10 < len(good) < COUNT
    # AVI states no display order: at the cut, that of the last group of B-frames is a guess.
    certain = good[:-1] if kind == "mpeg4-avi" else good
    assert [number_in(p.image) for p in certain] == [p.source_index for p in certain]
    assert any("announces" in problem for problem in index.problems)


@pytest.mark.parametrize("kind", ["ffv1", "mjpeg", "mpeg4", "h264"])
def test_damaged_packets_are_reported_and_no_wrong_frame_passes(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    clean = {p.source_index: p.image for p in decode_video(path, index_video(path))}
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for position, size in packets[5::9]:
        middle = slice(position + size // 3, position + size)
        data[middle] = rng.integers(0, 256, size - size // 3, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))
    pictures = list(decode_video(path, index_video(path)))
    bad = [p for p in pictures if p.image is None]
    assert [p.source_index for p in pictures] == list(range(COUNT))
    assert len(bad) >= len(packets[5::9])
    assert {p.problem for p in bad} <= {"damaged", "lost"}
    for picture in pictures:
        if picture.image is not None:
            assert np.array_equal(picture.image, clean[picture.source_index])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty (0 bytes)"),
        (b"This is no video at all.\n", "text file"),
        (b"\x00\x01\x02\x03" * 100, "400 bytes"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "row.avi"
    path.write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        video_header(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    assert "Record or export it again" in str(caught.value)


def test_truncated_mp4_without_its_index_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "h264")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableError, match="cannot be read as a video"):
        index_video(path)


def test_missing_packets_do_not_shift_the_numbers(tmp_path: Path) -> None:
    whole = write(tmp_path, "ffv1")
    path = tmp_path / "gaps.mkv"
    gone = {7, 20, 21}
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number not in gone:
                packet.stream = stream
                target.mux(packet)
    index = index_video(path)
    pictures = list(decode_video(path, index))
    assert [p.source_index for p in pictures] == list(range(COUNT))
    assert {p.source_index for p in pictures if p.image is None} == gone
    assert all(number_in(p.image) == p.source_index for p in pictures if p.image is not None)
    assert any("3 frames are missing" in problem for problem in index.problems)
