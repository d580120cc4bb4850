"""`Denoiser`: the base of every denoising method, which checks frames in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.methods import Method

Frame = npt.NDArray[Any]
FloatFrame = npt.NDArray[np.float32]


class Denoiser(Method):
    """Base of all denoisers: called on one frame (y, x), gives one of the same shape and dtype.

    A subclass defines `clean`; checking, rounding and clipping are done here. Frames are
    uint8, uint16 or float32 grey levels. A constant frame comes back unchanged.
    """

    def clean(self, frame: Frame) -> Frame:
        """The denoised picture of a checked, not constant `frame`; any real dtype."""
        raise TypeError(f"{type(self).__name__} is no denoiser: it does not define clean().")

    def __call__(self, frame: Frame) -> Frame:
        """The denoised frame, same shape and dtype as `frame` (which is never changed).

        Raises InputError for NaN or infinite pixels, another dtype, or other than two axes.
        """
        check_frame(frame)
        if frame.min() == frame.max():
            return frame.copy()
        return as_dtype(self.clean(frame), frame.dtype)


def check_frame(frame: Frame) -> None:
    """Nothing, or InputError where `frame` is no finite (y, x) picture of a known dtype."""
    if frame.ndim != 2 or frame.size == 0:
        raise InputError(f"A denoiser takes one frame (y, x), not an array {frame.shape}.")
    if frame.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            f"A denoiser takes uint8, uint16 or float32 grey levels, not {frame.dtype}. "
            "Convert the frames first."
        )
    if frame.dtype == np.float32 and not np.isfinite(frame).all():
        bad = int(frame.size - np.isfinite(frame).sum())
        raise InputError(
            f"The frame holds {bad} NaN or infinite pixels of {frame.size}. "
            "Fill or crop them before denoising."
        )


def as_dtype(picture: Frame, dtype: np.dtype[Any]) -> Frame:
    """`picture` in `dtype`: rounded to nearest and clipped where that is an integer type."""
    if picture.dtype == dtype or not np.issubdtype(dtype, np.integer):
        return picture.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(picture), limits.min, limits.max).astype(dtype)
