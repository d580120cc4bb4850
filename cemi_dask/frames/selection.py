"""The fewest frames that keep every neighbouring overlap in bounds, chosen in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.options import SelectionOptions
from cemi_dask.frames.video import Picture

SPACING = 1 / 12  # of a frame: candidates nearer together than this are not kept apart,
STEP_PARTS = 6  # nor than so many parts of the wanted step, where frames overlap much
HORIZON = 2.2  # of a frame: a choice is made when the candidates reach so far ahead,
HORIZON_STEPS = 3.8  # or so many wanted steps, where these are short
UNMATCHED_COST = 0.03  # of a frame that would have to be matched: a few per cent of overlap
STANDSTILL = 0.02  # of a frame: a row that moves less than this gives one frame


@dataclass(frozen=True)
class Candidate:
    """A picture that might be taken: where it lies (px), how it matched, and its shear.

    `shear` is against the first picture of its stretch. The place of one that is not `matched`
    is interpolated.
    """

    picture: Picture
    x_px: float
    y_px: float
    shear: float = 0.0
    score: float = 0.0
    matched: bool = True

    @property
    def source_index(self) -> int:
        """Number of the recorded frame."""
        return self.picture.source_index

    @property
    def image(self) -> npt.NDArray[Any]:
        """The picture's pixels (y, x)."""
        assert self.picture.image is not None  # noqa: S101
        return self.picture.image


def overlap_of(
    dx_px: npt.ArrayLike, dy_px: npt.ArrayLike, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Shared fraction of two frames along the axis they are displaced most along (0..1)."""
    height, width = shape
    along = np.maximum(np.abs(np.asarray(dx_px)) / width, np.abs(np.asarray(dy_px)) / height)
    return np.asarray(np.clip(1.0 - along, 0.0, 1.0), np.float64)


def spacing(options: SelectionOptions) -> float:
    """Distance, as a fraction of a frame, below which candidates are not kept apart."""
    return min(SPACING, (1.0 - options.target) / STEP_PARTS)


class Selector:
    """Chooses frames of one unbroken stretch of a row; hands each taken one to `take`.

    Between the frame taken last and the newest candidate it keeps at most about
    ``HORIZON / SPACING`` pictures, whatever the length of the video, and takes the next frame of
    the cheapest chain through them (shortest path; a step costs its distance from the
    overlap aimed at, much more outside the bounds).
    """

    def __init__(
        self,
        shape: tuple[int, int],
        options: SelectionOptions,
        take: Callable[[Candidate], None],
        confirm: Callable[[Candidate, Candidate], Candidate | None] | None = None,
    ) -> None:
        self._shape = shape
        self._options = options
        self._take = take
        self._confirm = confirm
        self._spacing = spacing(options)
        self._horizon = min(HORIZON, HORIZON_STEPS * (1.0 - options.target))
        self._window: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Considers a frame; frames that hardly moved since the last candidate are passed by."""
        if not self._window:
            self._window = [candidate]
            self._take(candidate)
            return
        if self._travel([self._window[-1], candidate])[-1] < self._spacing:
            return
        self._window.append(candidate)
        while self._travel(self._window)[-1] > self._horizon:
            self._commit_one()

    def waited(self) -> float:
        """Time from the frame taken last to the newest candidate, by the pictures' clock."""
        first, newest = self._window[0], self._window[-1]
        return newest.picture.clock - first.picture.clock

    def finish(self, last: Candidate) -> None:
        """Ends the stretch with `last`, which is taken unless it shows the same place."""
        if not self._window:
            self.add(last)
        if last.source_index != self._window[-1].source_index:
            self._window.append(last)
        moved = self._travel([self._window[0], self._window[-1]])[-1] > STANDSTILL
        if len(self._window) > 2 or moved:
            chain = self._chain(len(self._window) - 1)
            while not all(self._confirmed(position) for position in chain):
                chain = self._chain(len(self._window) - 1)
            for position in chain[1:]:
                self._take(self._window[position])
        self._window = []

    def _commit_one(self) -> None:
        first = self._next()
        while not self._confirmed(first):
            first = self._next()
        self._take(self._window[first])
        del self._window[:first]

    def _next(self) -> int:
        """Position of the frame that follows the first one on the cheapest way ahead."""
        travel = self._travel(self._window)
        reach = travel[-1] - (1.0 - self._options.overlap_min)
        ends = np.flatnonzero(travel >= reach)
        ends = ends[ends > 0]
        costs, _ = self._costs()
        return self._chain(int(ends[np.argmin(costs[ends])]))[1]

    def _confirmed(self, position: int) -> bool:
        """Whether the candidate is matched, now if need be; one that fails leaves the window."""
        candidate = self._window[position]
        if candidate.matched:
            return True
        assert self._confirm is not None  # noqa: S101 - who gives unmatched ones gives this
        near = min(
            (n for n, other in enumerate(self._window) if other.matched),
            key=lambda n: abs(n - position),
        )
        found = self._confirm(candidate, self._window[near])
        if found is None:
            del self._window[position]
            return False
        self._window[position] = found
        return True

    def _travel(self, window: list[Candidate]) -> npt.NDArray[np.float64]:
        """Path length in frames from the first candidate to each one."""
        x, y = self._places(window)
        steps = 1.0 - overlap_of(np.diff(x), np.diff(y), self._shape)
        return np.concatenate(([0.0], np.cumsum(steps)))

    @staticmethod
    def _places(window: list[Candidate]) -> tuple[npt.NDArray[np.float64], ...]:
        return np.array([c.x_px for c in window]), np.array([c.y_px for c in window])

    def _costs(self) -> tuple[npt.NDArray[np.float64], list[int]]:
        """Cost of the cheapest chain from the first candidate to each, and its last link."""
        x, y = self._places(self._window)
        overlap = overlap_of(x[:, None] - x, y[:, None] - y, self._shape)
        steps = _step_cost(overlap, self._options)
        steps = steps + UNMATCHED_COST * np.array([not c.matched for c in self._window])
        costs = np.zeros(len(x))
        links = [0] * len(x)
        for j in range(1, len(x)):
            through = costs[:j] + steps[:j, j]
            links[j] = int(np.argmin(through))
            costs[j] = through[links[j]]
        return costs, links

    def _chain(self, end: int) -> list[int]:
        """Positions in the window of the cheapest chain from the first candidate to `end`."""
        _, links = self._costs()
        chain = [end]
        while chain[-1]:
            chain.append(links[chain[-1]])
        return chain[::-1]


def _step_cost(
    overlap: npt.NDArray[np.float64], options: SelectionOptions
) -> npt.NDArray[np.float64]:
    span = options.overlap_max - options.overlap_min
    cost = 0.05 + ((overlap - options.target) / span) ** 2
    # Too little overlap loses the link between two frames; too much only costs a frame.
    cost += np.where(overlap < options.overlap_min, 20 + 100 * (options.overlap_min - overlap), 0)
    cost += np.where(overlap > options.overlap_max, 2 + 20 * (overlap - options.overlap_max), 0)
    return np.asarray(cost, np.float64)
