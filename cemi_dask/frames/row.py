"""`RowFollower`: tracks the motion through a row's recorded frames and takes what is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.motion import (
    MIN_SHARE,
    Look,
    Motion,
    look_at,
    measure_motion,
    reduction,
)
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.selection import Candidate, Selector, overlap_of, spacing
from cemi_dask.frames.texture import reduced, refusal, sharpness
from cemi_dask.frames.video import Picture

ANCHOR_OVERLAP = 0.6  # the reference is renewed when the newest frame shares less with it
MAX_SKIP = 8  # recorded frames that may pass between two that are matched


@dataclass(frozen=True)
class Taken:
    """A frame that was taken: `x_px`, `y_px` count from the start of its unbroken `stretch`."""

    candidate: Candidate
    stretch: int
    sharpness: float


@dataclass
class Anchor:
    """The frame that new ones are matched with."""

    candidate: Candidate
    look: Look


@dataclass
class Stretch:
    """A part of the row whose frames are linked by measured motion."""

    first: Candidate
    last: Candidate


@dataclass
class RowFollower:
    """Follows one row in constant memory: call `see` for each frame, then `finish`.

    Each frame is matched with an anchor frame behind it. A frame that does not match is held
    back until the next one decides: either that matches the anchor again (the held frame is
    refused as "unmatched"), or a new stretch starts, whose distance is later bridged by the
    row's mean velocity. `sink` gets the picture of every frame taken, in order.
    """

    shape: tuple[int, int]
    options: SelectionOptions
    sink: Callable[[npt.NDArray[Any]], None] | None = None
    taken: list[Taken] = field(default_factory=list)
    refused: list[tuple[Picture, str]] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._factor = reduction(self.shape)
        self._selector = Selector(self.shape, self.options, self._take)
        self._spacing = spacing(self.options)
        self._anchor: Anchor | None = None
        self._newest: Anchor | None = None
        self._held: tuple[Picture, Look] | None = None
        self._passed: list[tuple[Picture, npt.NDArray[np.float32]]] = []
        self._skip = 0
        self._velocities: list[tuple[float, float]] = []

    def see(self, picture: Picture) -> None:
        """Takes note of one recorded frame (its image cropped and grey, or None)."""
        if picture.image is None:
            self.refused.append((picture, picture.problem))
            return
        small = reduced(picture.image, self._factor)
        reason = refusal(picture.image, small, self.options)
        if reason:
            self.refused.append((replace(picture, image=None), reason))
        elif len(self._passed) < self._skip and self._held is None:
            self._passed.append((picture, small))
        else:
            self._follow(picture, small)

    def finish(self) -> None:
        """Ends the row: the last good frame is taken, and velocity is known."""
        if self._passed:
            self._follow(*self._passed.pop())
        if self._held is not None:
            self._start_stretch(*self._held)
        if self.stretches:
            self._selector.finish(self.stretches[-1].last)

    def velocity_px(self) -> tuple[float, float] | None:
        """Median motion (x, y) in px per recorded frame; None where none was measured."""
        if not self._velocities:
            return None
        x, y = np.median(np.asarray(self._velocities), axis=0)
        return float(x), float(y)

    def _follow(self, picture: Picture, small: npt.NDArray[np.float32]) -> None:
        assert picture.image is not None  # noqa: S101
        look = look_at(picture.image, factor=self._factor, small=small)
        if self._anchor is None:
            self._start_stretch(picture, look)
            return
        passed, self._passed = self._passed, []
        motion = self._match(picture, look)
        if passed and (motion is None or self._far(motion)):
            # The motion grew while frames were passed by: they are needed after all.
            for earlier in passed:
                self._follow(*earlier)
            motion = self._match(picture, look) if self._held is None else None
        if motion is None:
            self._lose(picture, look)
            return
        if self._held is not None:
            self.refused.append((replace(self._held[0], image=None), "unmatched"))
            self._held = None
        self._accept(picture, look, motion)

    def _far(self, motion: Motion) -> bool:
        """True where a frame lies more than two candidates' spacings from the newest one."""
        assert self._anchor is not None  # noqa: S101
        origin, last = self._anchor.candidate, self.stretches[-1].last
        x, y = origin.x_px + motion.dx_px - last.x_px, origin.y_px + motion.dy_px - last.y_px
        return bool(overlap_of(x, y, self.shape) < 1 - 2 * self._spacing)

    def _match(self, picture: Picture, look: Look) -> Motion | None:
        """Displacement from the anchor, or from the newest frame, which then is the anchor."""
        assert self._anchor is not None  # noqa: S101
        found = self._match_anchor(picture, look)
        if found is None and self._newest is not None and self._newest is not self._anchor:
            self._anchor = self._newest
            found = self._match_anchor(picture, look)
        return found

    def _match_anchor(self, picture: Picture, look: Look) -> Motion | None:
        """Displacement from the anchor, at reduced and, where that is weak, at full size."""
        assert self._anchor is not None  # noqa: S101
        assert picture.image is not None  # noqa: S101
        expected = self._expected(picture)
        found = measure_motion(
            self._anchor.look, look, min_score=self.options.min_score, expected=expected
        )
        if found is not None or self._factor == 1:
            return found
        if expected is not None and overlap_of(*expected, self.shape) <= MIN_SHARE:
            return None  # nothing can be shared: the full-size search would be in vain
        return measure_motion(
            look_at(self._anchor.candidate.image, factor=1),
            look_at(picture.image, factor=1),
            min_score=self.options.min_score,
            expected=expected,
        )

    def _expected(self, picture: Picture) -> tuple[float, float] | None:
        """Where constant velocity would have the frame, relative to the anchor."""
        if not self._velocities or self._anchor is None:
            return None
        origin, last = self._anchor.candidate, self.stretches[-1].last
        frames = picture.source_index - last.source_index
        x, y = np.median(np.asarray(self._velocities[-5:]), axis=0)
        return last.x_px - origin.x_px + x * frames, last.y_px - origin.y_px + y * frames

    def _accept(self, picture: Picture, look: Look, motion: Motion) -> None:
        assert self._anchor is not None  # noqa: S101
        origin = self._anchor.candidate
        here = _candidate(picture, origin.x_px + motion.dx_px, origin.y_px + motion.dy_px)
        stretch = self.stretches[-1]
        before = stretch.last
        frames = max(1, here.source_index - before.source_index)
        step = (here.x_px - before.x_px) / frames, (here.y_px - before.y_px) / frames
        self._velocities.append(step)
        speed = 1.0 - float(overlap_of(*step, self.shape))
        self._skip = min(MAX_SKIP, int(0.9 * self._spacing / max(speed, 1e-9)) - 1)
        self._skip = max(0, self._skip)
        stretch.last = here
        self._selector.add(here)
        self._newest = Anchor(here, look)
        if overlap_of(motion.dx_px, motion.dy_px, self.shape) < ANCHOR_OVERLAP:
            self._anchor = self._newest

    def _lose(self, picture: Picture, look: Look) -> None:
        """Holds back a frame that does not match; two in a row start a new stretch."""
        if self._held is not None:
            held, self._held = self._held, None
            self._start_stretch(*held)
            motion = self._match(picture, look)
            if motion is not None:
                self._accept(picture, look, motion)
                return
        self._held = picture, look

    def _start_stretch(self, picture: Picture, look: Look) -> None:
        if self.stretches:
            done = self.stretches[-1]
            self._selector.finish(done.last)
            done.last = _bare(done.last)
        here = _candidate(picture, 0.0, 0.0)
        self.stretches.append(Stretch(_bare(here), here))
        self._anchor = self._newest = Anchor(here, look)
        self._skip = 0
        self._selector.add(here)

    def _take(self, candidate: Candidate) -> None:
        if self.sink is not None:
            self.sink(np.ascontiguousarray(candidate.image))
        stretch = len(self.stretches) - 1
        self.taken.append(Taken(_bare(candidate), stretch, sharpness(candidate.image)))


