"""What one source tells before a run: `examine`, and facts worked out of what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask import denoise, frames
from cemi_dask.errors import CemiError, InputError, UnreadableError
from cemi_dask.frames.scan import read_tile
from cemi_dask.frames.selection import overlap_of
from cemi_dask.frames.tile_overlap import tile_overlaps
from cemi_dask.frames.video_facts import video_facts

F64 = npt.NDArray[np.float64]

KEPT = 8  # frames that noise and grey levels are taken from, spread over the source
GREYS = 20_000  # grey levels kept of each of them
SLOW = 0.15  # of the usual speed: slower is a pause
PAUSE_STEPS = 2  # matched pictures that a pause lasts at least
TURN = 0.05  # of the frame: going back by less is jitter


class FewFrames:
    """A sink that keeps noise and some grey levels of a few of the frames, evenly spread.

    Of 8 to 16 frames every one is looked at, of more every second, every fourth, ...: memory
    and time do not grow with the length of the video.
    """

    def __init__(self) -> None:
        self.stride, self.seen = 1, 0
        self.kept: list[dict[str, Any]] = []

    def __call__(self, image: npt.NDArray[Any]) -> None:
        """Takes note of the next frame (y, x)."""
        if self.seen % self.stride == 0:
            self.kept.append(_look(image))
        self.seen += 1
        if len(self.kept) > 2 * KEPT:
            self.kept, self.stride = self.kept[::2], 2 * self.stride

    def result(self) -> list[dict[str, Any]]:
        """At most `KEPT` looks: sigma, slope, offset, mean, spread, clipped, greys."""
        count = min(KEPT, len(self.kept))
        chosen = np.linspace(0, len(self.kept) - 1, count).round().astype(int)
        return [self.kept[n] for n in chosen]


def _look(image: npt.NDArray[Any]) -> dict[str, Any]:
    fine = min(image.shape) >= 16  # noise needs blocks of 16 px
    model = denoise.estimate_noise_model(image) if fine else None
    top = np.inf if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    bottom = -np.inf if image.dtype.kind == "f" else 0
    flat = image.ravel()
    return {
        "sigma": None if model is None else float(np.sqrt(model.mean_variance)),
        "slope": None if model is None else model.slope,
        "offset": None if model is None else model.offset,
        "mean": float(image.mean(dtype=np.float64)),
        "spread": float(image.std(dtype=np.float64)),
        "clipped": float(np.count_nonzero((image >= top) | (image <= bottom)) / image.size),
        # An odd stride, lest it meets the same columns in every line.
        "greys": flat[:: max(1, flat.size // GREYS) | 1].copy(),
    }


def examine(source: frames.Source, selection: frames.SelectionOptions) -> dict[str, Any]:
    """All that one pass over a prepared source tells, with what it takes to draw it.

    Keys: ``scan`` (see `scan_source`; None with ``error`` in words where it cannot be used),
    ``lost_files`` (tiles that cannot be read: file and why), ``video`` (see `video_facts`;
    None for tiles), ``looks`` (of `FewFrames`) and ``picture`` (a recorded picture before
    cropping as PNG, or None).
    """
    found: dict[str, Any] = {
        "scan": None, "error": "", "lost_files": [], "video": None, "looks": [], "picture": None,
    }  # fmt: skip
    try:
        if source.kind == "video":
            found["video"] = video_facts(source.files[0])
        try:
            found |= _scanned(source, selection)
        except (UnreadableError, InputError):
            if source.kind == "video":
                raise
            source, found["lost_files"] = sound_tiles(source)
            if not found["lost_files"]:
                raise
            found |= _scanned(source, selection) if source.files else {}
    except CemiError as error:
        found["error"] = str(error)
    return found


def _scanned(source: frames.Source, selection: frames.SelectionOptions) -> dict[str, Any]:
    few = FewFrames()
    scan = frames.scan_source(source, selection, sink=few)
    return {"scan": scan, "looks": few.result(), "picture": frames.sample_png([source])}


def sound_tiles(source: frames.Source) -> tuple[frames.Source, list[tuple[str, str]]]:
    """(the source with only those tiles that can be read, (file, why) of the others)."""
    assert source.shape is not None  # noqa: S101 - sources are prepared before
    good, lost = [], []
    for n, file in enumerate(source.files):
        try:
            read_tile(file, source, size=source.shape, dtype=source.dtype)
        except (UnreadableError, InputError) as error:
            lost.append((file, str(error)))
        else:
            good.append(n)
    if not lost:
        return source, []
    places = tuple(source.places[n] for n in good) if source.places else ()
    return replace(source, files=tuple(source.files[n] for n in good), places=places), lost


# ---------------------------------------------------------------- facts, as plain JSON


def noise_facts(looks: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Noise and grey levels of a few frames: medians over them; None without a frame.

    ``sigma`` is that of white noise in grey levels, ``slope`` and ``offset`` those of its
    variance over the grey level, ``contrast`` the standard deviation of what is not noise.
    """
    known = [look for look in looks if look["sigma"] is not None]
    if not known:
        return None
    sigma, slope, offset, mean, spread, clipped = (
        float(np.median([look[name] for look in known]))
        for name in ("sigma", "slope", "offset", "mean", "spread", "clipped")
    )
    contrast = float(np.sqrt(max(0.0, spread**2 - sigma**2)))
    return {
        "sigma": sigma,
        "slope": slope,
        "offset": offset,
        "mean": mean,
        "contrast": contrast,
        "clipped": clipped,
        "frames": len(known),
    }


