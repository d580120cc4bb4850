"""How numbered tiles run over the specimen: one row, rows to and fro, rows one way, columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.grid import Grid
from cemi_dask.frames.images import read_image
from cemi_dask.frames.layout import LEAST_SCORE, edge_score
from cemi_dask.frames.motion import look_at, measure_motion, reduction
from cemi_dask.frames.options import Crop

Direction = Literal["right", "left", "below", "above"]
BACK: dict[Direction, Direction] = {
    "right": "left",
    "left": "right",
    "below": "above",
    "above": "below",
}
STEPS = 240  # pairs of consecutive tiles looked at
LINKS = 8  # pairs looked at between one row and the next
ASIDE = 0.35  # of the frame: a neighbour's displacement across the direction is smaller
STILL = 0.05  # of the frame: what moves less is the same place again
CLEAR = 0.6  # score of edges that need no second opinion
NOT_SEEN = 0.25  # cost of a step that should be a neighbour and shows nothing (a blank tile)
HELD = 0.6  # of the expected neighbours that must be seen
TRIED = 6  # courses, best first, before the order counts as unknown
CONTRARY = 0.1  # of the seen neighbours that may lie elsewhere


@dataclass(frozen=True)
class Course:
    """A way of numbering: lines of `length` tiles along `fast`, one after the other along
    `slow`; `snake`: every second line runs back."""

    length: int
    fast: Direction
    slow: Direction
    snake: bool

    def step(self, number: int) -> Direction | None:
        """Where the tile after `number` (from 0) lies; None: back at the start of a line."""
        line, at = divmod(number, self.length)
        if at == self.length - 1:
            return self.slow if self.snake else None
        return BACK[self.fast] if self.snake and line % 2 else self.fast

    def place(self, number: int) -> tuple[int, int]:
        """(row, column) of a tile, from an origin at the first one."""
        line, at = divmod(number, self.length)
        if self.snake and line % 2:
            at = self.length - 1 - at
        along = at if self.fast in ("right", "below") else -at
        across = line if self.slow in ("right", "below") else -line
        return (across, along) if self.fast in ("right", "left") else (along, across)

    def told(self, count: int) -> str:
        """The course in words."""
        ways = {
            "right": "from left to right",
            "left": "from right to left",
            "below": "downwards",
            "above": "upwards",
        }
        line = "row" if self.fast in ("right", "left") else "column"
        if self.length >= count:
            return f"{count} numbered pictures form one {line} {ways[self.fast]}"
        to_and_fro = ", to and fro" if self.snake else ""
        return (
            f"{count} numbered pictures form {line}s of {self.length} {ways[self.fast]}"
            f"{to_and_fro}, the next {line} {self.slow if line == 'row' else 'to the ' + self.slow}"
        )


def sequence_order(files: Sequence[str], grid: Grid, crop: Crop) -> Grid:
    """The rows and columns of numbered tiles, as the pictures tell.

    `grid` is a sequence, its `cols` the numbers. Consecutive tiles are matched (the first
    240 pairs): to the right, to the left, below or above. The course that explains most of
    that is taken, and where its rows do not hang together at their ends, tiles of one row
    must overlap with those of the next. Else nothing is assumed (kind none), and `how` says so.
    """
    looker = Looker(files, grid.cols, crop)
    seen = {k: looker.direction(k, k + 1) for k in looker.consecutive()}
    for ranked in _courses(seen, max(grid.cols) + 1)[:TRIED]:
        one_line = ranked.length > max(grid.cols)
        course = ranked if ranked.snake or one_line else _linked(looker, ranked)
        if course is not None:
            return _laid_out(grid, course, f"{course.told(len(files))} (as the tiles overlap)")
    return Grid(
        "none",
        (0,) * len(files),
        (-1,) * len(files),
        f"no layout known: how the {len(files)} numbered pictures follow each other cannot be "
        "told from their overlaps (set tiles.columns, or tiles.pattern)",
    )


def _laid_out(grid: Grid, course: Course, how: str) -> Grid:
    places = np.array([course.place(k) for k in grid.cols])
    rows, cols = (places - places.min(axis=0)).T.tolist()
    return Grid("grid", tuple(rows), tuple(cols), how)


class Looker:
    """Looks at pairs of numbered tiles; keeps the last picture, which the next pair needs."""

    def __init__(self, files: Sequence[str], numbers: Sequence[int], crop: Crop) -> None:
        self.files = dict(zip(numbers, files, strict=True))
        self.crop = crop
        self._kept: dict[int, npt.NDArray[Any]] = {}

    def consecutive(self) -> Iterator[int]:
        """Numbers k whose successor k + 1 exists, the first 240."""
        found = (k for k in sorted(self.files) if k + 1 in self.files)
        return (k for k, _ in zip(found, range(STEPS), strict=False))

    def direction(self, first: int, second: int) -> Direction | None:
        """Where tile `second` lies beside tile `first`; None where that cannot be told."""
        a, b = self._picture(first), self._picture(second)
        self._kept = {second: b}
        # Overlaps too narrow for whole frames are found by the edges, wide ones by the whole.
        edges: tuple[tuple[float, Direction], ...] = (
            (edge_score(a, b), "right"),
            (edge_score(b, a), "left"),
            (edge_score(a.T, b.T), "below"),
            (edge_score(b.T, a.T), "above"),
        )
        best = max(edges)
        if best[0] >= CLEAR:
            return best[1]
        factor = reduction((a.shape[0], a.shape[1]))
        motion = measure_motion(
            look_at(a, factor=factor), look_at(b, factor=factor), min_score=LEAST_SCORE
        )
        if motion is not None and motion.score > best[0]:
            return _direction(motion.dx_px / a.shape[1], motion.dy_px / a.shape[0])
        return best[1] if best[0] > 0 else None

    def _picture(self, number: int) -> npt.NDArray[Any]:
        if number in self._kept:
            return self._kept[number]
        picture = read_image(self.files[number])
        return picture[self.crop.kept((picture.shape[0], picture.shape[1]))]


def _direction(dx: float, dy: float) -> Direction | None:
    """The direction of a displacement given in frame sizes."""
    if abs(dx) > STILL and abs(dy) < min(ASIDE, abs(dx)):
        return "right" if dx > 0 else "left"
    if abs(dy) > STILL and abs(dx) < min(ASIDE, abs(dy)):
        return "below" if dy > 0 else "above"
    return None


def _courses(seen: dict[int, Direction | None], count: int) -> list[Course]:
    """Courses that explain what was seen, best first; of equals, full and then longer lines."""
    ranked: list[tuple[float, bool, int, int, Course]] = []
    for fast in BACK:
        slows: tuple[Direction, ...] = (
            ("below", "above") if fast in ("right", "left") else ("right", "left")
        )
        for length in range(2, count + 1):
            for snake in (True, False) if length < count else (False,):
                for slow in slows if snake else slows[:1]:
                    course = Course(length, fast, slow, snake)
                    worth = _worth(course, seen)
                    if worth is not None:
                        ranked.append((-worth, count % length > 0, -length, len(ranked), course))
    return [course for *_, course in sorted(ranked)]


def _worth(course: Course, seen: dict[int, Direction | None]) -> float | None:
    """How well a course explains the directions seen; None where it does not."""
    right = missing = wrong = 0
    for number, found in seen.items():
        expected = course.step(number)
        right += found is not None and found == expected
        missing += found is None and expected is not None
        wrong += found is not None and found != expected
    if not right or right < HELD * (right + missing + wrong) or wrong > CONTRARY * right:
        return None
    return right - NOT_SEEN * missing - wrong


def _linked(looker: Looker, course: Course) -> Course | None:
    """The course with the direction from each line to the next, where pictures show one."""
    pairs = [(k, k + course.length) for k in sorted(looker.files)]
    pairs = [(a, b) for a, b in pairs if b in looker.files]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, LINKS).round().astype(int))
    found = [looker.direction(*pairs[k]) for k in chosen] if pairs else []
    votes = {way: found.count(way) for way in (course.slow, BACK[course.slow])}
    best = max(votes, key=lambda way: votes[way])
    elsewhere = sum(way is not None for way in found) - votes[best]
    if not votes[best] or votes[best] < HELD / 2 * len(found) or elsewhere > votes[best] / 2:
        return None
    return replace(course, slow=best)
