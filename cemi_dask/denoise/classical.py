"""Classical denoisers from OpenCV: `Median` and `NonLocalMeans`."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field, field_validator
from scipy.ndimage import median_filter

from cemi_dask.denoise.method import Denoiser, Frame
from cemi_dask.denoise.noise import estimate_noise


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, so that the window has a centre (given: {value})")
    return value


class Median(Denoiser):
    """Median of a square window: removes single outliers, blurs lamellae below about 5 px."""

    method: Literal["median"] = "median"
    size_px: int = Field(default=3, ge=3, le=31, description="Side of the window; odd.")

    _size_is_odd = field_validator("size_px")(_odd)

    @property
    def halo_px(self) -> int:
        """Half the window."""
        return self.size_px // 2

    def clean(self, frame: Frame) -> Frame:
        """The median-filtered frame, same dtype."""
        if self.size_px <= 5 or frame.dtype == np.uint8:  # what OpenCV offers
            return cv2.medianBlur(frame, self.size_px)
        return median_filter(frame, self.size_px, mode="nearest")


class NonLocalMeans(Denoiser):
    """Average of pixels whose surroundings look alike (Buades et al. 2005, OpenCV's code)."""

    method: Literal["nlm"] = "nlm"
    strength: float | None = Field(
        default=None,
        gt=0,
        description="Filter strength h in grey levels; 0.8 of the noise if not given.",
    )
    patch_px: int = Field(default=7, ge=3, le=15, description="Side of the compared patches; odd.")
    search_px: int = Field(default=21, ge=5, le=61, description="Side of the searched window; odd.")

    _sizes_are_odd = field_validator("patch_px", "search_px")(_odd)

    @property
    def halo_px(self) -> int:
        """Half the searched window and half a patch."""
        return self.search_px // 2 + self.patch_px // 2

    def clean(self, frame: Frame) -> Frame:
        """The filtered picture; float32 frames are worked on in 65536 levels of their range."""
        strength = 0.8 * estimate_noise(frame) if self.strength is None else self.strength
        if strength == 0:
            return frame
        if frame.dtype == np.uint8:
            return cv2.fastNlMeansDenoising(frame, None, strength, self.patch_px, self.search_px)
        if frame.dtype == np.uint16:
            return self._wide(frame, strength)
        low, high = float(frame.min()), float(frame.max())
        scale = 65535.0 / (high - low)
        levels = np.rint((frame.astype(np.float64) - low) * scale).astype(np.uint16)
        return (self._wide(levels, strength * scale) / scale + low).astype(np.float32)

    def _wide(self, frame: Frame, strength: float) -> Frame:
        # 16 bits exist with absolute differences only, whose mean is 0.80 of the root mean
        # square for normal noise: the same strength then filters alike.
        return cv2.fastNlMeansDenoising(
            frame,
            h=[0.8 * strength],
            templateWindowSize=self.patch_px,
            searchWindowSize=self.search_px,
            normType=cv2.NORM_L1,
        )
