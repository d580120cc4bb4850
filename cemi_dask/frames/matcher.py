"""`Matcher`: where a picture of a row lies against an anchor picture behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.motion import (
    MIN_SHARE,
    Look,
    look_at,
    measure_motion,
    peak_height,
    peaks_at,
    reduction,
)
from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.selection import Candidate, overlap_of
from cemi_dask.frames.track import Track, leant, track
from cemi_dask.frames.video import Picture

F64 = npt.NDArray[np.float64]

CHANGED = 0.2  # of the speed: more is a stage that starts or stops
NEAR_PX = 5.0  # a match further from the expected place may be a lamella away
REACH_PX = 5.0  # by which even motion may miss a picture
SURE = 0.97  # of the usual score: a lamella away the score is hardly lower than that
ALIKE = 0.95  # of it, at a place where hardly anything but the right one lies
BACK = 0.75  # of the usual score: a match below it is looked for everywhere
EVEN_PX = 1.0  # usual miss of the expected place up to which a match starts there
FAR_PX = 10.0  # a miss of the expected place counts as this at most
MEMORY = 0.2  # weight of the newest score in the usual one
LEANS_PX = tuple(sign * lean for lean in (8, 16, 24, 32, 40, 56, 72, 96, 128) for sign in (1, -1))
BENT_PX, BENT = 0.6, 3.0  # px, or times the usual bend, by which bands may miss one line
MOST_BEND_PX = 5.0
COARSE, COARSE_BEND_PX = 0.5, 4.0  # part of its score, and bend, of a match not refined
UNEVEN = 0.6  # of the median band's score; less is a band that may lie elsewhere
KNOWN_BAND, LOST_BAND = 0.3, 0.5  # usual score of a band that shows something; part of it left
SPREAD_PX = 3.0  # of a shear over a frame's height: more spreads the peak of a correlation
LEAN_APART_PX = 6.0  # shears that differ by less over a frame's height count as one
GAIN = 0.1  # in score, by which a sheared match must be better
FUTILE = 3  # searches for a shear without success after which it is no longer looked for


@dataclass
class Anchor:
    """A placed picture that others are matched with."""

    candidate: Candidate
    look: Look


class Matcher:
    """Matches pictures of one stretch; remembers how fast it moves and how well it matches."""

    def __init__(self, shape: tuple[int, int], options: SelectionOptions) -> None:
        self._shape = shape
        self._options = options
        self._factor = reduction(shape)
        self._velocities: list[tuple[float, float]] = []
        self._futile = 0
        self._shears: list[float] = []
        self.anchor: Anchor | None = None
        self._newest: Anchor | None = None
        self.usual_score = 0.0
        self._usual_bend_px = 0.0
        self._missed_px = 0.0
        self._usual_bands: F64 | None = None

    def has_anchor(self) -> bool:
        """Whether there is a picture to match with."""
        return self.anchor is not None

    def stop(self) -> None:
        """Forget the stretch: what comes is not linked to it."""
        self.anchor = self._newest = None

    @property
    def origin(self) -> Candidate:
        """The picture that the last match counts from."""
        assert self.anchor is not None  # noqa: S101
        return self.anchor.candidate

    def start(self, first: Anchor, like: Track | None = None) -> None:
        """Begin a new stretch at a picture that another one matched `like` this."""
        self.anchor = self._newest = first
        self._shears = [first.candidate.shear]
        self.usual_score = 0.0
        self._usual_bands = None if like is None or not like.bands else np.array(like.bands)
        bend_px = 0.0 if like is None else like.bend_px
        self._usual_bend_px = bend_px if BENT_PX < bend_px < np.inf else 0.0

    def torn(self, found: Track) -> bool:
        """Whether the lines of a picture do not belong together, or some to nothing.

        The stage changed its speed while they were scanned, or they are damaged: their
        places miss a straight line, or a part matches far worse than it did before.
        """
        if not found.bend_px <= max(BENT_PX, BENT * self._usual_bend_px):  # NaN is torn as well
            return True
        if self._usual_bands is None or len(found.bands) != len(self._usual_bands):
            return uneven(found)
        known = self._usual_bands >= KNOWN_BAND
        return bool((known & (np.array(found.bands) < LOST_BAND * self._usual_bands)).any())

    def accept(self, here: Anchor, found: Track, *, renew: bool) -> None:
        """Take note of a placed picture; `renew` makes it the anchor."""
        assert self._newest is not None  # noqa: S101
        before = self._newest.candidate
        elapsed = here.candidate.picture.clock - before.picture.clock
        if elapsed > 0:
            x, y = here.candidate.x_px - before.x_px, here.candidate.y_px - before.y_px
            self._velocities = [*self._velocities[-1:], (x / elapsed, y / elapsed)]
        shear = here.candidate.shear
        if all(abs(shear - known) * self._shape[0] > LEAN_APART_PX for known in self._shears):
            self._shears.append(shear)
        weight = MEMORY if self.usual_score else 1.0
        self.usual_score += weight * (found.score - self.usual_score)
        if self.torn(found):  # taken in all the same: all pictures are distorted like that
            self._usual_bend_px = max(self._usual_bend_px, min(found.bend_px, MOST_BEND_PX))
            self._usual_bands = None if not found.bands else np.array(found.bands)
        self._usual_bend_px += weight * (min(found.bend_px, MOST_BEND_PX) - self._usual_bend_px)
        if found.bands:
            bands = np.array(found.bands)
            last = bands if self._usual_bands is None else self._usual_bands
            self._usual_bands = last + MEMORY * (bands - last)
        self._newest = here
        if renew:
            self.anchor = here

    def match(self, picture: Picture, look: Look, *, thorough: bool = True) -> Track | None:
        """Place against the anchor, or against the newest picture, which then is the anchor.

        Not `thorough`: without the costly searches for a shear and at full size.
        """
        assert self.anchor is not None  # noqa: S101
        found = self._against(self.anchor, picture, look, thorough)
        if found is None and self._newest is not None and self._newest is not self.anchor:
            self.anchor = self._newest
            found = self._against(self.anchor, picture, look, thorough)
        return found

    def _against(
        self, anchor: Anchor, picture: Picture, look: Look, thorough: bool
    ) -> Track | None:
        """Near the expected place first; then everywhere, sheared, and at full size."""
        expected = self._expected(anchor, picture)
        lean = self._newest.candidate.shear - anchor.candidate.shear if self._newest else 0.0
        usual = BACK * self.usual_score
        if expected is not None and usual and self._missed_px < EVEN_PX:
            near = track(anchor.look, look, expected, shear=lean)
            if near is not None and self._sure(near, expected, (anchor.look, look)):
                self._missed_px += MEMORY * (distance(near, expected) - self._missed_px)
                return near
        found = self._anywhere(anchor.look, look, expected, lean)
        if found is not None and expected is not None:
            self._missed_px += MEMORY * (min(distance(found, expected), FAR_PX) - self._missed_px)
        if found is not None and found.score >= usual and not self.torn(found):
            self._futile = 0
            return found
        if not thorough:
            return found
        if self._futile < FUTILE:
            # One picture alone that fits nowhere is mostly torn: no new shear is looked for.
            leaning = self._leaning(anchor, look, expected, new=self._futile > 0 or not usual)
            better = leaning is not None and (found is None or leaning.score > found.score + GAIN)
            self._futile = 0 if better else self._futile + 1
            found = leaning if better else found
        return self._at_full_size(anchor, picture, expected) if found is None else found

    def _sure(self, near: Track, expected: tuple[float, float], looks: tuple[Look, Look]) -> bool:
        """Whether a match near the expected place is not one a lamella away."""
        away = distance(near, expected)
        if self.torn(near) or away > NEAR_PX or near.score < BACK * self.usual_score:
            return False
        if away <= NEAR_PX / 3 and near.score >= ALIKE * self.usual_score:
            return True
        reference, look = looks
        upright = self._upright(look, near.shear)
        return peaks_at(reference, upright, (near.dx_px, near.dy_px))

    def _anywhere(
        self, reference: Look, look: Look, expected: tuple[float, float] | None, lean: float
    ) -> Track | None:
        """Place by phase correlation of the whole pictures, then to hundredths of a pixel.

        Sheared as the newest picture, or not at all, whichever fits.
        """
        best: Track | None = None
        for shear in (lean, 0.0) if self._spreads(lean) else (lean,):
            motion = measure_motion(
                reference,
                self._upright(look, shear),
                min_score=self._options.min_score,
                expected=expected,
            )
            if motion is None:
                continue
            place = motion.dx_px, motion.dy_px
            found = track(reference, look, place, shear=shear)
            if found is None:  # the pictures are distorted against each other
                found = Track(*place, 0.0, COARSE * motion.score, COARSE_BEND_PX)
            if best is None or found.score > best.score:
                best = found
            if best.score >= ALIKE * self.usual_score > 0:
                break
        return best

    def _upright(self, look: Look, shear: float) -> Look:
        """The picture with a shear undone that would spread its correlation."""
        if not self._spreads(shear):
            return look
        return Look(leant(look.small, shear, parts=1), look.factor)

    def _spreads(self, shear: float) -> bool:
        """Whether a shear spreads the peak of a correlation."""
        return abs(shear) * self._shape[0] > SPREAD_PX

    def pair(self, first: Look, second: Look) -> Track | None:
        """Place of one picture against another without knowing anything; None: nothing shared."""
        found = self._anywhere(first, second, None, 0.0)
        if found is not None and found.bend_px <= BENT_PX and not uneven(found):
            return found
        leaning = self._steepest(first, second, None)
        if leaning is None or (found is not None and found.score >= leaning.score):
            return found
        return leaning

    def near(
        self, reference: Look, look: Look, place: tuple[float, float], lean: float
    ) -> Track | None:
        """Place of a picture against any other, where it lies near the place given; or None."""
        found = track(reference, look, place, shear=lean)
        if found is None or not (
            found.score >= SURE * self.usual_score
            or peaks_at(reference, self._upright(look, found.shear), (found.dx_px, found.dy_px))
        ):
            other = self._anywhere(reference, look, place, lean)
            if found is None or (other is not None and other.score > found.score):
                found = other
        if found is None or self.torn(found) or found.score < BACK * self.usual_score:
            return None
        return found if distance(found, place) <= REACH_PX else None

    def _leaning(
        self, anchor: Anchor, look: Look, expected: tuple[float, float] | None, *, new: bool
    ) -> Track | None:
        """The best match of the picture sheared by several amounts.

        A stage that starts or stops shears one picture against the next, which spreads the
        peak of their correlation. Shears that this stretch has shown come first, and then, if
        asked for, `new` ones.
        """
        best: Track | None = None
        enough = BACK * self.usual_score
        for shear in self._shears:
            found = self._leant(anchor.look, look, expected, shear - anchor.candidate.shear)
            if found is not None and not self.torn(found) and found.score >= enough > 0:
                return found
            if found is not None and (best is None or found.score > best.score):
                best = found
        return self._steepest(anchor.look, look, expected) if new else best

    def _steepest(
        self, reference: Look, look: Look, expected: tuple[float, float] | None
    ) -> Track | None:
        """The match of the picture after the shear that gives the highest correlation."""
        leans = [lean_px / self._shape[0] for lean_px in LEANS_PX]
        upright = (Look(leant(look.small, lean, parts=1), look.factor) for lean in leans)
        peaks = [peak_height(reference, other) for other in upright]
        return self._leant(reference, look, expected, leans[int(np.argmax(peaks))])

    def _leant(
        self, reference: Look, look: Look, expected: tuple[float, float] | None, lean: float
    ) -> Track | None:
        """Place of the picture after undoing a shear against the reference."""
        upright = Look(leant(look.small, lean, parts=1), look.factor)
        found = self._anywhere(reference, upright, expected, 0.0)
        return None if found is None else replace(found, shear=found.shear + lean)

    def _at_full_size(
        self, anchor: Anchor, picture: Picture, expected: tuple[float, float] | None
    ) -> Track | None:
        if self._factor == 1:
            return None
        if expected is not None and overlap_of(*expected, self._shape) <= MIN_SHARE:
            return None  # nothing can be shared: the search would be in vain
        assert picture.image is not None  # noqa: S101
        reference = look_at(anchor.candidate.image, factor=1)
        return self._anywhere(reference, look_at(picture.image, factor=1), expected, 0.0)

    def _expected(self, anchor: Anchor, picture: Picture) -> tuple[float, float] | None:
        """Where constant velocity would have the picture, relative to the anchor."""
        if not self._velocities or self._newest is None:
            return None
        origin, last = anchor.candidate, self._newest.candidate
        elapsed = picture.clock - last.picture.clock
        x, y = _velocity(self._velocities)
        return (
            float(last.x_px - origin.x_px + x * elapsed),
            float(last.y_px - origin.y_px + y * elapsed),
        )

    def surprise_px(self, picture: Picture, found: Track) -> float:
        """How far the place found lies from the one expected; infinite without expectation."""
        expected = None if self.anchor is None else self._expected(self.anchor, picture)
        return np.inf if expected is None else distance(found, expected)


def uneven(found: Track) -> bool:
    """Whether a band of lines matches far worse than most: it may belong to another place."""
    return bool(found.bands) and min(found.bands) < UNEVEN * float(np.median(found.bands))


def _velocity(last: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the last two velocities; the last one where the stage changed its speed."""
    (x0, y0), (x1, y1) = last[0], last[-1]
    change, speed = np.hypot(x1 - x0, y1 - y0), max(np.hypot(x0, y0), np.hypot(x1, y1))
    if change > CHANGED * speed:
        return x1, y1
    return (x0 + x1) / 2, (y0 + y1) / 2


def distance(found: Track, expected: tuple[float, float]) -> float:
    """The larger of the differences in x and y, px."""
    return max(abs(found.dx_px - expected[0]), abs(found.dy_px - expected[1]))
