"""`RowFollower`: tracks the motion through a row's pictures and takes what is needed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.matcher import BENT_PX, Anchor, Matcher, uneven
from cemi_dask.frames.motion import Look, look_at, reduction
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.selection import Candidate, Selector, overlap_of
from cemi_dask.frames.shear import Sight
from cemi_dask.frames.texture import F32, reduced, refusal, sharpness
from cemi_dask.frames.track import Track
from cemi_dask.frames.video import Picture

ANCHOR_OVERLAP = 0.7  # the reference is renewed when the newest frame shares less with it
MAX_SKIP = 12  # pictures that may pass between two that are matched
GRAIN = 0.31  # of a frame: matched pictures lie no further apart, so that a choice is left,
STEADY = 4  # until so many were at their expected places: then a wanted step apart
SURPRISE_PX, SURPRISE = 3.0, 0.1  # px, or of the step, by which a place may miss the expected
CALM = 2  # pictures at their expected places before any is passed by
DROP, BACK = 0.6, 0.8  # of the usual score: a picture below is suspect if the next is above
BLURRED = 0.75  # of the next picture's sharpness
TRIAL = 3  # pictures at the start of a stretch that are compared before one is believed
ALIKE = 0.8  # of the best score among them
TORN_RUN = 4  # torn pictures in a row: then the whole recording is distorted like that


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
    as "unmatched"), or a new stretch starts, whose distance is later bridged. Pictures whose
    lines do not belong together are refused as "torn", smeared ones as "blurred". `sink` gets
    every frame taken, in order. `sights` keeps a few numbers of every matched picture.
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
        self._trial: list[tuple[Picture, Look]] = []
        self._held: tuple[Picture, Look] | None = None
        self._passed: list[Picture] = []
        self._skip = 0
        self._calm = 0
        self._fastest = 0.0
        self._suspect: tuple[Anchor, Track] | None = None
        self._torn = 0
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
            self._refuse(self._held[0], "unmatched")
        while self._trial:
            self._settle_trial()
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
        self._refuse(picture, reason)
        # One that was passed by before it will do as well.
        while self._passed and not self._look(self._passed.pop()):
            pass
        return False

    def _follow(self, picture: Picture, small: F32) -> None:
        look = look_at(small, factor=self._factor, small=small)
        if not self._matcher.has_anchor():
            self._trial.append((picture, look))
            if len(self._trial) == TRIAL:
                self._settle_trial()
            return
        passed, self._passed = self._passed, []
        found = self._matcher.match(picture, look, thorough=not passed)
        if passed and (found is None or self._far(found) or self._surprising(picture, found)):
            # The motion changed while pictures were passed by: they are needed after all.
            self._calm = self._skip = 0
            passed, again = [], passed
            for earlier in again:
                self._look(earlier)
            if not self._matcher.has_anchor():
                self._trial.append((picture, look))
                return
            found = self._matcher.match(picture, look)
        self._judge(picture, look, found, passed)

    def _judge(
        self, picture: Picture, look: Look, found: Track | None, passed: Sequence[Picture]
    ) -> None:
        """Takes in a picture that lies at `found`, holds it back, or refuses it."""
        if found is None:
            self._lose(picture, look)
            return
        if self._held is not None:
            self._refuse(self._held[0], "unmatched")
            self._held = None
        if self._matcher.torn(found):
            self._torn += 1
            self._calm = self._skip = 0
            distorted = found.score >= DROP * self._matcher.usual_score or not found.bands
            if self._torn <= TORN_RUN or not distorted:
                self._refuse(picture, "torn")
                if self._torn > TORN_RUN:  # the anchor is lost: go on from the next picture
                    self._break()
                return
        self._torn = 0
        surprised = self._surprising(picture, found)
        self._calm = 0 if surprised else self._calm + 1
        here = Anchor(_placed(picture, found, self._matcher.origin), look)
        self._accept(here, found, () if surprised else passed)

    def _far(self, found: Track) -> bool:
        """True where a picture lies so far from the newest one that the choice gets narrow."""
        origin, last = self._matcher.origin, self.stretches[-1].last
        x = origin.x_px + found.dx_px - last.x_px
        y = origin.y_px + found.dy_px - last.y_px
        # A whole step must only keep the least overlap: no choice is left to lose.
        most = (1.0 - self.options.overlap_min) if self._steady() else 1.5 * GRAIN
        return bool(overlap_of(x, y, self.shape) < 1 - most)

    def _surprising(self, picture: Picture, found: Track) -> bool:
        """True where the motion since the newest picture is not the one expected."""
        last, origin = self.stretches[-1].last, self._matcher.origin
        step = min(abs(origin.x_px + found.dx_px - last.x_px), GRAIN * self.shape[1])
        turned = abs(origin.shear + found.shear - last.shear) * self.shape[0]
        slack = max(SURPRISE_PX, SURPRISE * step)
        missed = self._matcher.surprise_px(picture, found)
        return self._matcher.torn(found) or turned > SURPRISE_PX or missed > slack

    def _accept(self, here: Anchor, found: Track, passed: Sequence[Picture] = ()) -> None:
        """Takes in a placed picture, and those `passed` by before it."""
        usual = self._matcher.usual_score
        self._settle_suspect(here.candidate if found.score >= BACK * usual else None)
        before = self.stretches[-1].last
        step = here.candidate.x_px - before.x_px, here.candidate.y_px - before.y_px
        elapsed = here.candidate.picture.clock - before.picture.clock
        if elapsed > 0:
            self._steps.append((step[0] / elapsed, step[1] / elapsed))
        speed = (1.0 - float(overlap_of(*step, self.shape))) / (len(passed) + 1)
        # A stage at rest may go on at any time, and then at its former speed.
        self._fastest = speed = max(speed, self._fastest)
        if found.score < DROP * usual:
            self._suspect, self._skip = (here, found), 0
            return
        for picture in passed if elapsed > 0 else ():
            self._selector.add(_between(before, here.candidate, picture))
        self._keep(here, found)
        calm = self._calm >= CALM and elapsed > 0
        self._skip = self._pictures_to_pass(speed, elapsed / (len(passed) + 1)) if calm else 0

    def _pictures_to_pass(self, speed: float, every: float) -> int:
        """How many pictures need no look, at `speed` (frames per picture), one `every` so often.

        Two matched pictures per wanted step leave a choice; so do more, nearer together.
        Where the motion has long been even no choice is needed.
        """
        step = 1.0 - self.options.target
        wanted, most = (step, 1.1 * step) if self._steady() else (step / 2, GRAIN)
        count = round(wanted / max(speed, 1e-9))
        if count * speed > most:
            count = int(most / speed)
        if self._steady() and count > 1:  # whole steps from the frame taken last
            count -= round(self._selector.waited() / every) % count
        return int(np.clip(count - 1, 0, MAX_SKIP))

    def _steady(self) -> bool:
        """Whether so many pictures lay where they were expected that fewer need a look."""
        return self._calm >= STEADY

    def _keep(self, here: Anchor, found: Track) -> None:
        candidate, origin = here.candidate, self._matcher.origin
        self.stretches[-1].last = candidate
        self._note(candidate)
        self._selector.add(candidate)
        shared = overlap_of(candidate.x_px - origin.x_px, candidate.y_px - origin.y_px, self.shape)
        self._matcher.accept(here, found, renew=bool(shared < ANCHOR_OVERLAP))

    def _note(self, candidate: Candidate) -> None:
        picture, number = candidate.picture, len(self.stretches) - 1
        place = candidate.x_px, candidate.y_px, candidate.shear
        sight = Sight(picture.clock, picture.source_index, *place, number)
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
        if found is None:
            self._refuse(candidate.picture, reason or "unmatched")
            return None
        placed = _placed(candidate.picture, found, near)
        self._note(placed)
        return placed

    def _settle_suspect(self, after: Candidate | None) -> None:
        """Keeps a picture that matched badly where the one `after` it does so too (None).

        Then the specimen has less structure there. Otherwise it is smeared, which shows
        against the next picture of nearly the same place, or its lines do not belong together.
        """
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return
        here, found = suspect
        if after is None:
            self._keep(here, found)
            return
        blurred = sharpness(here.candidate.image) < BLURRED * sharpness(after.image)
        self._refuse(here.candidate.picture, "blurred" if blurred else "torn")

    def _lose(self, picture: Picture, look: Look) -> None:
        """Holds back a picture that does not match; two in a row start a new stretch."""
        if self._held is None:
            self._held = picture, look
            return
        held, self._held = self._held, None
        self._break()
        self._trial = [held, (picture, look)]

    def _break(self) -> None:
        """Ends the stretch: what comes next is not linked to it."""
        self._settle_suspect(None)
        if self.stretches and self._matcher.has_anchor():
            done = self.stretches[-1]
            self._selector.finish(done.last)
            done.last = _bare(done.last)
        self._matcher.stop()
        self._skip = self._calm = self._torn = 0

    def _settle_trial(self) -> None:
        """Starts a stretch with the first picture on trial, if others agree with it.

        The first picture may be torn: all that follow would miss it, and be refused.
        """
        trial, self._trial = self._trial, []
        pairs = [
            (i, self._matcher.pair(trial[i][1], trial[j][1]))
            for i in range(len(trial))
            for j in range(i + 1, len(trial))
        ]
        found = [(i, p) for i, p in pairs if p is not None and np.isfinite(p.bend_px)]
        straight = [(i, p) for i, p in found if p.bend_px <= BENT_PX]
        # Where every pair has a band that matches badly, the specimen shows nothing there;
        # where every pair is bent, the microscope distorts all pictures.
        straight = [(i, p) for i, p in straight if not uneven(p)] or straight or found
        best = max((p.score for _, p in straight), default=0.0)
        first = max((p for i, p in straight if i == 0), key=lambda p: p.score, default=None)
        strange = all(p is None for i, p in pairs if i == 0)
        alone = strange and (best or (len(trial) == 1 and self.stretches))
        if alone or (first.score if first else 0.0) < ALIKE * best:
            self._refuse(trial[0][0], "unmatched" if alone else "torn")
            self._trial = trial[1:]
            return
        self._start_stretch(*trial[0], first)
        for picture, look in trial[1:]:
            if not self._matcher.has_anchor():
                self._trial.append((picture, look))
            else:
                self._judge(picture, look, self._matcher.match(picture, look), ())

    def _start_stretch(self, picture: Picture, look: Look, like: Track | None) -> None:
        here = Candidate(picture, 0.0, 0.0)
        self.stretches.append(Stretch(_bare(here), here))
        self._matcher.start(Anchor(here, look), like)
        self._note(here)
        self._selector.add(here)

    def _refuse(self, picture: Picture, reason: str) -> None:
        self.refused.append((replace(picture, image=None), reason))

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
