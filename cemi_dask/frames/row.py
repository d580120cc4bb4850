"""`RowFollower`: tracks the motion through a row's pictures and takes what is needed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.matcher import Anchor, Matcher
from cemi_dask.frames.motion import look_at, reduction
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.selection import Candidate, Selector, overlap_of
from cemi_dask.frames.shear import Sight
from cemi_dask.frames.texture import F32, reduced, refusal, sharpness
from cemi_dask.frames.track import Track
from cemi_dask.frames.video import Picture

ANCHOR_OVERLAP = 0.7  # the reference is renewed when the newest frame shares less with it
MAX_SKIP = 12  # pictures that may pass between two that are matched
GRAIN = 0.31  # of a frame: matched pictures lie no further apart, so that a choice is left
SURPRISE_PX, SURPRISE = 3.0, 0.1  # px, or of the step, by which a place may miss the expected
CALM = 2  # pictures at their expected places before any is passed by
DROP, BACK = 0.6, 0.8  # of the usual score: a picture below is suspect if the next is above
BLURRED = 0.75  # of the next picture's sharpness


@dataclass(frozen=True)
class Taken:
    """A frame that was taken: `x_px`, `y_px` count from the start of its unbroken `stretch`."""

    candidate: Candidate
    stretch: int
    sharpness: float


@dataclass
class Stretch:
    """A part of the row whose frames are linked by measured motion."""

    first: Candidate
    last: Candidate


@dataclass
class RowFollower:
    """Follows one row in constant memory: call `see` for each picture, then `finish`.

    Each picture is matched with an anchor behind it. One that does not match is held back
    until the next one decides: either that matches the anchor again (the held one is refused
    as "unmatched"), or a new stretch starts, whose distance is later bridged by the row's mean
    velocity. `sink` gets every frame taken, in order. `sights` keeps a few numbers of every
    matched picture.
    """

    shape: tuple[int, int]
    options: SelectionOptions
    sink: Callable[[npt.NDArray[Any]], None] | None = None
    taken: list[Taken] = field(default_factory=list)
    refused: list[tuple[Picture, str]] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._factor = reduction(self.shape)
        self._selector = Selector(self.shape, self.options, self._take, self._confirm)
        self._matcher = Matcher(self.shape, self.options)
        self._held: tuple[Picture, F32] | None = None
        self._passed: list[Picture] = []
        self._skip = 0
        self._calm = 0
        self._fastest = 0.0
        self._suspect: Anchor | None = None
        self._steps: list[tuple[float, float]] = []  # px per second

    def see(self, picture: Picture) -> None:
        """Takes note of one complete picture (its image cropped and grey, or None)."""
        if picture.image is None:
            self.refused.append((picture, picture.problem))
        elif len(self._passed) < self._skip and self._held is None:
            self._passed.append(picture)
        else:
            self._look(picture)

    def finish(self) -> None:
        """Ends the row: the last good frame is taken, and velocity is known."""
        while self._passed and not self._look(self._passed.pop()):
            pass
        if self._held is not None:
            self._start_stretch(*self._held)
        self._settle_suspect(None)
        if self.stretches:
            self._selector.finish(self.stretches[-1].last)

    def velocity_px_s(self) -> tuple[float, float] | None:
        """Median motion (x, y) in px per second; None where none was measured."""
        if not self._steps:
            return None
        x, y = np.median(np.asarray(self._steps), axis=0)
        return float(x), float(y)

    def _look(self, picture: Picture) -> bool:
        """Looks at a picture closely; False where it shows nothing."""
        assert picture.image is not None  # noqa: S101
        small = reduced(picture.image, self._factor)
        reason = refusal(picture.image, small, self.options)
        if not reason:
            self._follow(picture, small)
            return True
        self.refused.append((replace(picture, image=None), reason))
        # One that was passed by before it will do as well.
        while self._passed and not self._look(self._passed.pop()):
            pass
        return False

    def _follow(self, picture: Picture, small: F32) -> None:
        if self._matcher.anchor is None:
            self._start_stretch(picture, small)
            return
        look = look_at(small, factor=self._factor, small=small)
        passed, self._passed = self._passed, []
        found = self._matcher.match(picture, look, thorough=not passed)
        if passed and (found is None or self._far(found) or self._surprising(picture, found)):
            # The motion changed while pictures were passed by: they are needed after all.
            self._calm = self._skip = 0
            passed, again = [], passed
            for earlier in again:
                self._look(earlier)
            found = self._matcher.match(picture, look) if self._held is None else None
        if found is None:
            self._lose(picture, small)
            return
        if self._held is not None:
            self.refused.append((replace(self._held[0], image=None), "unmatched"))
            self._held = None
        surprised = self._surprising(picture, found)
        self._calm = 0 if surprised else self._calm + 1
        if surprised:
            passed = []
        self._accept(Anchor(_placed(picture, found, self._matcher.origin), look), passed)

    def _far(self, found: Track) -> bool:
        """True where a picture lies so far from the newest one that the choice gets narrow."""
        origin, last = self._matcher.origin, self.stretches[-1].last
        x = origin.x_px + found.dx_px - last.x_px
        y = origin.y_px + found.dy_px - last.y_px
        return bool(overlap_of(x, y, self.shape) < 1 - 1.5 * GRAIN)

    def _surprising(self, picture: Picture, found: Track) -> bool:
        """True where the motion since the newest picture is not the one expected."""
        last, origin = self.stretches[-1].last, self._matcher.origin
        step = abs(origin.x_px + found.dx_px - last.x_px)
        turned = abs(origin.shear + found.shear - last.shear) * self.shape[0]
        slack = max(SURPRISE_PX, SURPRISE * step)
        return (
            found.bent or turned > SURPRISE_PX or self._matcher.surprise_px(picture, found) > slack
        )

    def _accept(self, here: Anchor, passed: Sequence[Picture] = ()) -> None:
        """Takes in a placed picture, and those `passed` by before it."""
        usual, score = self._matcher.usual_score, here.candidate.score
        self._settle_suspect(here.candidate if score >= BACK * usual else None)
        before = self.stretches[-1].last
        step = here.candidate.x_px - before.x_px, here.candidate.y_px - before.y_px
        elapsed = here.candidate.picture.clock - before.picture.clock
        if elapsed > 0:
            self._steps.append((step[0] / elapsed, step[1] / elapsed))
        speed = (1.0 - float(overlap_of(*step, self.shape))) / (len(passed) + 1)
        # A stage at rest may go on at any time, and then at its former speed.
        self._fastest = speed = max(speed, self._fastest)
        if score < DROP * usual:
            self._suspect, self._skip = here, 0
            return
        self._skip = self._pictures_to_pass(speed) if self._calm >= CALM else 0
        for picture in passed if elapsed > 0 else ():
            self._selector.add(_between(before, here.candidate, picture))
        self._keep(here)

    def _pictures_to_pass(self, speed: float) -> int:
        """How many pictures need no look, at `speed` (frames per picture).

        Two matched pictures per wanted step leave a choice; so do more, nearer together.
        """
        wanted = (1.0 - self.options.target) / 2
        count = round(wanted / max(speed, 1e-9))
        if count * speed > GRAIN:
            count = int(GRAIN / speed)
        return int(np.clip(count - 1, 0, MAX_SKIP))

    def _keep(self, here: Anchor) -> None:
        candidate = here.candidate
        origin = self._matcher.origin
        self.stretches[-1].last = candidate
        self._note(candidate)
        self._selector.add(candidate)
        shared = overlap_of(candidate.x_px - origin.x_px, candidate.y_px - origin.y_px, self.shape)
        self._matcher.accept(here, score=candidate.score, renew=bool(shared < ANCHOR_OVERLAP))

    def _note(self, candidate: Candidate) -> None:
        picture, number = candidate.picture, len(self.stretches) - 1
        place = candidate.x_px, candidate.y_px, candidate.shear
        sight = Sight(picture.clock, picture.source_index, *place, number, candidate.bent)
        insort(self.sights, sight, key=lambda other: (other.stretch, other.clock))

    def _confirm(self, candidate: Candidate, near: Candidate) -> Candidate | None:
        """A picture that was passed by, matched with one nearby; None where it shows nothing."""
        small = reduced(candidate.image, self._factor)
        reason = refusal(candidate.image, small, self.options)
        reference = look_at(near.image, factor=self._factor)
        found = None
        if not reason:
            place = candidate.x_px - near.x_px, candidate.y_px - near.y_px
            look = look_at(small, factor=self._factor, small=small)
            lean = candidate.shear - near.shear
            found = self._matcher.near(reference, look, place, lean)
        if reason:
            self.refused.append((replace(candidate.picture, image=None), reason))
            return None
        if found is None:
            placed = replace(candidate, matched=True)  # its neighbours place it well enough
        else:
            placed = _placed(candidate.picture, found, near)
        self._note(placed)
        return placed

    def _settle_suspect(self, after: Candidate | None) -> None:
        """Keeps a picture that matched badly, unless the one after it is sharper.

        Both show nearly the same place, so that a smeared one shows against the next; where
        both match badly the specimen has less structure there.
        """
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return
        if after is not None:
            if sharpness(suspect.candidate.image) < BLURRED * sharpness(after.image):
                picture = replace(suspect.candidate.picture, image=None)
                self.refused.append((picture, "blurred"))
                return
            # Sharp, but unlike its neighbours: the stage moved while it was scanned.
            suspect = Anchor(replace(suspect.candidate, bent=True), suspect.look)
        self._keep(suspect)

    def _lose(self, picture: Picture, small: F32) -> None:
        """Holds back a picture that does not match; two in a row start a new stretch."""
        if self._held is not None:
            held, self._held = self._held, None
            self._start_stretch(*held)
            look = look_at(small, factor=self._factor, small=small)
            found = self._matcher.match(picture, look)
            if found is not None:
                self._accept(Anchor(_placed(picture, found, self._matcher.origin), look))
                return
        self._held = picture, small

    def _start_stretch(self, picture: Picture, small: F32) -> None:
        self._settle_suspect(None)
        if self.stretches:
            done = self.stretches[-1]
            self._selector.finish(done.last)
            done.last = _bare(done.last)
        here = Candidate(picture, 0.0, 0.0)
        self.stretches.append(Stretch(_bare(here), here))
        self._matcher.start(Anchor(here, look_at(small, factor=self._factor, small=small)))
        self._skip = 0
        self._note(here)
        self._selector.add(here)

    def _take(self, candidate: Candidate) -> None:
        if self.sink is not None:
            self.sink(np.ascontiguousarray(candidate.image))
        stretch = len(self.stretches) - 1
        self.taken.append(Taken(_bare(candidate), stretch, sharpness(candidate.image)))


def _placed(picture: Picture, found: Track, origin: Candidate) -> Candidate:
    """A picture at the place `found` against `origin`."""
    return Candidate(
        picture,
        # Where the other is sheared, its middle line is not the one the picture meets.
        origin.x_px + found.dx_px + origin.shear * found.dy_px,
        origin.y_px + found.dy_px,
        shear=origin.shear + found.shear,
        score=found.score,
        bent=found.bent,
    )


def _between(before: Candidate, after: Candidate, picture: Picture) -> Candidate:
    """A picture at the place that even motion gives it between two others."""
    span = after.picture.clock - before.picture.clock
    part = (picture.clock - before.picture.clock) / span
    x, y, shear = (
        a + part * (b - a)
        for a, b in (
            (before.x_px, after.x_px),
            (before.y_px, after.y_px),
            (before.shear, after.shear),
        )
    )
    return Candidate(picture, x, y, shear=shear, matched=False)


def _bare(candidate: Candidate) -> Candidate:
    """The same candidate without its picture, so that memory does not grow with the row."""
    return replace(candidate, picture=replace(candidate.picture, image=None))


def bridge(follower: RowFollower) -> tuple[list[tuple[float, float]], list[str]]:
    """Origin (x, y) in px of every stretch in the row, and a warning for every gap.

    The first stretch starts at (0, 0). Gaps are bridged by the row's median velocity, or,
    where no motion could be measured at all, by the step that gives the overlap aimed at.
    """
    velocity = follower.velocity_px_s()
    step_px = (1 - follower.options.target) * follower.shape[1]
    origins = [(0.0, 0.0)]
    warnings = []
    for before, after in zip(follower.stretches, follower.stretches[1:], strict=False):
        last, first = before.last, after.first
        elapsed = first.picture.clock - last.picture.clock
        x, y = step_px, 0.0
        if velocity is not None:
            x, y = velocity[0] * elapsed, velocity[1] * elapsed
        origins.append((origins[-1][0] + last.x_px + x, origins[-1][1] + last.y_px + y))
        basis = (
            "no motion could be measured, so the step is a guess"
            if velocity is None
            else f"placed by the mean velocity ({velocity[0]:.1f} px/s along the row)"
        )
        warnings.append(
            f"recorded frames {last.source_index} and {first.source_index} share nothing "
            f"measurable; {basis}"
        )
    return origins, warnings
