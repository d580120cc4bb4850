"""Agreement of many noisy votes on the offset between two rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TOLERANCE = 0.015  # of the frame's height: votes this close at one place agree
_SLOPE = 0.001  # px of drift per px along the row that two rows may show
_MIN_WEIGHT = 0.5  # total score of a winning offset
_MARGIN = 1.5  # the winner's total score over that of any other offset
_NEIGHBOURS = 7  # votes that decide on the offset at one place
_STRAY_PX = 6.0  # a vote further than this from its neighbours' line is left out


@dataclass(frozen=True)
class Vote:
    """One peak of one probe: at place `x_px` along the row above, the offset it implies."""

    x_px: float
    dx_px: float
    dy_px: float
    score: float
    passed: bool
    probe: int


@dataclass(frozen=True)
class RowOffset:
    """The offset (dx, dy) px of a row against the one above, as it varies along x.

    A robust straight line through the votes (Theil 1950), and the median of what is left in
    the neighbourhood of the place asked for.
    """

    votes: Sequence[Vote]
    places: Floats = field(init=False)
    line: Floats = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.votes, key=lambda v: (v.x_px, v.probe, v.dx_px))
        table = np.array([(v.x_px, v.dx_px, v.dy_px) for v in ordered])
        line = _theil_line(table)
        left = np.abs(table[:, 1:] - _along(line, table[:, 0])).max(axis=1)
        kept = left <= max(_STRAY_PX, 3 * 1.4826 * float(np.median(left)))
        object.__setattr__(self, "places", table[kept])
        object.__setattr__(self, "line", line)

    def at(self, x_px: float | None) -> Floats:
        """(dx, dy) at a place along the row above; None asks for the middle of the row."""
        table = self.places
        where = float(np.median(table[:, 0])) if x_px is None else x_px
        near = np.argsort(np.abs(table[:, 0] - where), kind="stable")[:_NEIGHBOURS]
        left = table[near, 1:] - _along(self.line, table[near, 0])
        return np.asarray(_along(self.line, np.array([where]))[0] + np.median(left, axis=0))


def _theil_line(table: Floats) -> Floats:
    """Intercepts and slopes (2, 2) of dx and dy over x: medians, immune to a third of strays."""
    first, second = np.triu_indices(len(table), 1)
    run = table[second, 0] - table[first, 0]
    far = run > 0.25 * max(float(np.ptp(table[:, 0])), 1.0)
    slope = np.zeros(2)
    if far.sum() >= 3:
        rise = table[second, 1:] - table[first, 1:]
        slope = np.clip(np.median(rise[far] / run[far, None], axis=0), -_SLOPE, _SLOPE)
    intercept = np.median(table[:, 1:] - table[:, :1] * slope, axis=0)
    return np.stack([intercept, slope])


def _along(line: Floats, x_px: Floats) -> Floats:
    return np.asarray(line[0] + x_px[:, None] * line[1])


def agree(votes: Sequence[Vote], shape: tuple[int, int]) -> RowOffset | None:
    """The offset most probes agree on, None where no offset wins clearly.

    Votes that failed their own null test count a third. Two votes agree within 1.5 % of the
    frame's height plus the drift that rows may show between their places.
    """
    if not votes:
        return None
    table = np.array([(v.x_px, v.dx_px, v.dy_px) for v in votes])
    weight = np.array([max(0.0, v.score) * (1.0 if v.passed else 1 / 3) for v in votes])
    probe = np.array([v.probe for v in votes])
    apart = np.abs(table[:, None, 1:] - table[None, :, 1:]).max(axis=2)
    limit = _TOLERANCE * shape[0] + _SLOPE * np.abs(table[:, None, 0] - table[None, :, 0])
    close = apart <= limit
    total = np.array([_support(weight[row], probe[row]) for row in close])
    best = int(total.argmax())
    # An offset near the winner is carried by the same votes: it is no rival. Nor do votes count
    # for others that agree with the winner: at the far end of a long row they agree with many.
    away = np.flatnonzero(apart[best] > 3 * limit[best])
    against = [
        _support(np.where(close[best], 0.0, weight)[close[k]], probe[close[k]]) for k in away
    ]
    if total[best] < max(_MIN_WEIGHT, _MARGIN * max(against, default=0.0)):
        return None
    members = np.flatnonzero(close[best])
    passed = [k for k in members if votes[int(k)].passed]
    strongest: dict[int, Vote] = {}
    for k in sorted(passed or members, key=lambda k: -weight[k]):
        strongest.setdefault(int(probe[k]), votes[int(k)])
    return RowOffset(list(strongest.values()))


def _support(weight: Floats, probe: npt.NDArray[np.int64]) -> float:
    """Sum over probes of each one's strongest vote: ten peaks of one pair are one witness."""
    return float(sum(weight[probe == p].max() for p in np.unique(probe)))
