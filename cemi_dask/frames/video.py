"""Frames of a video in display order, one pass or one by one, exact to the frame.

A video is indexed by its packets, never by its header (headers announce frames that do not
exist) nor by seeking in time (which lands beside the frame where B-frames are used): a
frame's number is the rank of its packet's time stamp.
"""

from __future__ import annotations

import bisect
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError, UnreadableError
from cemi_dask.frames.images import describe_file
from cemi_dask.frames.packets import VideoIndex as VideoIndex
from cemi_dask.frames.packets import packet_index

PLANAR_8_BIT = frozenset(("410p", "411p", "420p", "422p", "440p", "444p"))
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
STRETCH = np.array([[255, -16 * 255]]) / 219  # gain and offset of grey levels, rounded and clipped

Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Part:
    """The lines above `seam` of a picture, which come from another recorded frame."""

    source_index: int
    pts: int | None
    seam: int


@dataclass
class Picture:
    """One recorded frame: its number in display order, time stamp, seconds, and grey picture.

    `image` is None, and `problem` says why, for a frame that is lost or damaged. `upper` tells
    where its upper lines come from where it was put together from two recorded frames;
    `clock_s` when its scan ended, which is before the frame was recorded (None: `time_s`).
    """

    source_index: int
    pts: int | None = None
    time_s: float = float("nan")
    image: Grey | None = None
    problem: str = ""
    upper: Part | None = None
    clock_s: float | None = None

    @property
    def clock(self) -> float:
        """Seconds at which the picture was complete; its number where no time is known."""
        seconds = self.time_s if self.clock_s is None else self.clock_s
        return seconds if math.isfinite(seconds) else float(self.source_index)


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """(container, first video stream) of a file; raises UnreadableError with what is wrong."""
    import av

    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(
            f"{path} cannot be read as a video: {describe_file(path)} "
            f"({_without_index(path) or getattr(error, 'strerror', None) or error}). "
            "Record or export it again, or leave it out."
        ) from error
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            raise UnreadableError(
                f"{path} holds no video stream (only {kinds or 'nothing'}). Leave it out."
            )
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # one task, one thread: workers share the cores
        # Without this, damaged packets decode to noise in silence.
        stream.codec_context.options = {"err_detect": "explode+crccheck+bitstream+buffer+careful"}
        yield container, stream


def _without_index(path: str | Path) -> str:
    """What is wrong with an MP4 or MOV that was cut short, in words; empty for other files."""
    try:
        with Path(path).open("rb") as stream:
            size, at = Path(path).stat().st_size, 0
            boxes: list[bytes] = []
            while at + 8 <= size and len(boxes) < 100:
                stream.seek(at)
                length, name = struct.unpack(">I4s", stream.read(8))
                boxes.append(name)
                if length == 1:  # a 64-bit length follows
                    length = struct.unpack(">Q", stream.read(8))[0]
                if length < 8:
                    break
                at += length
    except (OSError, struct.error):
        return ""
    if boxes[:1] != [b"ftyp"] or b"moov" in boxes:
        return ""
    return "it was cut short: its index, which such files have at their end, is missing"


def video_header(path: str | Path) -> tuple[tuple[int, int], str]:
    """((height, width) in px, "uint8" or "uint16") of a video, as its codec announces it."""
    with open_video(path) as (_, stream):
        context = stream.codec_context
        if not context.format or not context.width or not context.height:
            raise UnreadableError(
                f"{path} announces no picture size ({describe_file(path)}). Export it again."
            )
        name = "uint16" if _grey_format(context.format) == "gray16le" else "uint8"
        return (int(context.height), int(context.width)), name


def index_video(path: str | Path) -> VideoIndex:
    """The packet index of a video, found by reading (not decoding) it once."""
    with open_video(path) as (container, stream):
        return packet_index(container, stream)


def decode_video(path: str | Path, index: VideoIndex) -> Iterator[Picture]:
    """Every recorded frame of a video in display order, in one pass and constant memory.

    Frames whose packet is lost or damaged come as a `Picture` without an image, so that the
    numbering is complete.
    """
    expected = 0
    tainted: set[int] = set(index.doubtful_pts)
    with open_video(path) as (container, stream):
        reader = _Reader(stream)
        for frame, broken_pts in _frames(container, stream):
            if frame is None or frame.is_corrupt:
                broken = broken_pts if frame is None else frame.pts
                tainted |= index.dependants(broken)
                if broken is not None:
                    tainted.add(broken)  # some decoders complain of a frame and give it later
            if frame is None:
                continue
            number = index.number(frame.pts)
            number = expected if number is None else number
            if number < expected:
                continue  # a repeated time stamp: this frame was seen
            for lost in range(expected, number):
                yield _lost(index, lost, stream.time_base)
            expected = number + 1
            yield reader.picture(frame, number, damaged=frame.pts in tainted)
            tainted.discard(frame.pts)
        for lost in range(expected, index.recorded):
            yield _lost(index, lost, stream.time_base)


