"""Small recordings with known motion, written by the tests that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import gaussian_filter

HEIGHT, WIDTH = 240, 384

FORMATS = {
    "ffv1": ("mkv", "ffv1", "gray", {}),
    "ffv1-16": ("mkv", "ffv1", "gray16le", {}),
    "mjpeg": ("avi", "mjpeg", "yuvj420p", {"qmin": "2", "qmax": "3"}),
    "h264": ("mp4", "libx264", "yuv420p", {"bf": "3", "g": "12", "crf": "16"}),
    "mpeg4": ("mp4", "mpeg4", "yuv420p", {"bf": "2", "g": "12"}),
    "mpeg4-avi": ("avi", "mpeg4", "yuv420p", {"bf": "2", "g": "12"}),
}


def specimen(width: int, height: int = HEIGHT + 60, seed: int = 0) -> np.ndarray:
    """Band-limited random structure, float32 grey levels around 110."""
    rng = np.random.default_rng(seed)
    fine = gaussian_filter(rng.standard_normal((height, width)), 1.5)
    coarse = gaussian_filter(rng.standard_normal((height, width)), 6.0)
    field = fine / fine.std() + 0.7 * coarse / coarse.std()
    return np.clip(110 + 22 * field, 0, 255).astype(np.float32)


def look(picture: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """The picture with white noise of `sigma` grey levels, uint8."""
    noisy = picture + sigma * rng.standard_normal(picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def row_frames(
    x: Sequence[int], *, y: int = 20, sigma: float = 25.0, blank: Sequence[int] = (), seed: int = 0
) -> list[np.ndarray]:
    """Frames whose corners lie at the whole pixels (x, y) of one specimen."""
    rng = np.random.default_rng(seed)
    ground = specimen(max(x) + WIDTH, seed=seed)
    pictures = []
    for number, left in enumerate(x):
        picture = ground[y : y + HEIGHT, left : left + WIDTH]
        if number in blank:
            picture = np.full_like(picture, 110)
        pictures.append(look(picture, rng, sigma))
    return pictures


def write_video(folder: Path, frames: Sequence[np.ndarray], kind: str = "ffv1") -> Path:
    """A video of the frames, in one of `FORMATS`."""
    suffix, codec, pixels, options = FORMATS[kind]
    path = folder / f"row.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = pixels
        stream.options = options
        if codec == "ffv1":
            stream.codec_context.gop_size = 1
        for number, frame in enumerate(frames):
            name = "gray" if frame.dtype == np.uint8 else "gray16le"
            picture = av.VideoFrame.from_ndarray(frame, format=name).reformat(format=pixels)
            picture.pts = number
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def numbered_frames(count: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Frames that show their own number as six bright or dark fields: see `number_in`."""
    frames = []
    for number in range(count):
        frame = np.full(size, 30, np.uint8)
        for bit in range(6):
            if number >> bit & 1:
                frame[8:56, 8 + 14 * bit : 16 + 14 * bit] = 220
        frames.append(frame)
    return frames


def number_in(frame: np.ndarray) -> int:
    """The number that a frame of `numbered_frames` shows, whatever a codec did to it."""
    levels = frame.astype(np.float64) / (257 if frame.dtype == np.uint16 else 1)
    return sum(
        1 << bit for bit in range(6) if levels[16:48, 10 + 14 * bit : 14 + 14 * bit].mean() > 125
    )