def overlap_facts(values: Sequence[float | None]) -> dict[str, Any]:
    """Neighbouring overlaps (fractions) and their extremes; None: not measurable."""
    known = [v for v in values if v is not None]
    out: dict[str, Any] = {"pairs": len(values), "measured": len(known)}
    out |= {name: None for name in ("min", "median", "max")}
    if known:
        out |= {"min": min(known), "median": float(np.median(known)), "max": max(known)}
    return {**out, "values": [round(v, 4) for v in known]}


def row_overlaps(scan: dict[str, Any]) -> list[float]:
    """Overlaps of neighbouring taken frames of a row, in the order of recording."""
    taken = [r for r in scan["records"] if r["taken"]]
    x = np.array([r["x_nominal_px"] for r in taken])
    y = np.array([r["y_nominal_px"] for r in taken])
    height, width = scan["shape"]
    return [float(v) for v in overlap_of(np.diff(x), np.diff(y), (height, width))]


def refusals(scan: dict[str, Any]) -> dict[str, int]:
    """How many frames are refused, by reason."""
    return dict(sorted(Counter(r["reason"] for r in scan["records"] if r["reason"]).items()))


def sharpness_facts(scan: dict[str, Any]) -> dict[str, float] | None:
    """Least and median sharpness of the frames taken (Vollath's F4, grey levels squared)."""
    values = [r["sharpness"] for r in scan["records"] if r["taken"] and r["sharpness"] is not None]
    return {"min": min(values), "median": float(np.median(values))} if values else None


