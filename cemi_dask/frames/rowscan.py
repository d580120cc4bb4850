"""A row's video: complete scans, their motion and shear, which ones are taken and averaged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError, NoOverlapError
from cemi_dask.frames.averaging import SeenPictures, average_row, told_looks
from cemi_dask.frames.bridge import bridge
from cemi_dask.frames.options import ScanTiming, SelectionOptions
from cemi_dask.frames.refresh import Refresh, ScanAssembler
from cemi_dask.frames.row import RowFollower, Taken
from cemi_dask.frames.selection import overlap_of
from cemi_dask.frames.shading import ShadingSink
from cemi_dask.frames.shear import row_shear, seconds_per_line
from cemi_dask.frames.sources import Source
from cemi_dask.frames.video import Picture, VideoIndex, decode_video, index_video, video_header

Sink = Callable[[npt.NDArray[Any]], None]

LEAST_SHEAR_PX = 0.05  # a shear that moves no line by more is left alone
MUCH_TORN = 0.2  # of the recorded frames
TOLD_SIGHTS = 2000  # matched pictures whose places the result lists


def scan_video(source: Source, selection: SelectionOptions, sink: Sink | None) -> dict[str, Any]:
    """What a row's video holds, see `scan_source`.

    Besides its keys: ``scan`` (how the screen was scanned: period_s, lines_per_s, scans, and
    line_s, the time from line to line, with ``line_from`` in words; None where unknown) and
    ``motion`` (clock_s, source_index, x_px, y_px of matched pictures). With
    ``frames.average: motion`` the file is read a second time, and records have noise_before,
    noise_after and averaged as well, see `average_row`.
    """
    path = source.files[0]
    size, dtype = (source.shape, source.dtype) if source.shape else video_header(path)
    assert size is not None  # noqa: S101
    index = index_video(path)
    averages = selection.average == "motion"
    shading = ShadingSink(sink)
    follower = RowFollower(source.crop.shape(size), selection, None if averages else shading)
    first, seen = _Pass(source, index, size), SeenPictures(index)
    for complete in first.complete():
        if averages:
            seen.add(complete)
        follower.see(complete)
    follower.finish()
    follower.refused += [(picture, "duplicate") for picture in first.assembler.duplicates]
    _check_taken(path, follower, first.recorded)
    origins, gaps = bridge(follower)
    timing = _line_time(follower, first.assembler.refresh(), selection)
    shears, leaning = _shears(follower, timing["line_s"], selection)
    taken = [
        _taken_record(source, index, frame, _place(frame, origins, leaning), shears)
        for frame in follower.taken
    ]
    told: list[str] = []
    shortfall = _overlap_warnings(taken, follower)
    if averages:
        plan = seen.plan(follower, looks=selection.average_looks)
        looks = average_row(_Pass(source, index, size).complete(), seen, plan, shading)
        taken.sort(key=lambda r: r["source_index"])
        taken = [{**r, **found.fields} for r, found in zip(taken, looks, strict=True)]
        told, more = told_looks(looks)
        shortfall += more
    refused = [_refused_record(source, index, p, reason) for p, reason in follower.refused]
    notes = [*_notes(first.assembler, timing, shears), *told]
    warnings = [*index.problems, *gaps, *shortfall, *_losses(follower, first.recorded)]
    name = Path(path).name
    return {
        "records": sorted([*taken, *refused], key=lambda r: r["source_index"]),
        "shape": list(follower.shape),
        "dtype": dtype,
        "crop": source.crop.model_dump(),
        "recorded": first.recorded,
        "velocity_px_s": follower.velocity_px_s(),
        "scan": timing,
        "motion": _motion(follower, origins),
        "shading": shading.summary(taken),
        "warnings": [f"{name}: {warning}" for warning in warnings],
        "notes": [*source.notes, *(f"{name}: {note}" for note in notes)],
    }


@dataclass
class _Pass:
    """One pass over a row's recorded frames, which counts them."""

    source: Source
    index: VideoIndex
    size: tuple[int, int]
    recorded: int = 0
    assembler: ScanAssembler = field(init=False)

    def __post_init__(self) -> None:
        self.assembler = ScanAssembler(self.source.crop.shape(self.size)[0])

    def complete(self) -> Iterator[Picture]:
        """The complete pictures in order, cropped and grey; lost ones without an image."""
        for picture in decode_video(self.source.files[0], self.index):
            self.recorded += 1
            yield from self.assembler.see(_cropped(picture, self.source, self.size))
        yield from self.assembler.finish()