def read_video_frame(
    path: str | Path, *, source_index: int, pts: int | None = None, key_pts: int | None = None
) -> Grey:
    """The one recorded frame with this number as a grey picture (y, x).

    With its time stamp (and that of the key frame before it) only that group of pictures is
    decoded; without, frames are counted from the start. Raises UnreadableError where the
    frame cannot be decoded (again).
    """
    if pts is not None and key_pts is not None:
        found = _decode_from_key(path, pts, key_pts)
        if found is not None:
            return found
    index = index_video(path)
    for picture in decode_video(path, index):
        if picture.source_index == source_index:
            if picture.image is not None:
                return picture.image
            break
    raise UnreadableError(
        f"{path}: recorded frame {source_index} cannot be decoded. If the file was changed after "
        "it was scanned, open it anew."
    )


def frame_near(
    opened: tuple[Any, Any], key_pts: int, *, not_before: int | None = None
) -> Grey | None:
    """The first frame that decodes from about a key frame on, for looking at; None: none does.

    None too where seeking lands before the time stamp `not_before`: an AVI that lacks its index
    gives its first frame whatever is asked for.
    """
    container, stream = opened
    try:
        container.seek(key_pts, stream=stream, backward=True, any_frame=False)
    except (OSError, ValueError):
        return None
    for frame, _ in _frames(container, stream):
        if frame is not None and not frame.is_corrupt:
            if not_before is not None and frame.pts is not None and frame.pts < not_before:
                return None
            return _Reader(stream).grey(frame)
    return None


def _decode_from_key(path: str | Path, pts: int, key_pts: int) -> Grey | None:
    """The frame at `pts`, decoded from its key frame; None where the file does not allow it."""
    with open_video(path) as (container, stream):
        try:
            container.seek(key_pts, stream=stream, backward=True, any_frame=False)
        except (OSError, ValueError):
            return None
        for frame, _ in _frames(container, stream):
            if frame is None:
                continue
            if frame.pts == pts:
                return _Reader(stream).picture(frame, 0).image
            if frame.pts is None or frame.pts > pts:
                return None  # the seek went past it: the caller counts from the start
    return None


def _frames(container: Any, stream: Any) -> Iterator[tuple[Any, int | None]]:
    """(frame, None) for what decodes; (None, time stamp) for a packet that does not."""
    packets = container.demux(stream)
    ended = False
    while not ended:
        packet = None  # None makes the decoder give what it still holds
        with suppress(OSError, ValueError):  # a file cut short ends here
            packet = next(packets, None)
        ended = packet is None
        try:
            for frame in stream.codec_context.decode(packet):
                yield frame, None
        except EOFError:
            return
        except (OSError, ValueError):
            yield None, packet.pts if packet is not None else None


@dataclass
class _Reader:
    """Turns decoded frames of one stream into grey pictures (one converter for all)."""

    stream: Any
    converter: Any = field(default=None)

    def picture(self, frame: Any, number: int, *, damaged: bool = False) -> Picture:
        time_s = float(frame.pts * self.stream.time_base) if frame.pts is not None else np.nan
        if damaged or frame.is_corrupt:
            return Picture(number, frame.pts, time_s, None, "damaged")
        return Picture(number, frame.pts, time_s, self.grey(frame))

    def grey(self, frame: Any) -> Grey:
        import av
        from av.video.reformatter import VideoReformatter

        if frame.format.name.removeprefix("yuvj").removeprefix("yuv") in PLANAR_8_BIT:
            return _luma(frame)
        target = _grey_format(frame.format)
        if frame.format.name != target:
            if self.converter is None:
                self.converter = VideoReformatter()
            try:
                frame = self.converter.reformat(frame, format=target)
            except (av.FFmpegError, ValueError) as error:
                raise InputError(
                    f"Frames of format {frame.format.name} cannot be turned to grey ({error}). "
                    "Export the video in another pixel format."
                ) from error
        array: Grey = frame.to_ndarray()
        return array


def _luma(frame: Any) -> npt.NDArray[np.uint8]:
    """The first plane of a frame (y, x): its brightness, with the full range of grey levels.

    Where the recording uses levels 16 to 235 (ITU-R BT.601), these become 0 to 255.
    """
    plane = frame.planes[0]
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    luma = lines[: frame.height, : frame.width]
    full = frame.format.name.startswith("yuvj") or frame.color_range == FULL_RANGE
    return luma.copy() if full else np.asarray(cv2.transform(luma, STRETCH), np.uint8)


def _grey_format(video_format: Any) -> str:
    """The grey pixel format that keeps the depth of a video's pixels."""
    bits = max((component.bits for component in video_format.components), default=8)
    return "gray16le" if bits > 8 else "gray"


def _lost(index: VideoIndex, number: int, time_base: Any) -> Picture:
    at = bisect.bisect_left(index.numbers, number)
    known = at < len(index.numbers) and index.numbers[at] == number
    pts = index.pts[at] if known else None
    time_s = float(pts * time_base) if pts is not None else float("nan")
    return Picture(number, pts, time_s, None, "lost")