def _candidate(picture: Picture, x_px: float, y_px: float) -> Candidate:
    assert picture.image is not None  # noqa: S101
    return Candidate(picture.source_index, picture.pts, picture.time_s, picture.image, x_px, y_px)


def _bare(candidate: Candidate) -> Candidate:
    """The same candidate without its picture, so that memory does not grow with the row."""
    return replace(candidate, image=np.empty((0, 0), candidate.image.dtype))


def bridge(follower: RowFollower) -> tuple[list[tuple[float, float]], list[str]]:
    """Origin (x, y) in px of every stretch in the row, and a warning for every gap.

    The first stretch starts at (0, 0). Gaps are bridged by the row's median velocity, or,
    where no motion could be measured at all, by the step that gives the overlap aimed at.
    """
    velocity = follower.velocity_px()
    step_px = (1 - follower.options.target) * follower.shape[1]
    origins = [(0.0, 0.0)]
    warnings = []
    for before, after in zip(follower.stretches, follower.stretches[1:], strict=False):
        last, first = before.last, after.first
        frames = first.source_index - last.source_index
        x, y = (step_px, 0.0) if velocity is None else (velocity[0] * frames, velocity[1] * frames)
        origins.append((origins[-1][0] + last.x_px + x, origins[-1][1] + last.y_px + y))
        basis = (
            "no motion could be measured, so the step is a guess"
            if velocity is None
            else f"placed by the mean velocity ({velocity[0]:.1f} px per recorded frame)"
        )
        warnings.append(
            f"recorded frames {last.source_index} and {first.source_index} share nothing "
            f"measurable; {basis}"
        )
    return origins, warnings
