"""Islands of frames put where they are expected."""

from __future__ import annotations

import numpy as np

from cemi_dask.errors import DisconnectedError
from cemi_dask.solve.adjust import Adjustment
from cemi_dask.solve.links import Floats, Ints, Priors
from cemi_dask.solve.options import SolveOptions

_SHEAR_SIGMA = 0.02  # how far stage axes and scale may be off the scan's


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
    expected = _corrected(place, priors, main)
    if not (main & priors.known).any() and found.component.max(initial=0) > 0:
        expected = np.full_like(expected, np.nan)
    for number in range(1, int(found.component.max(initial=0)) + 1):
        members = np.flatnonzero(found.component == number)
        known = members[np.isfinite(expected[members]).all(axis=1)]
        if len(known):
            move = np.median(expected[known] - place[known], axis=0)
            place[members] += move
            share = float(np.median(priors.sigma_px[known])) / np.sqrt(len(known))
            sigma[members] = np.hypot(sigma[members], share)
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


def _corrected(place: Floats, priors: Priors, main: np.typing.NDArray[np.bool_]) -> Floats:
    """Expected positions mapped by the translation, shear and scale of the main island.

    Ridge regression: what the island's extent cannot tell stays the identity.
    """
    both = main & priors.known
    if not both.any():
        return priors.place
    centre = priors.place[both].mean(axis=0)
    offset = place[both] - priors.place[both]
    mean = np.median(offset, axis=0)
    lever = priors.place[both] - centre
    sigma = float(np.median(priors.sigma_px[both]))
    ridge = np.eye(2) * (sigma / _SHEAR_SIGMA) ** 2
    slope = np.linalg.solve(lever.T @ lever + ridge, lever.T @ (offset - mean))
    return np.asarray(priors.place + mean + (priors.place - centre) @ slope)


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
