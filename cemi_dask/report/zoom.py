"""The animation from the whole mosaic into its finest detail, as the paper shows it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log, log2
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask import store
from cemi_dask.errors import StoreError
from cemi_dask.report.mosaic_figures import has_data
from cemi_dask.report.zoom_options import ZoomOptions
from cemi_dask.scalebar import Grey, with_scale_bar

BACKGROUND = 24  # grey where the mosaic has no data
FINEST = 4.0  # screen px per px at the end, unless stops say otherwise
LEAST_ZOOM = 4.0  # a mosaic that is nearly as small as the screen needs no animation
GIF_GREYS = 32
PREVIEW_PX = 360  # width
_MOST_PX = 1 << 24  # read for one picture


@dataclass(frozen=True)
class Look:
    """What one picture shows: its middle (px of level 0), and screen px per px."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Flight:
    """The pictures of an animation: where each looks, and how long it is shown, s."""

    looks: tuple[Look, ...]
    seconds: tuple[float, ...]


def plan_flight(
    shape: tuple[int, int],
    options: ZoomOptions,
    *,
    pixel_um: float | None,
    target: tuple[float, float],
) -> Flight | None:
    """The way from the whole mosaic of `shape` to the stops, or to `target` (x, y px).

    None where the mosaic is so small that there is nothing to come close to.
    """
    height, width = shape
    whole = min(options.width_px / width, options.height_px / height)
    start = Look(width / 2, height / 2, whole)
    unit = pixel_um or 1.0
    stops = [Look(s.x / unit, s.y / unit, options.width_px * unit / s.width) for s in options.stops]
    places = [start, *(stops or [Look(*target, FINEST)])]
    if not stops and FINEST / whole < LEAST_ZOOM:
        return None
    lengths = [_seconds(a, b, options) for a, b in pairwise(places)]
    rate = min(float(options.frames_per_s), options.most_frames / sum(lengths))
    looks, seconds = [start], [options.hold_s or 1 / rate]
    for (a, b), length in zip(pairwise(places), lengths, strict=True):
        count = max(1, ceil(length * rate))
        looks += [_between(a, b, _eased(k / count)) for k in range(1, count + 1)]
        seconds += [length / count] * (count - 1) + [length / count + options.hold_s]
    return Flight(tuple(looks), tuple(seconds))


def _seconds(a: Look, b: Look, options: ZoomOptions) -> float:
    """Time from a to b: by the zoom, but at least that of moving a screen width in a second."""
    zoom = abs(log(b.scale / a.scale)) / log(options.speed)
    moved = np.hypot(b.x - a.x, b.y - a.y) * min(a.scale, b.scale) / options.width_px
    return float(max(zoom, moved, 0.2))


def _eased(t: float) -> float:
    """Slow at both ends: half of a smoothstep, half linear, so that the middle is no rush."""
    return 0.5 * t + 0.5 * t * t * (3 - 2 * t)


def _between(a: Look, b: Look, t: float) -> Look:
    """The look a share `t` of the way: scale grows evenly, and the aim stays where it is seen.

    With the scale s, the middle is b + (a - b) (1/s - 1/s_b) / (1/s_a - 1/s_b): the aim then
    moves straight over the screen into its middle.
    """
    scale = a.scale * (b.scale / a.scale) ** t
    if abs(b.scale / a.scale - 1) < 1e-3:
        share = 1 - t
    else:
        share = (1 / scale - 1 / b.scale) / (1 / a.scale - 1 / b.scale)
    return Look(b.x + (a.x - b.x) * share, b.y + (a.y - b.y) * share, scale)


