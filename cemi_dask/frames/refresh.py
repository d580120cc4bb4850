"""The refresh line: complete scans put together from recordings of a screen that is being scanned.

While a microscope scans, its screen shows the running scan above the refresh line and the
one before below it. A recorded frame is then two scans, torn at that line. Which lines are new
shows in the difference to the frame recorded before: lines that were not refreshed are the
same, those that were bear other noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.frames.video import Grey, Part, Picture

F32 = npt.NDArray[np.float32]

COLUMNS = 64  # of a line that are looked at
STRIPES = 8
SAME = 0.3  # of a new line's difference: less than that is compression, not new
SPLIT = 0.25  # of it: where some lines differ by less, part of the lines is not new
FEW_LINES = 4  # which may be anything
LEAST_CHANGE = 0.5  # grey levels of an 8-bit picture
TOLERANCE = 0.03  # of the height, by which a band may miss the end of the one before
LOCK = 2  # bands that must follow on each other before tearing is believed
PATIENCE = 6  # recorded frames after which whole pictures are believed
WHOLE = 0.98  # of the lines new: a frame without a refresh line

Mode = Literal["undecided", "whole", "scanning"]


@dataclass(frozen=True)
class Band:
    """The lines refreshed between two recorded frames: `length` lines from `start` on, cyclic.

    `start` is -1 where no line or every line is new, or the new lines form no one band.
    """

    height: int
    start: int = -1
    length: int = 0

    @property
    def end(self) -> int:
        """The line after the last new one: the refresh line (0..height - 1)."""
        return (self.start + self.length) % self.height


@dataclass(frozen=True)
class Refresh:
    """How a screen was scanned: seconds per scan, lines per second, and scans seen.

    Lines per second exceed height / period where lines are not scanned all the time.
    """

    period_s: float
    lines_per_s: float
    scans: int


@dataclass
class ScanAssembler:
    """Recorded frames in, complete scans out, in constant memory.

    Give every recorded `Picture` (cropped) to `see`; it returns the pictures that are one
    complete scan, in order. Frames without a refresh line pass unchanged. Exact repetitions
    of the frame before go to `duplicates`. An assembled scan bears the number and time of the
    first recorded frame in which it is complete, its `upper` lines come from the frame before.
    """

    height: int
    duplicates: list[Picture] = field(default_factory=list)
    mode: Mode = "undecided"

    def __post_init__(self) -> None:
        self._last: Picture | None = None
        self._thin: Grey | None = None
        self._band: Band | None = None
        self._level = 0.0
        self._waiting: list[Picture] = []
        self._followed = 0
        self._others = 0
        self._clock = _RefreshClock(self.height)
        self._advanced = self.height

    def see(self, picture: Picture) -> list[Picture]:
        """The complete pictures that this recorded frame finishes (none, one, or those held)."""
        if picture.image is None:
            return [picture]
        thin = _thin(picture.image)
        if self._last is None or self._thin is None:
            self._last, self._thin = picture, thin
            self._waiting = [picture]
            return []
        change = cv2.reduce(cv2.absdiff(thin, self._thin), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
        change = np.asarray(change, np.float32).ravel()
        band = self._new_lines(change, picture.image.dtype)
        if band.start < 0 and not band.length:
            self.duplicates.append(replace(picture, image=None))
            return []
        before, self._last, self._thin = self._last, picture, thin
        follows = self._follows(band)
        self._decide(band, follows)
        out = self._complete(before, picture, band, follows)
        self._band = band
        return out

    def finish(self) -> list[Picture]:
        """The pictures still held when the recording ends before it is clear what it shows."""
        held, self._waiting = self._waiting, []
        return held if self.mode == "undecided" else []

    def refresh(self) -> Refresh | None:
        """Period and speed of the scan; None where no refresh line was seen."""
        return self._clock.result() if self.mode == "scanning" else None

    def _new_lines(self, change: F32, dtype: np.dtype[Any]) -> Band:
        """The band of new lines, from the mean difference of every line."""
        # A slow scan renews a few lines per recorded frame.
        ordered = np.partition(change, (FEW_LINES, -FEW_LINES))
        same, high = float(ordered[FEW_LINES]), float(ordered[-FEW_LINES])
        unit = 1.0 if dtype == np.uint8 else self._level / 50.0
        if high <= LEAST_CHANGE * unit:
            return Band(self.height)
        if same > SPLIT * high:
            # All lines differ alike: all are new, or in a scan that rests it is compression.
            nothing = self.mode == "scanning" and high < SAME * self._level
            self._level = max(self._level, high) if not nothing else self._level
            return Band(self.height) if nothing else Band(self.height, -1, self.height)
        self._level = high if not self._level else 0.9 * self._level + 0.1 * high
        return _band(change > max(LEAST_CHANGE * unit, SAME * high), self.height)

    def _follows(self, band: Band) -> bool:
        """True where the band begins at the line at which the one before ended, and moved."""
        if self._band is None or self._band.start < 0 or band.start < 0:
            return False
        slack = max(16.0, TOLERANCE * self.height)
        # A clock or a blinking cursor is new in every frame, but stays where it is.
        moved = _cyclic(band.end - self._band.end, self.height)
        if moved < max(1, min(4, band.length // 2)):
            return False
        return _cyclic(band.start - self._band.end, self.height) <= slack

    def _decide(self, band: Band, follows: bool) -> None:
        self._followed = self._followed + 1 if follows else 0
        if self._followed >= LOCK:
            if self.mode != "scanning":
                self._waiting = []
            self.mode = "scanning"
        elif self.mode == "undecided":
            self._others += not follows and band.start < 0
            if self._others >= LOCK or len(self._waiting) > PATIENCE:
                self.mode = "whole"

    def _complete(
        self, before: Picture, picture: Picture, band: Band, follows: bool
    ) -> list[Picture]:
        if self.mode == "undecided":
            self._waiting.append(picture)
            return []
        if self.mode == "whole":
            held, self._waiting = self._waiting, []
            return [*held, picture]
        self._advanced += band.length
        if not follows or self._band is None:
            return []
        self._clock.see(picture.time_s - before.time_s, self._band, band)
        # A band seen a few lines too long may pass the bottom twice.
        if self._advanced < self.height // 2 or not self._wrapped(band):
            return []
        self._advanced = 0
        return [_joined(before, picture, band)]

    def _wrapped(self, band: Band) -> bool:
        """True where the refresh line passed the bottom between the last two frames."""
        slack = max(16.0, TOLERANCE * self.height)
        if band.start + band.length > self.height:
            return True
        assert self._band is not None  # noqa: S101 - only asked of a band that follows another
        return band.start <= slack and self._band.end + self.height * (self._band.end == 0) > (
            self.height - slack
        )


class _RefreshClock:
    """Sums from which the speed of the refresh line and the scan period follow.

    Only ends of bands are used: compression makes a band longer on both sides, which
    cancels in the difference of two ends.
    """

    def __init__(self, height: int) -> None:
        self._height = height
        self._inner = [0.0, 0.0]  # lines, seconds inside a scan
        self._total = [0.0, 0.0]  # the same over the bottom as well

    def see(self, step_s: float, before: Band, band: Band) -> None:
        if not step_s > 0:
            return
        lines = (band.end - before.end) % self._height
        self._total[0] += lines
        self._total[1] += step_s
        edge = TOLERANCE * self._height
        if edge < before.end < band.end < self._height - edge:
            self._inner[0] += lines
            self._inner[1] += step_s

    def result(self) -> Refresh | None:
        if not self._total[0]:
            return None
        mean = self._total[0] / self._total[1]
        inner = self._inner[0] / self._inner[1] if self._inner[1] else mean
        # Lines come faster than on average only where the beam rests between scans.
        speed = inner if inner > (1 + TOLERANCE) * mean else mean
        return Refresh(self._height / mean, speed, round(self._total[0] / self._height))


def _thin(image: Grey) -> Grey:
    """Some columns (h, 64) of a picture, in stripes spread over its width."""
    return np.concatenate([image[:, stripe] for stripe in _stripes(image.shape[1])], axis=1)


@cache
def _stripes(width: int) -> list[slice]:
    each = max(1, min(COLUMNS // STRIPES, width // STRIPES))
    starts = np.linspace(0, width - each, min(STRIPES, width)).astype(int)
    return [slice(s, s + each) for s in starts.tolist()]


def _band(new: npt.NDArray[np.bool_], height: int) -> Band:
    """The one cyclic run of new lines, with short gaps closed."""
    share = float(new.mean())
    if share >= WHOLE:
        return Band(height, -1, height)
    if not new.any():
        return Band(height)
    # Compression changes the lines beside a new one, and chance leaves some new lines alike.
    lines = np.flatnonzero(new)
    gaps = np.diff(np.concatenate((lines, [lines[0] + height])))
    widest = int(np.argmax(gaps))
    length = height - int(gaps[widest]) + 1
    start = int(lines[(widest + 1) % len(lines)])
    filled = len(lines) / length
    if filled < 0.7:
        return Band(height, -1, height)
    return Band(height, start, length) if length < height else Band(height, -1, height)


def _cyclic(apart: int, height: int) -> int:
    apart %= height
    return min(apart, height - apart)


def _seam(band: Band) -> int:
    """The line from which on the later of two frames holds the completed scan.

    Any line that was not refreshed between them will do; the middle one is the safest.
    """
    end = band.end if band.start + band.length > band.height else band.start + band.length
    start = band.start if band.start + band.length > band.height else band.height
    return (end + start) // 2


def _joined(upper: Picture, lower: Picture, band: Band) -> Picture:
    seam = _seam(band)
    assert upper.image is not None  # noqa: S101
    assert lower.image is not None  # noqa: S101
    image = np.concatenate([upper.image[:seam], lower.image[seam:]])
    since = band.end if band.start + band.length > band.height else band.start + band.length
    ended_s = lower.time_s - (lower.time_s - upper.time_s) * since / band.length
    part = Part(upper.source_index, upper.pts, seam)
    return replace(lower, image=image, upper=part, clock_s=ended_s)
