"""Phase labels: which pixels are BCC, by thresholds around each pixel or one for all."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from cemi_dask.methods import Registry
from cemi_dask.segment.histogram import (
    Histogram,
    add_histograms,
    count_numbers,
    mixture_levels,
    otsu_levels,
)
from cemi_dask.segment.labels import (
    FLOAT_STEPS,
    Labels,
    PhaseMethod,
    valid_pixels,
    whole_numbers,
)

SMOOTH_STEPS = 16  # of a grey level: means over a window are rounded to it


class Threshold(PhaseMethod):
    """What all thresholds share: which phase is BCC, smoothing before and a vote after.

    Everything is summed as whole numbers, so that blocks agree with the whole picture bit for
    bit. The mean over `smooth_px` is taken before the threshold, the most frequent label
    of `majority_px` after it; 1 leaves both out.
    """

    dark: bool = Field(default=True, description="Whether BCC is the dark phase.")
    smooth_px: int = Field(
        default=1, ge=1, le=63, description="Side of the window averaged before, odd, px."
    )
    majority_px: int = Field(
        default=1, ge=1, le=63, description="Side of the window that votes after, odd, px."
    )

    @field_validator("smooth_px", "majority_px", "window_px", check_fields=False)
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"a window must be odd, so that it has a centre; try {value + 1}")
        return value

    @property
    def reach_px(self) -> int:
        """How far around a pixel its threshold looks."""
        return 0

    @property
    def halo_px(self) -> int:
        """Reach of smoothing, threshold and vote."""
        own = self.reach_px + self.smooth_px // 2 + self.majority_px // 2
        return own + 1 if own else 0

    def decide(self, numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], unit: int) -> Labels:
        """Labels of whole numbers (y, x), of which `unit` make a grey level."""
        raise TypeError(f"{type(self).__name__} is a base class and decides nothing.")

    def prepared(
        self, grey: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], int]:
        """(whole numbers, where valid, numbers to a grey level) of a picture, smoothed."""
        valid = valid_pixels(grey)
        numbers = whole_numbers(grey, valid)
        unit = FLOAT_STEPS if grey.dtype.kind == "f" else 1
        if self.smooth_px > 1:
            fine = SMOOTH_STEPS if grey.dtype == np.uint8 else 1
            total = window_sum(numbers, self.smooth_px) * fine
            count = window_sum(valid.astype(np.uint8), self.smooth_px)
            numbers = np.where(valid, np.rint(total / np.maximum(count, 1)), 0.0)
            unit *= fine
        return numbers, valid, unit

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Label 1 where a pixel of `grey` (y, x) is BCC; 2 and more are further phases."""
        numbers, valid, unit = self.prepared(grey)
        labels = self.decide(numbers, valid, unit) * valid
        if self.majority_px > 1:
            labels = majority_label(labels, valid, self.majority_px)
        return labels.astype(np.uint8)


class Bradley(Threshold):
    """Pixels darker (or brighter) than the mean around them by a percentage.

    A pixel is labelled where ``grey < mean * (1 - percent / 100)``; the mean is taken over
    the window clipped to the picture, without pixels that hold no data. The window is the
    same everywhere. The paper's method. Bradley and Roth 2007, Adaptive thresholding using the
    integral image, J. Graphics Tools 12(2).
    """

    method: Literal["bradley"] = "bradley"
    window_px: int = Field(default=63, ge=3, le=2047, description="Side of the window, odd, px.")
    percent: float = Field(
        default=15.0, ge=0.0, lt=100.0, description="Difference from the local mean, per cent."
    )

    @property
    def reach_px(self) -> int:
        """Half a window."""
        return self.window_px // 2

    def decide(self, numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], unit: int) -> Labels:
        """1 where a pixel differs enough from the mean around it."""
        total = window_sum(numbers, self.window_px)
        count = window_sum(valid.astype(np.uint8), self.window_px)
        scaled = np.multiply(numbers, count, dtype=np.float64)
        if self.dark:
            return (scaled < total * (1.0 - self.percent / 100.0)).astype(np.uint8)
        return (scaled > total * (1.0 + self.percent / 100.0)).astype(np.uint8)


class Sauvola(Threshold):
    """Pixels under a threshold that follows mean and contrast around them.

    The threshold is ``mean (1 + k (s / range - 1))`` with the standard deviation s over the
    window; for a bright phase it is mirrored at the mean. Where little varies it moves away
    from the mean, so that even places stay unlabelled. Sauvola and Pietikainen 2000, Adaptive
    document image binarization, Pattern Recognition 33.
    """

    method: Literal["sauvola"] = "sauvola"
    window_px: int = Field(default=63, ge=3, le=1023, description="Side of the window, odd, px.")
    k: float = Field(default=0.2, ge=0.0, le=1.0, description="Weight of the contrast.")
    range_grey: float = Field(
        default=128.0, gt=0.0, description="Largest standard deviation, grey levels."
    )

    @property
    def reach_px(self) -> int:
        """Half a window."""
        return self.window_px // 2

    def decide(self, numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], unit: int) -> Labels:
        """1 where a pixel is beyond the threshold around it."""
        numbers = numbers.astype(np.float64)
        count = np.maximum(window_sum(valid.astype(np.uint8), self.window_px), 1.0)
        mean = window_sum(numbers, self.window_px) / count
        square = window_sum(numbers * numbers, self.window_px) / count
        spread = np.sqrt(np.maximum(square - mean * mean, 0.0)) / (self.range_grey * unit)
        away = mean * self.k * (spread - 1.0)
        found = numbers < mean + away if self.dark else numbers > mean - away
        return np.asarray(found, np.uint8)


