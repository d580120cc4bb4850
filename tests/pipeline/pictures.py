"""Small videos and tiles with known content, good and bad ones, for the tests of the job."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import tifffile

Picture = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 96, 160  # of every frame, px


def texture(seed: int, shape: tuple[int, int] = (320, 1200)) -> Picture:
    """A random picture with structure of some px, in which every place is unlike the others."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip(128 + 40 * smooth / smooth.std(), 1, 254).astype(np.uint8)


def row(specimen: Picture, count: int, *, step: int = 30, y: int = 0) -> list[Picture]:
    """`count` frames of a stage that moves `step` px along x between them."""
    return [
        np.ascontiguousarray(specimen[y : y + HEIGHT, k * step : k * step + WIDTH])
        for k in range(count)
    ]


def blank(grey: int = 90) -> Picture:
    return np.full((HEIGHT, WIDTH), grey, np.uint8)


def write_video(path: Path, frames: list[Picture], codec: str = "ffv1") -> Path:
    """A video of grey frames, ten a second; MP4s have their index at the front."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = {"ffv1": "gray", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = pixels
        if codec != "ffv1":
            stream.bit_rate = 8_000_000
            stream.gop_size = 1  # so that a cut costs what follows it and nothing before
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixels)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float) -> Path:
    """Cut the file short: what a full disk or a pulled plug leaves."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_grid(
    folder: Path, specimen: npt.NDArray[np.generic], *, rows: int = 2, cols: int = 3
) -> Path:
    """Overlapping TIFF tiles tile_r0_c0.tif, ...; steps of 100 and 60 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for r in range(rows):
        for c in range(cols):
            y, x = 60 * r, 100 * c
            tifffile.imwrite(
                folder / f"tile_r{r}_c{c}.tif", specimen[y : y + HEIGHT, x : x + WIDTH]
            )
    return folder
