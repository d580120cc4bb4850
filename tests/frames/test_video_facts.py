"""`video_facts` tells a file as it was written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cemi_dask.errors import UnreadableError
from cemi_dask.frames.video_facts import video_facts


def write(path: Path, times_ms: list[int], *, codec: str = "ffv1", pixels: str = "gray") -> Path:
    """A video of random frames of 48 x 64 px at the given times."""
    rng = np.random.default_rng(4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times_ms:
            grey = rng.integers(0, 255, (48, 64), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="gray").reformat(format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_constant_rate_depth_and_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [125 * n for n in range(20)], pixels="gray16le")
    facts = video_facts(path)
    assert (facts["codec"], facts["lossless"], facts["bits"]) == ("ffv1", True, 16)
    assert (facts["width_px"], facts["height_px"]) == (64, 48)
    assert (facts["recorded"], facts["problems"], facts["rate"]) == (20, [], "constant")
    assert facts["fps"] == pytest.approx(8)
    assert facts["duration_s"] == pytest.approx(2.5)
    assert facts["bytes"] == path.stat().st_size


def test_a_variable_rate_is_told_with_its_extremes(tmp_path: Path) -> None:
    times = np.cumsum([0, *([100, 40, 250, 90] * 5)])
    facts = video_facts(write(tmp_path / "a.mkv", times.tolist()))
    assert (facts["rate"], facts["recorded"]) == ("variable", 21)
    assert facts["step_min_s"] == pytest.approx(0.04)
    assert facts["step_max_s"] == pytest.approx(0.25)


def test_frames_missing_from_an_even_sequence_count_as_recorded(tmp_path: Path) -> None:
    times = [100 * n for n in range(40) if n not in (7, 8, 21)]
    facts = video_facts(write(tmp_path / "a.mkv", times))
    assert (facts["rate"], facts["recorded"]) == ("constant", 40)
    assert facts["fps"] == pytest.approx(10)
    assert facts["step_max_s"] == pytest.approx(0.3)
    assert "3 frames are missing" in facts["problems"][0]


def test_a_lossy_codec_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [40 * n for n in range(9)], codec="mjpeg", pixels="yuvj420p")
    facts = video_facts(path)
    assert (facts["codec"], facts["lossless"], facts["bits"]) == ("mjpeg", False, 8)
    assert facts["key_frames"] == 9


def test_one_frame_has_no_rate(tmp_path: Path) -> None:
    facts = video_facts(write(tmp_path / "a.mkv", [0]))
    assert (facts["rate"], facts["duration_s"], facts["recorded"]) == ("unknown", None, 1)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_text("no video")
    with pytest.raises(UnreadableError, match=r"a\.avi cannot be read as a video"):
        video_facts(tmp_path / "a.avi")
