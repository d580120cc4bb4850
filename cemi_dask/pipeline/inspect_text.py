"""The facts of an inspection in words: rows of a table, and what a run would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cemi_dask.report.numbers import bytes_text, count_text, duration_text

Facts = dict[str, Any]
Row = tuple[str, str]

MOST_TOLD = 4  # warnings, pauses or files that one row names
SIDES = ("top", "bottom", "left", "right")
# key in the metadata, format
STATED = (
    ("instrument", "{}"),
    ("detector", "detector {}"),
    ("accelerating_kv", "{:.4g} kV"),
    ("magnification", "{:.6g}x"),
    ("working_distance_mm", "WD {:.4g} mm"),
    ("dwell_us", "dwell {:.4g} us"),
    ("frame_time_s", "{:.4g} s a frame"),
)


def entry_rows(entry: Facts) -> list[Row]:
    """What was understood of a video or a set of tiles, as (fact, words), short ones first."""
    rows = list(_rows(entry))
    if entry["error"]:
        rows.append(("CANNOT BE USED", entry["error"]))
    rows += [("left out", why) for _, why in entry.get("lost_files", [])[:MOST_TOLD]]
    known = tuple((entry.get("video") or {}).get("problems", ()))  # told as "missing"
    for name in ("warnings", "notes"):
        told = [text for text in entry.get(name, []) if not (known and text.endswith(known))]
        rows += [(name[:-1], text) for text in told[:MOST_TOLD]]
        if len(told) > MOST_TOLD:
            rows.append((name[:-1], f"and {len(told) - MOST_TOLD} more (--json tells all)"))
    return rows


def _rows(entry: Facts) -> Iterator[Row]:
    if entry.get("video"):
        yield from _video_rows(entry["video"], entry)
    if "recorded_px" in entry:
        yield from _frame_rows(entry)
    if "taken" not in entry:
        return
    if entry["kind"] == "video":
        yield "screen", _scan_text(entry["scan"])
        yield "line time", _line_text(entry["scan"])
        yield "stage", _stage_text(entry["motion"])
        if entry["motion"]["direction"]:
            yield "pauses", _pause_text(entry["motion"])
        yield "taken", _taken_text(entry, f"of {entry['recorded']} recorded")
    else:
        yield "layout", _layout_text(entry["layout"])
        yield "usable", _taken_text(entry, f"of {entry['recorded']}")
    yield "overlap", _overlap_text(entry)
    yield from _quality_rows(entry)


def _video_rows(video: Facts, entry: Facts) -> Iterator[Row]:
    pixels = f"{video['pixel_format']}, {video['bits']} bit" if video["pixel_format"] else "?"
    loss = {True: ", lossless", False: ", lossy", None: ""}[video["lossless"]]
    size = bytes_text(video["bytes"]) if video["bytes"] >= 1e6 else f"{video['bytes'] / 1e3:.0f} kB"
    yield "file", f"{size}, {video['container']}, {video['codec']}{loss} ({pixels})"
    rate = "unknown rate" if video["fps"] is None else f"{video['fps']:.4g} frames/s"
    if video["rate"] == "variable":
        rate += f", variable: {video['step_min_s']:.3g} to {video['step_max_s']:.3g} s apart"
    elif video["rate"] == "constant":
        rate += ", constant"
    lasting = "" if video["duration_s"] is None else f", {duration_text(video['duration_s'])}"
    yield "recorded", f"{video['recorded']} frames{lasting}; {rate}"
    announced = video["announced"]
    told = [] if announced in (None, video["recorded"]) else [f"{announced} announced"]
    told += [f"{entry[name]} {name}" for name in ("lost", "damaged") if entry.get(name)]
    if told or video["problems"]:
        yield "missing", "; ".join([*told, *video["problems"]])


def _frame_rows(entry: Facts) -> Iterator[Row]:
    height, width = entry["recorded_px"]
    cut = [f"{entry['crop'][side]} px {side}" for side in SIDES if entry["crop"][side]]
    tall, wide = entry["frame_px"]
    crop = f"; cut off {', '.join(cut)}: {wide} x {tall} px" if cut else "; nothing cut off"
    yield "frame", f"{width} x {height} px {entry['dtype']}{crop}"
    pixel = entry["pixel_um"]
    yield "pixel size", "unknown (give --pixel-size)" if pixel is None else f"{pixel:.6g} um"
    stated = entry["metadata"] or {}
    told = [how.format(stated[key]) for key, how in STATED if stated.get(key) is not None]
    if told:
        yield "metadata", f"{stated.get('vendor', '')}: {', '.join(told)}"


def _scan_text(scan: Facts) -> str:
    if not scan["refresh_line"]:
        return "whole pictures: no refresh line was seen"
    frames = "" if scan["period_frames"] is None else f" = {scan['period_frames']:.4g} frames"
    return (
        f"refresh line: a scan takes {scan['period_s']:.4g} s{frames}, "
        f"{scan['lines_per_s']:.4g} lines/s; {scan['scans']} scans seen"
    )


def _line_text(scan: Facts) -> str:
    if scan["line_s"] is None:
        return f"{scan['line_from']}; frames count as not sheared"
    return (
        f"{scan['line_s'] * 1e3:.4g} ms, from {scan['line_from']}; "
        f"shear {scan['shear_px_per_px']:+.4f} px per px"
    )


def _stage_text(motion: Facts) -> str:
    if motion["direction"] is None:
        return "no motion was seen"
    x, y = motion["velocity_px_s"] or (float("nan"), float("nan"))
    return (
        f"moves {motion['direction']} at {motion['speed_px_s']:.4g} px/s, "
        f"{motion['travel_px']:.0f} px in all (median velocity {x:+.4g}, {y:+.3g} px/s)"
    )


def _pause_text(motion: Facts) -> str:
    pauses, turns = motion["pauses"], motion["reversals"]
    told = [f"{p['duration_s']:.1f} s at {p['start_s']:.1f} s" for p in pauses[:MOST_TOLD]]
    if len(pauses) > MOST_TOLD:
        told.append(f"{len(pauses) - MOST_TOLD} more")
    words = [f"{len(pauses)}: {', '.join(told)}" if pauses else "none"]
    if turns:
        places = ", ".join(f"{t:.1f} s" for t in turns[:MOST_TOLD])
        words.append(f"turns back {len(turns)} times ({places})")
    return "; ".join(words)


def _taken_text(entry: Facts, of: str) -> str:
    refused = ", ".join(f"{n} {reason}" for reason, n in entry["refused"].items())
    return f"{entry['taken']} {of}; refused: {refused or 'none'}"


def _layout_text(layout: Facts) -> str:
    if len(layout["places"]) == 1:
        return "one picture"
    kind = {
        "stage": "stage positions",
        "grid": "a grid (the pitch is measured by the run)",
        "none": "unknown: the run compares all tiles with all",
    }.get(layout["kind"], layout["kind"])
    if layout["rows"] is None or layout["kind"] == "none":
        return str(kind)
    holes = f", {layout['holes']} places empty" if layout["holes"] else ""
    return f"{kind}: {layout['rows']} rows, {layout['cols']} columns{holes}"


def _overlap_text(entry: Facts) -> str:
    overlap = entry["overlap"]
    if not overlap["pairs"]:
        return "none: one frame" if entry["taken"] <= 1 else "unknown"
    if entry["kind"] == "video":
        return _range_text(overlap)
    told = [
        f"along {axis} {_range_text(overlap[axis])}"
        for axis in ("x", "y")
        if overlap[axis]["pairs"]
    ]
    return "; ".join(told)


def _range_text(overlap: Facts) -> str:
    if not overlap["measured"]:
        return f"not measurable in {overlap['pairs']} pairs"
    share = f"{overlap['min']:.0%} to {overlap['max']:.0%}, median {overlap['median']:.0%}"
    if overlap["measured"] < overlap["pairs"]:
        share += f" ({overlap['measured']} of {overlap['pairs']} pairs looked at)"
    return share


def _quality_rows(entry: Facts) -> Iterator[Row]:
    noise = entry["noise"]
    if noise is not None:
        lossy = (entry.get("video") or {}).get("lossless") is False
        least = " at least (lossy compression hides some)" if lossy else ""
        yield (
            "noise",
            (
                f"sigma {noise['sigma']:.3g} grey levels{least}, "
                f"structure {noise['contrast']:.3g}, mean {noise['mean']:.4g}"
            ),
        )
        if noise["clipped"] > 0.005:
            yield "clipped", f"{noise['clipped']:.1%} of the pixels are black or white"
    sharp = entry["sharpness"]
    if sharp is not None:
        yield "sharpness", f"median {sharp['median']:.4g}, least {sharp['min']:.4g} (grey levels^2)"
    yield "flat field", str(entry["flat_field"]["note"])


def run_text(run: Facts, failures: Sequence[str]) -> str:
    """One or two sentences: what `cemi run` would do with these files."""
    rows = f" in {run['rows']} row{'s' * (run['rows'] != 1)}" if run["rows"] else ""
    if not run["frames"]:
        text = "cemi run would take nothing."
    else:
        text = (
            f"cemi run would take {count_text(run['frames'])} of {count_text(run['recorded'])} "
            f"recorded frames{rows}."
        )
    if failures:
        text += f" It would stop for {len(failures)} reason{'s' * (len(failures) != 1)}."
    return text


def overview_row(entry: Facts) -> tuple[str, str, str, str, str, str]:
    """One line for a video among many: name, taken/recorded, speed, scan, overlap, noise."""
    name = Path(entry["name"]).name
    if "taken" not in entry:
        return name, "-", "", "", "", "CANNOT BE USED"
    motion, scan = entry.get("motion"), entry.get("scan")
    overlap, noise = entry["overlap"], entry["noise"]
    speed = f"{motion['speed_px_s']:.4g}" if motion and motion["speed_px_s"] else ""
    period = f"{scan['period_s']:.4g}" if scan and scan["period_s"] else ""
    share = f"{overlap['min']:.0%} - {overlap['max']:.0%}" if overlap["measured"] else ""
    sigma = f"{noise['sigma']:.3g}" if noise else ""
    return name, f"{entry['taken']} of {entry['recorded']}", speed, period, share, sigma
