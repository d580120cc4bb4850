"""`Denoiser`: the base of every denoising method, which checks frames in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.geometry import Layout
from cemi_dask.methods import Method, method_name

Frame = npt.NDArray[Any]
FloatFrame = npt.NDArray[np.float32]

# What a denoiser cleans a frame from: that frame alone; the frame and the frames around it, where
# their layout is known; or the frame, after a training on the frames of a run and their layout.
Needs = Literal["frame", "neighbours", "training"]

# Why a denoiser that needs more than a frame is refused without, and what to do.
_REFUSALS: dict[Needs, str] = {
    "neighbours": "takes the frames around a frame, which are known only once they are placed. "
    "Use it in a config for `cemi run`, or give denoise() the layout.",
    "training": "is trained in a run, from its frames' overlaps. Use it in a config for "
    "`cemi run`; elsewhere take 'network' with the weights that such a run leaves in "
    "models/denoiser.safetensors.",
}

# Of the hungriest classical method, with room (measured).
BYTES_PER_PX = 80


class Denoiser(Method):
    """Base of all denoisers: called on one frame (y, x), gives one of the same shape and dtype.

    A subclass defines `clean`, or `clean_among` where it `needs` neighbours; checking, rounding
    and clipping are done here. Frames are uint8, uint16 or float32 grey levels. A constant frame
    comes back unchanged.
    """

    needs: ClassVar[Needs] = "frame"

    @property
    def frames_at_once(self) -> int:
        """How many frames a task should hand to `clean_stack` together."""
        return 1

    def memory_bytes(self, frame_px: int) -> int:
        """Bytes that a worker needs beside its base while it cleans a frame of so many pixels."""
        return BYTES_PER_PX * frame_px

    def located(self, base: Path) -> Self:
        """The same method with relative paths among its fields started at `base`."""
        return self

    def fingerprint(self) -> str | None:
        """What the result depends on besides the method's fields (a file's digest), or None."""
        return None

    def refuse_alone(self) -> None:
        """Raise ConfigError where the method needs more than the frame that it cleans."""
        if self.needs != "frame":
            name = method_name(type(self))
            raise ConfigError(f"The denoiser {name!r} {_REFUSALS[self.needs]}")

    def neighbours(self, index: int, layout: Layout) -> npt.NDArray[np.int64]:
        """Numbers of the frames that frame `index` is cleaned with, ascending, itself not among.

        For methods that need neighbours: the used frames of the same island that overlap it,
        none for a frame that is not used.
        """
        near = layout.frames_in(layout.frame_box(index)) if layout.used[index] else np.arange(0)
        return near[(layout.component[near] == layout.component[index]) & (near != index)]

    def clean(self, frame: Frame) -> Frame:
        """The denoised picture of a checked, not constant `frame`; any real dtype."""
        raise TypeError(f"{type(self).__name__} is no denoiser: it does not define clean().")

    def clean_stack(self, frames: Frame) -> Frame:
        """The denoised pictures of checked, not constant `frames` (n, y, x); any real dtype."""
        return np.stack([self.clean(frame) for frame in frames])

    def clean_among(self, frame: Frame, neighbours: Sequence[Frame], layout: Layout) -> Frame:
        """The denoised picture of a checked, not constant `frame`, for methods that need
        neighbours; `layout` places the frame, then the checked neighbours. Any real dtype."""
        raise TypeError(f"{type(self).__name__} does not define clean_among().")

    def __call__(self, frame: Frame) -> Frame:
        """The denoised frame, same shape and dtype as `frame` (which is never changed).

        Raises InputError for NaN or infinite pixels, another dtype, or other than two axes.
        """
        self.refuse_alone()
        check_frame(frame)
        return self._clean_checked(frame[None])[0]

    def clean_block(self, frames: Frame, first: int = 0) -> Frame:
        """The denoised frames (n, y, x), same shape and dtype; constant ones unchanged.

        Raises InputError as `__call__` does, naming the frame by its place counted from `first`.
        """
        for place, frame in enumerate(frames, first):
            check_frame(frame, place)
        return self._clean_checked(frames)

    def clean_placed(
        self, frames: Sequence[Frame], layout: Layout, numbers: Sequence[int]
    ) -> Frame:
        """The first of `frames` denoised with the others, its `neighbours`; shape and dtype stay.

        `layout` places them, in their order, which `numbers` are their places in the stack.
        Raises InputError as `clean_block` does, also for neighbours.
        """
        for frame, number in zip(frames, numbers, strict=True):
            check_frame(frame, number)
        frame, *others = frames
        if frame.min() == frame.max():
            return frame.copy()
        return as_dtype(self.clean_among(frame, others, layout), frame.dtype)

    def _clean_checked(self, frames: Frame) -> Frame:
        out = frames.copy()
        alive = [place for place, frame in enumerate(frames) if frame.min() != frame.max()]
        if alive:
            out[alive] = as_dtype(self.clean_stack(frames[alive]), frames.dtype)
        return out


def check_frame(frame: Frame, number: int | None = None) -> None:
    """Nothing, or InputError where `frame` is no finite (y, x) picture of a known dtype.

    The error names the frame by its `number`.
    """
    which = "" if number is None else f"Frame {number}: "
    if frame.ndim != 2 or frame.size == 0:
        raise InputError(f"{which}A denoiser takes one frame (y, x), not an array {frame.shape}.")
    if frame.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            f"{which}A denoiser takes uint8, uint16 or float32 grey levels, not {frame.dtype}. "
            "Convert the frames first."
        )
    if frame.dtype == np.float32 and not np.isfinite(frame).all():
        bad = int(frame.size - np.isfinite(frame).sum())
        raise InputError(
            f"{which}The frame holds {bad} NaN or infinite pixels of {frame.size}. "
            "Fill or crop them before denoising."
        )


def as_dtype(picture: Frame, dtype: np.dtype[Any]) -> Frame:
    """`picture` in `dtype`: rounded to nearest and clipped where that is an integer type."""
    if picture.dtype == dtype or not np.issubdtype(dtype, np.integer):
        return picture.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(picture), limits.min, limits.max).astype(dtype)
