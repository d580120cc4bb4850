"""Islands of frames put where they are expected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cemi_dask.errors import DisconnectedError
from cemi_dask.solve.adjust import Adjustment
from cemi_dask.solve.links import Floats, Ints, Priors
from cemi_dask.solve.options import SolveOptions

_SHEAR_SIGMA = 0.02  # how far stage axes and scale may be off the scan's
_ENOUGH = 10  # frames whose scatter tells how true expected positions are,
_ROOM = 1.5  # and how much more than that is allowed for


@dataclass(frozen=True)
class Expected:
    """Where frames are expected in the frame of reference of the largest island.

    `place` (n, 2) px, NaN where unknown; `own_px` (n): standard deviation of each by itself;
    `common_px` (n): of the error that neighbours share, of the way between both frames of
    reference. `scale`: the part of these that the frames of the largest island show, at most 1.
    """

    place: Floats
    own_px: Floats
    common_px: Floats
    scale: float

    @classmethod
    def of(cls, found: Adjustment, priors: Priors) -> Expected:
        """Expected positions mapped by the translation, shear and scale of the largest island.

        Ridge regression: what the island's extent cannot tell stays the identity.
        """
        n = len(priors.place)
        both = (found.component == 0) & priors.known
        if not both.any():
            alone = found.component.max(initial=0) == 0
            place = priors.place if alone else np.full_like(priors.place, np.nan)
            return cls(place, priors.sigma_px, np.zeros(n), 1.0)
        centre = priors.place[both].mean(axis=0)
        offset = found.place[both] - priors.place[both]
        mean = np.median(offset, axis=0)
        lever = priors.place[both] - centre
        sigma = float(np.median(priors.sigma_px[both]))
        ridge = np.eye(2) * (sigma / _SHEAR_SIGMA) ** 2
        inverse = np.linalg.inv(lever.T @ lever + ridge)
        slope = inverse @ lever.T @ (offset - mean)
        away = priors.place - centre
        left = offset - mean - lever @ slope
        seen = 1.4826 * float(np.median(np.abs(left - np.median(left, axis=0))))
        scale = min(1.0, _ROOM * seen / sigma) if both.sum() >= _ENOUGH else 1.0
        common = sigma * np.sqrt(1 / both.sum() + np.einsum("na,ab,nb->n", away, inverse, away))
        return cls(priors.place + mean + away @ slope, priors.sigma_px, common, scale)

    def move(self, place: Floats, members: Ints) -> tuple[Floats, float] | None:
        """By how much (2) px an island must move to lie where it is expected, and its sigma px.

        None where nothing is expected of any of its `members`.
        """
        known = members[np.isfinite(self.place[members]).all(axis=1)]
        if not len(known):
            return None
        own = float(np.median(self.own_px[known])) / np.sqrt(len(known))
        common = float(np.median(self.common_px[known]))
        return np.median(self.place[known] - place[known], axis=0), float(np.hypot(own, common))


def place_islands(
    found: Adjustment, priors: Priors, frame_shape: tuple[int, int], options: SolveOptions
) -> tuple[Floats, Floats]:
    """Positions and sigma (n, 2) px of all frames in one frame of reference.

    The largest island stays; expected positions, corrected by the shear and scale that the
    largest island shows against its own, place the others. Unused frames without an
    expected position get NaN.

    Raises DisconnectedError when an island of used frames has no expected position and
    `allow_islands` is off.
    """
    place, sigma = found.place.copy(), found.sigma_px.copy()
    main = found.component == 0
    expected = Expected.of(found, priors)
    for number in range(1, int(found.component.max(initial=0)) + 1):
        members = np.flatnonzero(found.component == number)
        move = expected.move(place, members)
        if move is not None:
            place[members] += move[0]
            sigma[members] = np.hypot(sigma[members], move[1])
        elif not priors.used[members].any():
            place[members], sigma[members] = np.nan, np.inf
        elif not options.allow_islands:
            raise _disconnected(found.component, priors)
        else:
            reach = np.abs(priors.shear) * ((frame_shape[0] - 1) / 2)
            before = found.component < number
            right = np.nanmax((place[:, 0] + reach)[before]) + frame_shape[1]
            top = np.nanmin(place[main, 1])
            left = (place[members, 0] - reach[members]).min()
            place[members] += (right - left, top - place[members, 1].min())
            sigma[members] = np.inf
    return place, sigma


def _disconnected(component: Ints, priors: Priors) -> DisconnectedError:
    islands = [
        members
        for k in range(int(component.max()) + 1)
        if priors.used[members := np.flatnonzero(component == k)].any()
    ]
    smaller = "; ".join(str(members[:8].tolist()) for members in islands[1:4])
    more = " and so on" if len(islands) > 4 else ""
    return DisconnectedError(
        f"{sum(len(m) for m in islands)} frames form {len(islands)} islands without a common "
        f"position; the smaller ones hold {smaller}{more}. Give stage positions or rows and "
        f"columns, lower register.min_score, or set solve.allow_islands to lay them side by side.",
        tuple(tuple(members.tolist()) for members in islands),
    )
