"""The second pass over a row's video: other recorded pictures averaged onto the frames taken."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.align import SEARCH_PX
from cemi_dask.frames.average import Averaged, LookPlace
from cemi_dask.frames.looks import TakenPlan, average_pass, choose_looks
from cemi_dask.frames.row import RowFollower
from cemi_dask.frames.shear import Sight
from cemi_dask.frames.texture import sharpness
from cemi_dask.frames.video import Picture, VideoIndex

# (number, time stamp, key frame's time stamp, first line) of the recorded frames that a complete
# picture is put together from, topmost first.
Address = tuple[tuple[int, int | None, int | None, int], ...]
Place = tuple[float, float, float]  # x px, y px, shear

FAR = 0.7  # of a frame: pictures between two sights further apart are not placed
DIGITS, SHEAR_DIGITS = 3, 6  # of places: `align` finds the rest


def address_of(picture: Picture, index: VideoIndex) -> Address:
    """Where a complete picture's lines are found again."""
    upper = picture.upper
    own = picture.source_index, picture.pts, _key_pts(index, picture.pts)
    if upper is None:
        return ((*own, 0),)
    above = upper.source_index, upper.pts, _key_pts(index, upper.pts)
    return (*above, 0), (*own, upper.seam)


def _key_pts(index: VideoIndex, pts: int | None) -> int | None:
    return None if pts is None else index.key_before(pts)