class Camera:
    """Draws looks at a mosaic, each from the level whose pixels are about the screen's."""

    def __init__(self, mosaic: store.Mosaic, size: tuple[int, int]) -> None:
        self._levels = store.level_arrays(mosaic)
        self._factors = [mosaic.shape[1] / array.shape[1] for array in self._levels]
        self._pixel_um = mosaic.pixel_um
        self._height, self._width = size
        self._window = store.sampled_window(self._levels[0])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures, px."""
        return self._width, self._height

    def picture(self, look: Look) -> Grey:
        """8-bit grey (height, width) with a scale bar. StoreError where the pyramid is missing."""
        wanted = max(0, floor(log2(max(1.0, 1 / look.scale)) + 0.25))
        level = min(wanted, len(self._levels) - 1)
        array, scale = self._levels[level], look.scale * 2**level
        x, y = ((v + 0.5) / 2**level - 0.5 for v in (look.x, look.y))
        half = self._width / 2 / scale, self._height / 2 / scale
        x0, y0 = (max(0, floor(v - h) - 2) for v, h in zip((x, y), half, strict=True))
        x1, y1 = (ceil(v + h) + 3 for v, h in zip((x, y), half, strict=True))
        x1, y1 = min(x1, array.shape[1]), min(y1, array.shape[0])
        if (x1 - x0) * (y1 - y0) > _MOST_PX:
            raise StoreError(
                f"The coarsest level of {array.store_path} is too large to draw it small. Write "
                "the pyramid first."
            )
        aside = x1 <= x0 or y1 <= y0  # nothing of the mosaic is seen
        part = np.zeros((1, 1)) if aside else store.read_part(array, y0, x0, (y1 - y0, x1 - x0))
        grey = self._grey(part)
        moved = np.array(
            [
                [scale, 0, self._width / 2 - 0.5 + scale * (x0 - x)],
                [0, scale, self._height / 2 - 0.5 + scale * (y0 - y)],
            ]
        )
        drawn = cv2.warpAffine(
            grey,
            moved,
            (self._width, self._height),
            flags=cv2.INTER_LINEAR if scale < FINEST else cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=BACKGROUND,
        )
        size_um = None if self._pixel_um is None else self._pixel_um / look.scale
        return with_scale_bar(np.asarray(drawn, np.uint8), size_um)

    def _grey(self, part: npt.NDArray[Any]) -> Grey:
        grey = store.as_grey(part, self._window)
        return np.asarray(np.where(has_data(part), grey, BACKGROUND), np.uint8)


def write_zoom(
    mosaic: store.Mosaic, folder: Path, options: ZoomOptions, *, target: tuple[float, float]
) -> list[Path]:
    """``zoom.gif`` and ``zoom.mp4`` in `folder`, as the options ask; their paths.

    None where the mosaic is too small. Pictures are drawn and written one by one. Raises
    StoreError where the mosaic has no pyramid or the disk refuses.
    """
    flight = plan_flight(mosaic.shape, options, pixel_um=mosaic.pixel_um, target=target)
    if flight is None:
        return []
    camera = Camera(mosaic, (options.height_px, options.width_px))
    written = []
    for ending, write in (("gif", _write_gif), ("mp4", _write_mp4)):
        if options.format in {ending, "both"}:
            path = folder / f"zoom.{ending}"
            with store.replacing(path) as temporary:
                write(temporary, camera, flight)
            written.append(path)
    return written


def preview(mosaic: store.Mosaic, options: ZoomOptions, *, target: tuple[float, float]) -> bytes:
    """The same animation small enough for a page: WebP, PREVIEW_PX wide, every other picture.

    Empty where the mosaic is too small for one.
    """
    from PIL import Image

    flight = plan_flight(mosaic.shape, options, pixel_um=mosaic.pixel_um, target=target)
    if flight is None:
        return b""
    share = PREVIEW_PX / options.width_px
    camera = Camera(mosaic, (round(options.height_px * share), PREVIEW_PX))
    # From the end, so that the last look is among them.
    picked = range(len(flight.looks) - 1, -1, -2)[::-1]
    looks = [flight.looks[k] for k in picked]
    images = [
        Image.fromarray(camera.picture(Look(k.x, k.y, k.scale * share))).convert("RGB")
        for k in looks
    ]
    durations = [round(1000 * sum(flight.seconds[max(0, k - 1) : k + 1])) for k in picked]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=25,
        method=2,
    )
    return buffer.getvalue()


def _write_gif(path: Path, camera: Camera, flight: Flight) -> None:
    from PIL import Image

    step = 256 // GIF_GREYS
    palette = np.repeat(np.linspace(0, 255, GIF_GREYS).round().astype(np.uint8), 3).tobytes()

    def images() -> Iterator[Image.Image]:
        for look in flight.looks:
            image = Image.fromarray(camera.picture(look) // step)
            image.putpalette(palette)
            yield image

    drawn = images()
    first = next(drawn)
    # Hundredths of a second, which is what a GIF counts in.
    durations = [10 * max(2, round(100 * seconds)) for seconds in flight.seconds]
    with path.open("wb") as file:
        first.save(
            file,
            "GIF",
            save_all=True,
            append_images=drawn,
            duration=durations,
            loop=0,
            optimize=False,
        )


def _write_mp4(path: Path, camera: Camera, flight: Flight) -> None:
    """H.264 in 4:2:0, which every browser plays; a longer rest is more of the same picture."""
    import av

    shortest = min(flight.seconds)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream: Any = file.add_stream("libx264", rate=max(1, round(1 / shortest)))
        stream.options = {"crf": "20", "preset": "fast"}
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = camera.size
        for look, seconds in zip(flight.looks, flight.seconds, strict=True):
            picture = camera.picture(look)
            for _ in range(max(1, round(seconds / shortest))):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        file.mux(stream.encode())
