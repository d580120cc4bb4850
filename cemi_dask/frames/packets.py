"""What the packets of a video tell without decoding them: numbers, key frames, damage."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_MISSING = 0.5  # of the frames of an even sequence; more gaps are a variable frame rate


@dataclass(frozen=True)
class VideoIndex:
    """The packets of a video: time stamps in display order, key frames, damage.

    `pts` is empty where packets bear no usable (unique) time stamps; frames are then
    counted from the start. `numbers` gives each time stamp its frame's number: its rank, or,
    in an even sequence with gaps, its place in the sequence, so that a missing packet does
    not shift the rest. `recorded` is the number of frames, missing ones included. `order`
    holds the time stamps in decoding order, `doubtful_pts` those of incomplete packets and of
    all that may refer to one that is incomplete or missing. `problems` says, in words, what
    the file lacks.
    """

    pts: tuple[int, ...]
    numbers: tuple[int, ...]
    order: tuple[int, ...]
    key_pts: tuple[int, ...]
    doubtful_pts: frozenset[int]
    recorded: int
    problems: tuple[str, ...] = ()

    def number(self, pts: int | None) -> int | None:
        """The number of the frame at a time stamp; None where it is not in the index."""
        if pts is None or not self.pts:
            return None
        at = bisect.bisect_left(self.pts, pts)
        return self.numbers[at] if at < len(self.pts) and self.pts[at] == pts else None

    def dependants(self, pts: int | None) -> frozenset[int]:
        """Time stamps of the packets that may refer to the one at `pts`: see `dependants`."""
        return dependants(self.order, frozenset(self.key_pts), pts)

    def key_before(self, pts: int) -> int | None:
        """Time stamp of the last key frame shown at or before `pts`; None: from the start."""
        at = bisect.bisect_right(self.key_pts, pts)
        return self.key_pts[at - 1] if at else None


def packet_index(container: Any, stream: Any) -> VideoIndex:
    """The index of an opened video stream, found by reading (not decoding) it to its end."""
    entries: list[tuple[int | None, bool, bool]] = []
    problems = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                entries.append((packet.pts, packet.is_keyframe, packet.is_corrupt))
    except (OSError, ValueError) as error:
        problems.append(f"reading stopped after {len(entries)} frames: {error}")
    order = tuple(pts for pts, _, _ in entries if pts is not None)
    usable = len(order) == len(entries) and len(set(order)) == len(order)
    pts = tuple(sorted(order)) if usable else ()
    order = order if usable else ()
    keys = frozenset(p for p, key, _ in entries if key and p is not None)
    numbers = _numbers(pts)
    problems += _shortfall(container, stream, len(entries), pts)
    problems += _gaps(pts, numbers)
    corrupt = frozenset(p for p, _, corrupt in entries if corrupt and p is not None)
    return VideoIndex(
        pts=pts,
        numbers=numbers,
        order=order,
        key_pts=tuple(sorted(keys)),
        doubtful_pts=_doubtful(order, keys, corrupt, _after_gaps(pts, numbers)),
        recorded=len(entries) + _missing(numbers),
        problems=tuple(problems),
    )


def dependants(order: Sequence[int], keys: frozenset[int], pts: int | None) -> frozenset[int]:
    """Time stamps of the packets that may refer to the one at `pts`.

    In decoding order: all up to the next key frame, and those after it that are shown
    before it (the B-frames of an open group of pictures).
    """
    if pts is None or pts not in order:
        return frozenset()
    found: list[int] = []
    key: int | None = None
    for later in order[order.index(pts) + 1 :]:
        if key is not None and later > key:
            break
        if later in keys:
            if key is not None:
                break
            key = later
        else:
            found.append(later)
    return frozenset(found)


def _doubtful(
    order: Sequence[int], keys: frozenset[int], corrupt: frozenset[int], after_gaps: Sequence[int]
) -> frozenset[int]:
    """Incomplete packets, and those that may refer to an incomplete or a missing one."""
    found = set(corrupt)
    for pts in corrupt:
        found |= dependants(order, keys, pts)
    for pts in after_gaps:
        at = order.index(pts)
        if pts in keys:
            continue
        if list(order) != sorted(order):
            # Where B-frames are used, the missing one may come much earlier in decoding order.
            at = max((n for n in range(at) if order[n] in keys), default=0) + 1
        found |= {order[at]} - keys | dependants(order, keys, order[at])
    return frozenset(found)


def _after_gaps(pts: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """The time stamps before which frames are missing."""
    steps = zip(pts[1:], numbers, numbers[1:], strict=False)
    return [stamp for stamp, before, here in steps if here - before > 1]


def _numbers(pts: tuple[int, ...]) -> tuple[int, ...]:
    """The number of each of the sorted time stamps: place in an even sequence, else rank."""
    places = _places(pts)
    # With variable frame rate a gap is no loss.
    if places is None or _missing(places) > MOST_MISSING * (places[-1] + 1):
        return tuple(range(len(pts)))
    return places


def _places(pts: tuple[int, ...]) -> tuple[int, ...] | None:
    """The place of each of the sorted time stamps in an even sequence; None where it is none."""
    if len(pts) < 5:
        return None
    stamps = np.asarray(pts, np.float64) - pts[0]
    step = float(np.median(np.diff(stamps)))
    counts = np.rint(np.diff(stamps) / step)
    if (counts < 1).any():
        return None
    places = np.concatenate(([0.0], np.cumsum(counts)))
    step = stamps[-1] / places[-1]  # the mean: the median of rounded stamps would drift
    if not (np.abs(stamps / step - places) < 0.3).all():
        return None
    return tuple(int(place) for place in places)


def _missing(numbers: Sequence[int]) -> int:
    """How many of the numbers up to the last one are not there."""
    return numbers[-1] + 1 - len(numbers) if numbers else 0


def _gaps(pts: tuple[int, ...], numbers: Sequence[int]) -> list[str]:
    """What gaps between time stamps say, in words."""
    if missing := _missing(numbers):
        return [f"its time stamps leave gaps where {missing} frames are missing"]
    if missing := _missing(_places(pts) or ()):
        return [
            f"its time stamps leave room for {missing} frames more than the {len(pts)} that are "
            "there: a variable frame rate, or lost frames"
        ]
    return []


def _shortfall(container: Any, stream: Any, packets: int, pts: tuple[int, ...]) -> list[str]:
    """What the file's header announces and the file does not hold."""
    announced = int(stream.frames or 0)
    if announced > packets:
        return [f"its header announces {announced} frames, {packets} are there"]
    if len(pts) < 2 or not container.duration:
        return []
    step_s = float(np.median(np.diff(np.asarray(pts, np.float64))) * float(stream.time_base))
    covered_s, lasting_s = float(pts[-1] * stream.time_base) + step_s, container.duration / 1e6
    if lasting_s > covered_s * 1.02 + 1.5 * step_s:
        return [f"its header announces {lasting_s:.1f} s, {covered_s:.1f} s are there"]
    return []