def motion_facts(scan: dict[str, Any]) -> dict[str, Any]:
    """Speed, direction, pauses and turns of the stage in a row, from the matched pictures.

    ``speed_px_s`` is the speed at which half of the way was made, ``direction`` the way the
    frames go over the specimen, ``pauses`` start and duration in s, ``reversals`` when the
    stage turned (s), ``travel_px`` the extent along the row, ``trace`` the pictures' places.
    """
    trace = np.asarray(scan["motion"], np.float64).reshape(-1, 4)
    clock, x, y = trace[:, 0], trace[:, 2], trace[:, 3]
    steps_s, steps_px = np.diff(clock), np.hypot(np.diff(x), np.diff(y))
    use = steps_s > 0
    facts: dict[str, Any] = {
        "velocity_px_s": scan["velocity_px_s"],
        "speed_px_s": None,
        "direction": None,
        "pauses": [],
        "reversals": [],
        "travel_px": float(np.ptp(x)) if len(x) else 0.0,
        "trace": [[float(v) for v in row] for row in trace],
    }
    if not use.any() or steps_px.sum() <= 0:
        return facts
    speeds = steps_px[use] / steps_s[use]
    order = np.argsort(speeds)
    way = np.cumsum(steps_px[use][order])
    usual = float(speeds[order][np.searchsorted(way, way[-1] / 2)])
    along = x if np.ptp(x) >= np.ptp(y) else y
    shape = scan["shape"]
    size = shape[1] if along is x else shape[0]
    words = ("to the right", "to the left") if along is x else ("downwards", "upwards")
    if max(np.ptp(x) / shape[1], np.ptp(y) / shape[0]) > TURN:
        facts["speed_px_s"] = usual
        facts["direction"] = words[int(along[-1] < along[0])]
        facts["pauses"] = _pauses(clock[:-1][use], steps_s[use], speeds, usual)
        facts["reversals"] = _turns(clock, along, TURN * size)
    return facts


def _pauses(start_s: F64, steps_s: F64, speeds: F64, usual: float) -> list[dict[str, float]]:
    """Where steps are slow: the time lost against the usual speed, and when that began.

    The stage stops and starts within the steps before and after the slow ones.
    """
    slow = speeds < SLOW * usual
    lost = np.clip(1 - speeds / usual, 0, 1) * steps_s
    edges = np.flatnonzero(np.diff(np.concatenate(([0], slow.astype(int), [0]))))
    found = []
    for first, last in edges.reshape(-1, 2):
        if float(steps_s[first:last].sum()) < PAUSE_STEPS * float(np.median(steps_s)):
            continue
        before = float(lost[first - 1]) if first else 0.0
        lasting = before + float(lost[first : last + 1].sum())
        found.append({"start_s": float(start_s[first]) - before, "duration_s": lasting})
    return found


def _turns(clock: F64, along: F64, least_px: float) -> list[float]:
    """When the motion turned: the extremes after which it went back by at least `least_px`."""
    turns: list[float] = []
    way, extreme = 0, 0
    for n in range(1, len(along)):
        gone = along[n] - along[extreme]
        if way == 0:
            way = int(np.sign(gone)) if abs(gone) >= least_px else 0
            extreme = n if way else extreme
        elif gone * way >= 0:
            extreme = n
        elif abs(gone) >= least_px:
            turns.append(float(clock[extreme]))
            way, extreme = -way, n
    return turns


def scan_facts(scan: dict[str, Any], fps: float | None) -> dict[str, Any]:
    """How the screen was scanned and how far frames are sheared; None where not known."""
    timing = dict(scan["scan"])
    period = timing["period_s"]
    lean = [r["shear"] for r in scan["records"] if r["taken"]]
    timing["refresh_line"] = period is not None
    timing["period_frames"] = period * fps if period is not None and fps else None
    # Frames taken while the stage stands are not sheared; they say nothing of those in motion.
    moving = [v for v in lean if abs(v) > 0.1 * max(map(abs, lean))]
    timing["shear_px_per_px"] = float(np.median(moving)) if moving else 0.0
    timing["shear_max_px_per_px"] = max(lean, key=abs, default=0.0)
    return timing


def tile_overlap_facts(source: frames.Source) -> dict[str, Any]:
    """Overlaps of neighbouring tiles along x and y, as a few pairs show; see `overlap_facts`.

    `source`: all tiles of the layout as one.
    """
    assert source.shape is not None  # noqa: S101 - sources are prepared before
    try:
        found = tile_overlaps(source.files, source.places, size=source.shape, crop=source.crop)
    except CemiError:  # a tile whose pixels are lost is told with its own row
        found = {"x": [], "y": []}
    both = [*found["x"], *found["y"]]
    return {**overlap_facts(both), **{k: overlap_facts(v) for k, v in found.items()}}