def _cropped(picture: Picture, source: Source, size: tuple[int, int]) -> Picture:
    if picture.image is None:
        return picture
    if picture.image.shape != size:
        picture.problem, picture.image = "size", None
        return picture
    picture.image = picture.image[source.crop.kept(size)]
    return picture


def _check_taken(path: str, follower: RowFollower, recorded: int) -> None:
    """Raise where no frame could be taken, or none placed."""
    refused = Counter(reason for _, reason in follower.refused)
    if not follower.taken:
        told = ", ".join(f"{n} {reason}" for reason, n in refused.items()) or "none recorded"
        raise InputError(
            f"{path} holds no usable frame ({recorded} recorded: {told}). Leave it out, or "
            "lower frames.blank_correlation and frames.blank_contrast if frames are not blank."
        )
    if len(follower.stretches) > 1 and follower.velocity_px_s() is None:
        raise NoOverlapError(
            f"{path}: no two of its {recorded} recorded frames share anything measurable, so none "
            "can be placed. Check that it shows structure and that frames overlap; lower "
            "frames.min_score if they do, or leave it out."
        )


def _losses(follower: RowFollower, recorded: int) -> list[str]:
    """What was refused, counted by reason; and a picture that never moved."""
    refused = Counter(reason for _, reason in follower.refused if reason != "duplicate")
    told = [f"{n} of {recorded} recorded frames are {why}" for why, n in sorted(refused.items())]
    if refused["torn"] > MUCH_TORN * recorded:
        told.append(
            "so many torn frames come from a recorder that takes less than one frame per scan, or "
            "from a stage that never moves evenly: places are less sure; record faster"
        )
    if recorded > 1 and len(follower.taken) == 1:
        told.append(f"the picture does not move in {recorded} recorded frames: one was taken")
    return told


# ---------------------------------------------------------------- shear


def _line_time(
    follower: RowFollower, refresh: Refresh | None, selection: SelectionOptions
) -> dict[str, Any]:
    """Seconds from line to line, where they come from, and the scan's period, as plain JSON."""
    timing: dict[str, Any] = {
        "period_s": None if refresh is None else refresh.period_s,
        "lines_per_s": None if refresh is None else refresh.lines_per_s,
        "scans": 0 if refresh is None else refresh.scans,
        "line_s": None,
        "line_from": "unknown",
    }
    if selection.shear == "none":
        timing["line_from"] = "switched off (frames.shear)"
    elif isinstance(selection.shear, ScanTiming):
        timing["line_s"] = selection.shear.frame_time_s / follower.shape[0]
        timing["line_from"] = "frames.shear.frame_time_s"
    elif refresh is not None:
        timing["line_s"] = 1 / refresh.lines_per_s
        timing["line_from"] = "the speed of the refresh line"
    else:
        found = seconds_per_line(follower.sights)
        if found is not None:
            timing |= {"line_s": found, "line_from": "how frames shear where the motion changes"}
    return timing


def _shears(
    follower: RowFollower, line_s: float | None, selection: SelectionOptions
) -> tuple[dict[int, float], list[float]]:
    """(shear by source index; shear of the first picture of every stretch)."""
    leaning = [0.0] * len(follower.stretches)
    if line_s is None:
        return {}, leaning
    sights = follower.sights
    given = selection.shear.velocity_px_s if isinstance(selection.shear, ScanTiming) else None
    shear = row_shear(sights, line_s)
    if given is not None:
        shear[:] = given * line_s
    for number in range(len(leaning)):
        apart = [v - s.shear for v, s in zip(shear, sights, strict=True) if s.stretch == number]
        leaning[number] = float(np.median(apart)) if apart else 0.0
    least = LEAST_SHEAR_PX / follower.shape[0]
    return {
        s.source_index: float(v) if abs(v) >= least else 0.0
        for v, s in zip(shear, sights, strict=True)
    }, leaning


