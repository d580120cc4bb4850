"""Writing frames as video: lossless or as microscopes and recorders compress it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError, MissingExtraError

Codec = Literal["ffv1", "mjpeg", "h264", "mpeg4"]


@dataclass(frozen=True)
class _Format:
    encoder: str
    suffix: str
    pixel_format: str
    options: dict[str, str]
    qscale: int | None = None


_FORMATS: dict[Codec, _Format] = {
    "ffv1": _Format("ffv1", ".mkv", "gray", {"level": "3", "slicecrc": "1"}),
    "mjpeg": _Format("mjpeg", ".avi", "yuvj420p", {}, qscale=2),
    "h264": _Format("libx264", ".mp4", "yuvj420p", {"crf": "14", "preset": "veryfast"}),
    "mpeg4": _Format("mpeg4", ".mp4", "yuv420p", {}, qscale=2),
}


def video_suffix(codec: Codec) -> str:
    """File suffix of videos in `codec`, with its dot."""
    return _FORMATS[codec].suffix


def write_video(
    path: Path, frames: Iterable[npt.NDArray[np.uint8]], *, codec: Codec, fps: float
) -> int:
    """Write grey 8-bit frames (y, x), all of one shape, one at a time; returns how many.

    The same frames give the same bytes. Raises ConfigError for an odd width or height where
    the codec halves the colour planes, and MissingExtraError where PyAV lacks the encoder.
    """
    kind = _FORMATS[codec]
    if kind.encoder not in av.codecs_available:
        have = [name for name, f in _FORMATS.items() if f.encoder in av.codecs_available]
        raise MissingExtraError(
            f"The installed PyAV cannot encode {codec} (no {kind.encoder}). It has {have}."
        )
    count = 0
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream(kind.encoder, rate=rate)
        assert isinstance(stream, av.VideoStream)  # noqa: S101 - every encoder above is of video
        stream.pix_fmt = kind.pixel_format
        stream.options = dict(kind.options)
        context = stream.codec_context
        context.thread_count = 1
        if kind.qscale is not None:
            context.options = {
                **kind.options,
                "flags": "+qscale",
                "global_quality": str(118 * kind.qscale),
            }
        for count, grey in enumerate(frames, start=1):
            if count == 1:
                _check(grey.shape, codec)
                stream.height, stream.width = grey.shape
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(grey), format="gray")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return count


def _check(shape: tuple[int, ...], codec: Codec) -> None:
    if codec != "ffv1" and (shape[0] % 2 or shape[1] % 2):
        raise ConfigError(
            f"{codec} needs an even height and width, not {shape[0]} x {shape[1]} px. "
            "Choose an even frame_shape and data_bar_px, or codec: ffv1."
        )
