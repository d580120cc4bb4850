"""Which recorded pictures are averaged into which frame, and the one pass that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.frames.average import Averaged, LookPlace, average_looks

LEAST_SHARE = 0.25  # of the frame that a further look must show
REACH = 48  # recorded pictures before and after the taken one that are considered: bounds memory
CELLS = 16  # parts per side in which a frame's coverage is counted


@dataclass(frozen=True)
class TakenPlan:
    """A frame taken, by its number among the recorded pictures, and the looks to average."""

    number: int
    looks: tuple[LookPlace, ...]


def choose_looks(
    positions: npt.NDArray[np.float64],
    taken: Sequence[int],
    shape: tuple[int, int],
    *,
    looks: int = 8,
    shear: npt.NDArray[np.float64] | None = None,
    stretch: npt.NDArray[np.int64] | None = None,
) -> list[TakenPlan]:
    """For each number in `taken`, the recorded pictures that lower its noise most.

    `positions` (n, 2): corner (x, y) px of each recorded picture by its number, NaN where it
    must not be used; `shear` (n,) px/px, of positions as in `Layout`; `stretch` (n,) parts of
    the row whose positions belong together (all by default). Picture after picture is added,
    each time the one that lowers the mean of 1 / (number of looks) over the frame most: near
    ones, evenly on both sides, in any direction of motion. Ties go to the one recorded nearest
    in time. At most
    `looks` pictures within `REACH` recorded ones are chosen. Raises InputError for a taken
    frame without a position.
    """
    places = np.asarray(positions, np.float64)
    lean = np.zeros(len(places)) if shear is None else np.asarray(shear, np.float64)
    part = np.zeros(len(places), np.int64) if stretch is None else np.asarray(stretch)
    plans = []
    for number in taken:
        if not np.isfinite(places[number]).all():
            raise InputError(
                f"Recorded picture {number} is taken but has no position, so nothing can be "
                "averaged into it. Give its position, or use frames.average: none."
            )
        near = np.arange(max(0, number - REACH), min(len(places), number + REACH + 1))
        known = np.isfinite(places[near]).all(axis=1) & (part[near] == part[number])
        near = near[known & (near != number)]
        near = near[np.argsort(np.abs(near - number), kind="stable")]
        moves = places[near] - places[number]
        chosen = near[_best_cover(moves, shape, looks)]
        against = np.column_stack([places - places[number], lean - lean[number]])
        # Shown by the frame: the further down, the further its own shear has moved it.
        against[:, 0] -= lean[number] * against[:, 1]
        found = (LookPlace(int(k), *against[k].tolist()) for k in np.sort(chosen))
        plans.append(TakenPlan(int(number), tuple(found)))
    return plans


def _best_cover(moves: npt.NDArray[np.float64], shape: tuple[int, int], count: int) -> list[int]:
    """Rows of `moves` (n, 2) px chosen greedily for the lowest mean noise variance."""
    height, width = shape
    x = (np.arange(CELLS) + 0.5) * width / CELLS
    y = (np.arange(CELLS) + 0.5) * height / CELLS
    in_x = (x >= moves[:, :1]) & (x < moves[:, :1] + width)
    in_y = (y >= moves[:, 1:]) & (y < moves[:, 1:] + height)
    shown = in_y[:, :, None] & in_x[:, None, :]
    share = (1 - np.abs(moves[:, 0]) / width) * (1 - np.abs(moves[:, 1]) / height)
    left = [k for k in range(len(moves)) if share[k] >= LEAST_SHARE and np.abs(moves[k, 0]) < width]
    cover = np.ones((CELLS, CELLS))
    chosen: list[int] = []
    while left and len(chosen) < count:
        gains = [float((shown[k] / (cover * (cover + 1))).sum()) for k in left]
        # The first of equal gains is the nearest in time; rounding must not decide.
        best = left.pop(int(np.argmax(np.round(gains, 9))))
        cover += shown[best]
        chosen.append(best)
    return chosen


def average_pass(
    pictures: Iterable[tuple[int, npt.NDArray[Any] | None]],
    plan: Sequence[TakenPlan],
    sink: Callable[[Averaged], None],
) -> None:
    """Averages every frame of `plan` in one pass over the recorded pictures, in order.

    `pictures` gives (number, image (y, x)) with rising numbers; None is a lost one. A picture
    is kept only while a frame of the plan that is not done needs it. `sink` gets one
    `Averaged` per entry of `plan`, in its order (numbers must rise). A look that never comes,
    or is lost, is named among the rejected. Raises InputError when a taken picture is missing.
    """
    last_need: dict[int, int] = {}
    for order, entry in enumerate(plan):
        for number in (entry.number, *(look.number for look in entry.looks)):
            last_need[number] = max(order, last_need.get(number, -1))
    kept: dict[int, npt.NDArray[Any]] = {}
    done = 0
    for number, image in pictures:
        if image is not None and last_need.get(number, -1) >= done:
            kept[number] = image
        while done < len(plan) and _last_number(plan[done]) <= number:
            sink(_average_one(plan[done], kept))
            done += 1
            kept = {k: v for k, v in kept.items() if last_need[k] >= done}
        if done == len(plan):
            return
    for entry in plan[done:]:
        sink(_average_one(entry, kept))


def _last_number(entry: TakenPlan) -> int:
    return max(entry.number, *(look.number for look in entry.looks), entry.number)


def _average_one(entry: TakenPlan, kept: dict[int, npt.NDArray[Any]]) -> Averaged:
    if entry.number not in kept:
        raise InputError(
            f"Recorded picture {entry.number} was to be taken but is missing in the second "
            "pass. The file changed while it was read, or is damaged: record it again."
        )
    there = [place for place in entry.looks if place.number in kept]
    lost = [place for place in entry.looks if place.number not in kept]
    found = average_looks(kept[entry.number], (kept[place.number] for place in there), places=there)
    return found.with_rejected(entry.number, [(place.number, "lost") for place in lost])