def _place(
    taken: Taken, origins: Sequence[tuple[float, float]], leaning: Sequence[float]
) -> tuple[float, float]:
    """(x, y) px of a taken frame in its row.

    What was measured between sheared frames at different heights lacks the part of the shear
    that all of them share.
    """
    x0, y0 = origins[taken.stretch]
    frame = taken.candidate
    return x0 + frame.x_px + leaning[taken.stretch] * frame.y_px, y0 + frame.y_px


def _motion(follower: RowFollower, origins: Sequence[tuple[float, float]]) -> list[list[float]]:
    """[clock_s, source_index, x_px, y_px] of matched pictures, thinned where they are many."""
    step = -(-len(follower.sights) // TOLD_SIGHTS)
    return [
        [
            round(s.clock, 4),
            s.source_index,
            round(origins[s.stretch][0] + s.x_px, 3),
            round(origins[s.stretch][1] + s.y_px, 3),
        ]
        for s in follower.sights[:: max(1, step)]
    ]


def _notes(assembler: ScanAssembler, timing: dict[str, Any], shears: dict[int, float]) -> list[str]:
    notes = []
    if timing["period_s"] is not None:
        notes.append(
            f"the screen shows a running scan of {timing['period_s']:.3g} s; every frame is put "
            "together from the parts of one scan"
        )
    if assembler.duplicates:
        notes.append(f"{len(assembler.duplicates)} recorded frames repeat the one before")
    lean = max((abs(v) for v in shears.values()), default=0.0)
    if lean:
        notes.append(
            f"sheared by up to {lean:.4f} px per line, as the stage moves while lines are scanned "
            f"(line time from {timing['line_from']})"
        )
    return notes


# ---------------------------------------------------------------- records


def _taken_record(
    source: Source,
    index: VideoIndex,
    taken: Taken,
    place: tuple[float, float],
    shears: dict[int, float],
) -> dict[str, Any]:
    picture = taken.candidate.picture
    upper = picture.upper
    return {
        **_address(source, index, picture),
        "upper": None
        if upper is None
        else {
            "source_index": upper.source_index,
            "pts": upper.pts,
            "key_pts": _key_pts(index, upper.pts),
            "seam": upper.seam,
        },
        "x_nominal_px": place[0],
        "y_nominal_px": place[1],
        "shear": shears.get(picture.source_index, 0.0),
        "sharpness": taken.sharpness,
        "looks": 1,
        "taken": True,
        "used": True,
        "reason": "",
    }


def _refused_record(
    source: Source, index: VideoIndex, picture: Picture, reason: str
) -> dict[str, Any]:
    return {
        **_address(source, index, picture),
        "upper": None,
        "x_nominal_px": None,
        "y_nominal_px": None,
        "shear": 0.0,
        "sharpness": None,
        "taken": False,
        "used": False,
        "reason": reason,
    }


def _address(source: Source, index: VideoIndex, picture: Picture) -> dict[str, Any]:
    return {
        "file": source.files[0],
        "source_index": picture.source_index,
        "pts": picture.pts,
        "key_pts": _key_pts(index, picture.pts),
        "time_s": float(picture.time_s) if math.isfinite(picture.time_s) else None,
        "row": source.row,
        "col": -1,
    }


def _key_pts(index: VideoIndex, pts: int | None) -> int | None:
    return None if pts is None else index.key_before(pts)


def _overlap_warnings(records: list[dict[str, Any]], follower: RowFollower) -> list[str]:
    """Neighbouring overlaps outside the bounds, counted, with the worst one named."""
    options = follower.options
    x = np.array([r["x_nominal_px"] for r in records])
    y = np.array([r["y_nominal_px"] for r in records])
    overlap = overlap_of(np.diff(x), np.diff(y), follower.shape)
    told = []
    for name, bad, worst in (
        ("below overlap_min", overlap < options.overlap_min, np.argmin),
        ("above overlap_max", overlap > options.overlap_max, np.argmax),
    ):
        if bad.any():
            at = int(worst(overlap))
            told.append(
                f"{int(bad.sum())} of {len(overlap)} neighbouring overlaps are {name}, the worst "
                f"({overlap[at]:.0%}) between recorded frames {records[at]['source_index']} and "
                f"{records[at + 1]['source_index']}"
            )
    return told
