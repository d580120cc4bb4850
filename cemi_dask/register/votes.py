"""Agreement of many noisy votes on the offset between two rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_TOLERANCE = 0.02  # of the frame's height: votes this close at one place agree
_SLOPE = 0.004  # px of drift per px along the row that two rows may show
_MIN_WEIGHT = 0.5  # total score of a winning place
_MARGIN = 1.5  # the winner's total score over that of any other place


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
    """The offset (dx, dy) px of a row against the one above, as it varies along x."""

    votes: Sequence[Vote]
    places: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.votes, key=lambda v: (v.x_px, v.probe, v.dx_px))
        table = np.array([(v.x_px, v.dx_px, v.dy_px) for v in ordered])
        object.__setattr__(self, "places", table)

    def at(self, x_px: float | None) -> npt.NDArray[np.float64]:
        """(dx, dy) at a place along the row: the median of the five votes nearest to it.

        None asks for the median over the whole row.
        """
        table = self.places
        if x_px is not None and len(table) > 5:
            table = table[np.argsort(np.abs(table[:, 0] - x_px), kind="stable")[:5]]
        return np.asarray(np.median(table[:, 1:], axis=0))


def agree(
    votes: Sequence[Vote], shape: tuple[int, int], min_significance: float
) -> RowOffset | None:
    """The offset most probes agree on, None where no place wins clearly.

    Votes that failed their own null test count a third. Two votes agree within 2 % of the
    frame's height plus the drift that rows may show between their places.
    """
    if not votes:
        return None
    del min_significance
    table = np.array([(v.x_px, v.dx_px, v.dy_px) for v in votes])
    weight = np.array([max(0.0, v.score) * (1.0 if v.passed else 1 / 3) for v in votes])
    probe = np.array([v.probe for v in votes])
    apart = np.abs(table[:, None, 1:] - table[None, :, 1:]).max(axis=2)
    limit = _TOLERANCE * shape[0] + _SLOPE * np.abs(table[:, None, 0] - table[None, :, 0])
    close = apart <= limit
    total = np.array([_support(weight[row], probe[row]) for row in close])
    best = int(total.argmax())
    rest = total[~close[best] & (apart[best] > 3 * limit[best])]
    if total[best] < _MIN_WEIGHT or (len(rest) and total[best] < _MARGIN * rest.max()):
        return None
    members = np.flatnonzero(close[best])
    strongest: dict[tuple[int, int], Vote] = {}
    for k in members[np.argsort(-weight[members], kind="stable")]:
        strongest.setdefault((int(probe[k]), round(float(table[k, 0]))), votes[int(k)])
    kept = [votes[int(k)] for k in members if votes[int(k)].passed]
    return RowOffset(kept or list(strongest.values()))


def _support(weight: npt.NDArray[np.float64], probe: npt.NDArray[np.int64]) -> float:
    """Sum over probes of each one's strongest vote: ten peaks of one pair are one witness."""
    return float(sum(weight[probe == p].max() for p in np.unique(probe)))