@dataclass
class SeenPictures:
    """The complete pictures of the first pass, by their rank: when, and from which lines.

    Pictures without an image have a rank too, so that a second pass counts alike.
    """

    index: VideoIndex
    clocks: list[float] = field(default_factory=list)
    addresses: list[Address] = field(default_factory=list)
    source_indices: list[int] = field(default_factory=list)

    def add(self, picture: Picture) -> None:
        """Takes note of the next complete picture."""
        self.clocks.append(picture.clock if picture.image is not None else float("nan"))
        self.addresses.append(address_of(picture, self.index))
        self.source_indices.append(picture.source_index)

    def plan(self, follower: RowFollower, *, looks: int) -> list[TakenPlan]:
        """Which pictures are averaged into the frames that the first pass took, by their ranks.

        Places are those of the matched pictures, and by even motion of those between them.
        Refused pictures are no looks.
        """
        ranks = {number: rank for rank, number in enumerate(self.source_indices)}
        places, stretch = self._places(follower, ranks)
        taken = sorted(ranks[t.candidate.source_index] for t in follower.taken)
        chosen = choose_looks(
            places[:, :2],
            taken,
            follower.shape,
            looks=looks,
            shear=places[:, 2],
            stretch=stretch,
        )
        found = {entry.number: entry for entry in chosen}
        return [_rounded(found.get(rank, TakenPlan(rank, ()))) for rank in taken]

    def _places(
        self, follower: RowFollower, ranks: dict[int, int]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """((n, 3) x, y, shear, NaN where no look; (n,) stretch) of the pictures by rank."""
        places = np.full((len(ranks), 3), np.nan)
        stretch = np.full(len(ranks), -1, np.int64)
        for number, sights in _by_stretch(follower.sights):
            clocks = [sight.clock for sight in sights]
            for rank, clock in enumerate(self.clocks):
                at = bisect_right(clocks, clock) - 1
                found = None
                if 0 <= at < len(sights) - 1:
                    found = _between(sights, at, clock, follower.shape)
                if found is not None:
                    places[rank], stretch[rank] = found, number
        for sight in follower.sights:
            places[ranks[sight.source_index]] = sight.x_px, sight.y_px, sight.shear
            stretch[ranks[sight.source_index]] = sight.stretch
        for picture, _ in follower.refused:
            if picture.source_index in ranks:
                places[ranks[picture.source_index]] = np.nan
        for taken in follower.taken:
            frame = taken.candidate
            places[ranks[frame.source_index]] = frame.x_px, frame.y_px, frame.shear
            stretch[ranks[frame.source_index]] = taken.stretch
        return places, stretch


def _by_stretch(sights: Sequence[Sight]) -> Iterator[tuple[int, list[Sight]]]:
    for number in sorted({sight.stretch for sight in sights}):
        yield number, sorted((s for s in sights if s.stretch == number), key=lambda s: s.clock)


def _between(
    sights: Sequence[Sight], at: int, clock: float, shape: tuple[int, int]
) -> Place | None:
    """Where a picture lies between two sights by even motion; None where that is not known.

    The step before or the one after must lead to the same place, as near as `align` searches:
    where neither does, the motion changed in between.
    """
    before, after = sights[at], sights[at + 1]
    if not before.clock < clock < after.clock:
        return None
    apart = abs(after.x_px - before.x_px), abs(after.y_px - before.y_px)
    if apart[0] > FAR * shape[1] or apart[1] > FAR * shape[0]:
        return None
    place = _on_line(before, after, clock)
    if max(apart) <= SEARCH_PX:
        return place  # at rest
    beside = [sights[k : k + 2] for k in (at - 1, at + 1) if 0 <= k < len(sights) - 1]
    others = [_on_line(a, b, clock) for a, b in beside]
    misses = [max(abs(x - place[0]), abs(y - place[1])) for x, y, _ in others]
    return None if misses and min(misses) > SEARCH_PX else place


def _on_line(first: Sight, second: Sight, clock: float) -> Place:
    part = (clock - first.clock) / max(second.clock - first.clock, 1e-9)
    return (
        first.x_px + part * (second.x_px - first.x_px),
        first.y_px + part * (second.y_px - first.y_px),
        first.shear + part * (second.shear - first.shear),
    )


def _rounded(entry: TakenPlan) -> TakenPlan:
    """The same to a thousandth of a pixel, so that a plan read from a file is the same plan."""
    return TakenPlan(
        entry.number,
        tuple(
            LookPlace(
                look.number,
                round(look.dx_px, DIGITS),
                round(look.dy_px, DIGITS),
                round(look.shear, SHEAR_DIGITS),
            )
            for look in entry.looks
        ),
    )


# ---------------------------------------------------------------- the pass


@dataclass(frozen=True)
class FrameLooks:
    """What became of one frame: fields of its record, and why pictures were left out."""

    fields: dict[str, Any]
    rejected: tuple[str, ...] = ()


def average_row(
    pictures: Iterable[Picture],
    seen: SeenPictures,
    plan: Sequence[TakenPlan],
    sink: Callable[[npt.NDArray[Any]], None],
) -> list[FrameLooks]:
    """What became of every frame of `plan`, whose pixels go to `sink` in their order.

    `pictures` are the complete pictures again, as in the first pass. The fields: looks
    (pictures averaged, the frame included), noise_before, noise_after (grey levels; None
    without a further look), sharpness, and averaged, with which `averaged_places` finds the
    looks again. Raises what `average_pass` raises.
    """
    results: list[FrameLooks] = []

    def keep(found: Averaged) -> None:
        sink(found.image)
        entry = plan[len(results)]
        results.append(_frame_looks(found, entry, seen))

    average_pass(((rank, p.image) for rank, p in enumerate(pictures)), plan, keep)
    return results


def _frame_looks(found: Averaged, entry: TakenPlan, seen: SeenPictures) -> FrameLooks:
    used = {number for number, _ in found.aligned}
    several = found.looks > 1
    fields = {
        "sharpness": sharpness(found.image),
        "looks": found.looks,
        "noise_before": found.noise_before if several else None,
        "noise_after": found.noise_after if several else None,
        "averaged": [
            {
                "parts": [list(part) for part in seen.addresses[look.number]],
                "dx_px": look.dx_px,
                "dy_px": look.dy_px,
                "shear": look.shear,
            }
            for look in entry.looks
            if look.number in used
        ],
    }
    return FrameLooks(fields, tuple(reason.split(":")[0] for _, reason in found.rejected))


def averaged_places(record: dict[str, Any]) -> tuple[tuple[Address, LookPlace], ...]:
    """The looks that a frame's record names: where their lines are, and where they lie."""
    return tuple(
        (
            tuple(tuple(part) for part in look["parts"]),
            # Only the order of the numbers matters, and it is that of the list.
            LookPlace(number, look["dx_px"], look["dy_px"], look["shear"]),
        )
        for number, look in enumerate(record.get("averaged", ()))
    )


def told_looks(results: Sequence[FrameLooks]) -> tuple[list[str], list[str]]:
    """(notes, warnings) on what averaging did to a row, in words."""
    gained = [r.fields for r in results if r.fields["looks"] > 1]
    out = Counter(reason for r in results for reason in r.rejected)
    notes, warnings = [], []
    if gained:
        before, after = (
            float(np.sqrt(np.mean([fields[name] ** 2 for fields in gained])))
            for name in ("noise_before", "noise_after")
        )
        notes.append(
            f"averaging lowered the noise from {before:.3g} to {after:.3g} grey levels (factor "
            f"{before / after:.2g}) over {len(gained)} of {len(results)} frames"
        )
    if out:
        told = ", ".join(f"{count} {reason}" for reason, count in out.most_common())
        notes.append(f"pictures left out of averages: {told}")
    if not gained:
        warnings.append(
            "frames.average: motion found no further picture of any frame's place, so nothing was "
            "averaged"
        )
    return notes, warnings
