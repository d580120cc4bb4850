"""Phase labels: which pixels are BCC, by thresholds."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import dask.array as da
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from cemi_dask.errors import InputError
from cemi_dask.methods import Registry
from cemi_dask.segment.labels import Labels, PhaseMethod, valid_pixels, whole_numbers


class Bradley(PhaseMethod):
    """Pixels darker (or brighter) than the mean around them by a percentage.

    A pixel is labelled where ``grey < mean * (1 - percent / 100)``; the mean is taken over
    the window clipped to the picture, without pixels that hold no data. The window is the
    same everywhere, and all sums are exact, so blocks agree with the whole picture bit for
    bit. Bradley and Roth 2007, Adaptive thresholding using the integral image, J. Graphics
    Tools 12(2).
    """

    method: Literal["bradley"] = "bradley"
    window_px: int = Field(default=63, ge=3, le=2047, description="Side of the window, odd, px.")
    percent: float = Field(
        default=15.0, ge=0.0, lt=100.0, description="Difference from the local mean, per cent."
    )
    dark: bool = Field(default=True, description="Whether BCC is the dark phase.")

    @field_validator("window_px")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"window_px must be odd, so that it has a centre; try {value + 1}")
        return value

    @property
    def halo_px(self) -> int:
        """Half a window and one pixel."""
        return self.window_px // 2 + 1

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Label 1 where a pixel of `grey` (y, x) belongs to the phase."""
        valid = valid_pixels(grey)
        numbers = whole_numbers(grey, valid)
        total = window_sum(numbers, self.window_px)
        count = window_sum(valid.astype(np.uint8), self.window_px)
        scaled = np.multiply(numbers, count, dtype=np.float64)
        if self.dark:
            found = scaled < total * (1.0 - self.percent / 100.0)
        else:
            found = scaled > total * (1.0 + self.percent / 100.0)
        return (found & valid).astype(np.uint8)


class Level(PhaseMethod):
    """Pixels below (or above) one grey level; `otsu_level` finds a level for a mosaic."""

    method: Literal["level"] = "level"
    level: float = Field(default=128.0, description="Grey level between the two phases.")
    dark: bool = Field(default=True, description="Whether BCC is the dark phase.")

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Label 1 where a pixel of `grey` (y, x) belongs to the phase."""
        valid = valid_pixels(grey)
        found = grey < self.level if self.dark else grey > self.level
        return (found & valid).astype(np.uint8)


PHASES: Registry[PhaseMethod] = Registry("phase", PhaseMethod, (Bradley, Level))


def window_sum(numbers: npt.NDArray[Any], window_px: int) -> npt.NDArray[np.float64]:
    """Exact sums (y, x), float64, over a square window clipped to the picture.

    `numbers` holds whole numbers; sums stay exact while they are under 2**53.
    """
    return np.asarray(
        cv2.boxFilter(
            numbers,
            cv2.CV_64F,
            (window_px, window_px),
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
    )


def otsu_level(mosaic: da.Array) -> float:
    """Grey level that parts the valid pixels of a 2-D mosaic best into two classes.

    Reads the whole mosaic once. Otsu 1979, A threshold selection method from gray-level
    histograms, IEEE Trans. SMC 9(1). Raises InputError where fewer than two grey levels occur.
    """
    if mosaic.dtype.kind == "f":
        low, high = (float(v) for v in da.compute(da.nanmin(mosaic), da.nanmax(mosaic)))
        high, bins = float(np.nextafter(high, np.inf)), 1024
    else:
        low, high = 1.0, float(np.iinfo(mosaic.dtype).max) + 1
        bins = int(high - low)
    counts, edges = da.histogram(mosaic, bins=bins, range=(low, high))
    n = np.asarray(counts.compute(), float)
    if np.count_nonzero(n) < 2:
        raise InputError("The mosaic holds fewer than two grey levels; no level parts them.")
    step = edges[1] - edges[0]
    centre = edges[:-1] + (0 if mosaic.dtype.kind != "f" else step / 2)
    below, mass = np.cumsum(n), np.cumsum(n * centre)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mass[-1] * below - mass * below[-1]) ** 2 / (below * (below[-1] - below))
    best = int(np.nanargmax(np.where(np.isfinite(between), between, np.nan)))
    return float(edges[best + 1])