class Level(Threshold):
    """Pixels below (or above) one grey level."""

    method: Literal["level"] = "level"
    level: float = Field(default=128.0, description="Grey level between the two phases.")

    def decide(self, numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], unit: int) -> Labels:
        """1 on BCC's side of the level."""
        found = numbers < self.level * unit if self.dark else numbers > self.level * unit
        return np.asarray(found, np.uint8)


class Levels(Threshold):
    """N phases between N - 1 grey levels.

    Label 1 is the darkest phase (the brightest, where `dark` is false), 2 the next, and the last
    phase 0.
    """

    method: Literal["levels"] = "levels"
    levels: tuple[float, ...] = Field(
        default=(128.0,), min_length=1, max_length=7, description="Ascending grey levels."
    )

    @field_validator("levels")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(b <= a for a, b in pairwise(value)):
            raise ValueError(f"levels must rise from one to the next, not {value}")
        return value

    def decide(self, numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], unit: int) -> Labels:
        """The number of each pixel's phase, counted from BCC's end; 0 for the last."""
        place = np.digitize(numbers, np.array(self.levels) * unit).astype(np.uint8)
        last = len(self.levels)
        phase = place + 1 if self.dark else last + 1 - place
        return np.where(phase > last, 0, phase).astype(np.uint8)


class FromHistogram(Threshold):
    """Base of methods whose levels come from the grey levels of the whole mosaic.

    `cemi_dask.segment.segment` reads the mosaic once to count them, whatever its chunks; called
    on a picture, the method counts that picture's.
    """

    phases: int = Field(default=2, ge=2, le=6, description="Number of phases.")

    def counted(self, grey: npt.NDArray[Any]) -> Histogram:
        """How often each whole number occurs among the valid pixels of a picture (y, x)."""
        numbers, valid, _ = self.prepared(grey)
        return count_numbers(numbers[valid])

    def levels(self, histogram: Histogram) -> tuple[float, ...]:
        """The numbers that part the phases."""
        raise TypeError(f"{type(self).__name__} is a base class and parts nothing.")

    def settled(self, histograms: list[Histogram], dtype: np.dtype[Any]) -> Levels:
        """The method with its levels found: labels of any block of the same mosaic."""
        unit = FLOAT_STEPS if dtype.kind == "f" else 1
        if self.smooth_px > 1 and dtype == np.uint8:
            unit *= SMOOTH_STEPS
        found = self.levels(add_histograms(histograms))
        return Levels(
            levels=tuple(level / unit for level in found),
            dark=self.dark,
            smooth_px=self.smooth_px,
            majority_px=self.majority_px,
        )

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Labels of a whole picture by its own grey levels."""
        return self.settled([self.counted(grey)], grey.dtype)(grey)


class Otsu(FromHistogram):
    """Levels that part the grey levels of the mosaic into classes of least variance.

    Otsu 1979, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9(1); with
    more than two phases Liao, Chen and Chung 2001, J. Information Science and Engineering 17.
    """

    method: Literal["otsu"] = "otsu"

    def levels(self, histogram: Histogram) -> tuple[float, ...]:
        """The numbers at which classes begin."""
        return otsu_levels(histogram, self.phases)


class Mixture(FromHistogram):
    """Levels at which the Gaussians of a mixture fitted to the grey levels are equally likely.

    Expectation and maximisation on the histogram, started from Otsu's classes (Dempster, Laird
    and Rubin 1977). Unlike Otsu's, its levels do not move towards the rarer phase.
    """

    method: Literal["mixture"] = "mixture"

    def levels(self, histogram: Histogram) -> tuple[float, ...]:
        """The numbers at which the likelier Gaussian changes."""
        return mixture_levels(histogram, self.phases)


PHASES: Registry[PhaseMethod] = Registry(
    "phase", PhaseMethod, (Bradley, Level, Levels, Otsu, Mixture, Sauvola)
)


def majority_label(labels: Labels, valid: npt.NDArray[np.bool_], window_px: int) -> Labels:
    """The most frequent label among the valid pixels of a window; ties go to the lower one."""
    best = np.zeros(labels.shape, np.uint8)
    most = window_sum(((labels == 0) & valid).astype(np.uint8), window_px)
    for value in range(1, int(labels.max(initial=0)) + 1):
        votes = window_sum((labels == value).astype(np.uint8), window_px)
        more = votes > most
        best[more] = value
        most = np.maximum(votes, most)
    return best * valid


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
