"""The one picture of an inspection: what was understood of every video or set of tiles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames import Crop
from cemi_dask.report.frame_section import draw_crop
from cemi_dask.report.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    NO_DATA,
    ORANGE,
    RED,
    drawing,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Facts = dict[str, Any]

DPI = 120.0
WIDE_IN = 14.0  # 1680 px: readable on a screen without scrolling sideways
TALL_IN = 3.0  # of the row of one file
MOST_FILES = 6  # with panels of their own; all others are in the summary alone
HEAD_IN, FOOT_IN, SUMMARY_IN = 0.55, 0.15, 2.3
# left edge and width of the panels, in
PANELS = ((0.62, 2.6), (3.85, 2.85), (7.15, 1.5), (9.0, 1.35), (10.65, 3.25))
BAD = ("CANNOT BE USED", "left out", "missing", "warning")  # names of facts to be seen first
MOST_NUMBERED = 60  # tiles that bear their numbers
LINE_IN = 0.122  # of the text panel
MOST_LINES = 22
NAME_SHARE = 0.2  # of its width, for the names of the facts
CHARACTERS = 49  # of a line beside them
WIDE_CHARACTERS = 190  # of a line across the figure
FAILURE_IN, MOST_FAILURES = 0.15, 12


@dataclass(frozen=True)
class Shown:
    """What is drawn of one file: its facts, the same in words, a recorded picture, grey levels.

    `picture` is shown whatever its size (None: nothing readable), `greys` are grey levels of a
    few taken frames.
    """

    facts: Facts
    rows: tuple[tuple[str, str], ...]
    picture: npt.NDArray[Any] | None
    greys: npt.NDArray[Any]


def inspection_png(
    shown: Sequence[Shown],
    *,
    bounds: tuple[float, float],
    conclusion: str,
    failures: Sequence[str] = (),
) -> bytes:
    """The picture of an inspection as PNG; `bounds`: the overlaps that a run keeps.

    The first six files get a row of panels each, more than one are compared in a summary.
    `conclusion` is the headline, `failures` (why a run would stop) follow below it.
    """
    with drawing():
        return png_bytes(_figure(shown, bounds, conclusion, failures), DPI)


def _figure(
    shown: Sequence[Shown],
    bounds: tuple[float, float],
    conclusion: str,
    failures: Sequence[str],
) -> Figure:
    first = shown[:MOST_FILES]
    several = sum("taken" in one.facts for one in shown) > 1
    bad = [line for text in failures for line in textwrap.wrap(text, WIDE_CHARACTERS)]
    if len(bad) > MOST_FAILURES:
        bad = [*bad[: MOST_FAILURES - 1], "... more in the table and in --json"]
    head = HEAD_IN + FAILURE_IN * len(bad)
    total = head + TALL_IN * len(first) + SUMMARY_IN * several + FOOT_IN
    figure = new_figure(total, WIDE_IN)
    if len(shown) > len(first):
        conclusion += (
            f" The first {len(first)} of {len(shown)} files are drawn; the summary holds all."
        )
    left = PANELS[0][0] / WIDE_IN
    figure.text(left, 1 - 0.26 / total, conclusion, fontsize=10, fontweight="bold", va="center")
    for n, line in enumerate(bad):
        at = 1 - (0.46 + n * FAILURE_IN) / total
        figure.text(left, at, line, fontsize=7.5, color=RED, va="center")
    for n, one in enumerate(first):
        low, tall = total - head - (n + 1) * TALL_IN + 0.55, TALL_IN - 0.85
        panels = [
            figure.add_axes((x / WIDE_IN, low / total, wide / WIDE_IN, tall / total))
            for x, wide in PANELS
        ]
        _file_row(panels, one, bounds, n if len(shown) > 1 else None)
    if several:
        _summary(figure, shown, bounds, (FOOT_IN + 0.5) / total, (SUMMARY_IN - 0.95) / total)
    return figure


def _file_row(
    panels: Sequence[Axes], one: Shown, bounds: tuple[float, float], number: int | None
) -> None:
    sample, trace, overlap, grey, text = panels
    _sample(sample, one, "" if number is None else f"{number}: ")
    if one.facts.get("layout"):
        _layout(trace, one.facts)
    else:
        _trace(trace, one.facts)
    _overlaps(overlap, one.facts, bounds)
    _greys(grey, one)
    _words(text, one)


def _nothing(axes: Axes, why: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(NO_DATA)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.text(0.5, 0.5, why, ha="center", va="center", color=FAINT, transform=axes.transAxes)


def _sample(axes: Axes, one: Shown, number: str) -> None:
    """A recorded picture, what is cut off in orange."""
    axes.set_title(number + _cut(str(one.facts["name"]), 40))
    size = one.facts.get("recorded_px")
    if one.picture is None or not size:
        _nothing(axes, "no picture")
        return
    draw_crop(axes, one.picture, (int(size[0]), int(size[1])), Crop(**one.facts["crop"]))
    axes.set_aspect("equal", anchor="NW")
    axes.set_xlabel("x (px)  as recorded; orange: cut off")
    axes.set_ylabel("y (px)")


def _trace(axes: Axes, facts: Facts) -> None:
    """Where the stage was, against time; what was taken; pauses shaded."""
    axes.set_title("Motion of the stage")
    motion = facts.get("motion")
    if not motion or len(motion["trace"]) < 2:
        _nothing(axes, "no motion" if motion else "not followed")
        return
    trace = np.asarray(motion["trace"], np.float64)
    clock = trace[:, 0]
    for pause in motion["pauses"]:
        axes.axvspan(
            pause["start_s"], pause["start_s"] + pause["duration_s"], color=NO_DATA, lw=0, zorder=0
        )
    x, y = trace[:, 2] - trace[0, 2], trace[:, 3] - trace[0, 3]
    axes.plot(clock, x, color=BLUE, label="x")
    axes.plot(clock, y, color=GREEN, label="y", lw=0.9)
    index = np.asarray([number for number, _ in facts["taken_frames"]], np.float64)
    order = np.argsort(trace[:, 1], kind="stable")
    at = np.interp(index, trace[order, 1], clock[order])
    axes.plot(
        at, np.interp(at, clock, x), "o", ms=3.2, mfc="white", mec=ORANGE, mew=1.1, label="taken"
    )
    for turn in motion["reversals"]:
        axes.axvline(turn, color=RED, lw=0.8, ls=":")
    pauses, turns = len(motion["pauses"]), len(motion["reversals"])
    axes.set_title(f"Stage; pauses (grey): {pauses}, turns: {turns}")
    axes.set_xlabel("time (s)")
    axes.set_ylabel("position (px)")
    axes.legend(loc="best", handlelength=1.2, ncols=3, columnspacing=0.8)


def _layout(axes: Axes, facts: Facts) -> None:
    """The tiles where they are taken to lie; those that are not used in red."""
    from matplotlib.patches import Rectangle

    layout = facts["layout"]
    height, width = facts["frame_px"]
    known = [(n, p) for n, p in enumerate(layout["places"]) if p[3] is not None]
    axes.set_title({"grid": "Layout, pitch by a guess", "stage": "Layout by stage positions"}.get(
        layout["kind"], "Layout"
    ))  # fmt: skip
    if not known:
        _nothing(axes, "unknown" if len(layout["places"]) > 1 else "one picture")
        return
    for n, (_, _, _, x, y, used) in known:
        colour = BLUE if used else RED
        axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, alpha=0.12, lw=0))
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, lw=0.7))
        if len(known) <= MOST_NUMBERED:
            axes.text(x + width / 2, y + height / 2, f"{n}", ha="center", va="center", fontsize=6.5)
    x, y = (np.array([p[k] for _, p in known]) for k in (3, 4))
    margin = 0.05 * max(width, height)
    axes.set_xlim(x.min() - margin, x.max() + width + margin)
    axes.set_ylim(y.max() + height + margin, y.min() - margin)
    axes.set_aspect("equal", anchor="NW")
    axes.set_xlabel("x (px)  numbered in the order of the files")
    axes.set_ylabel("y (px)")


def _overlaps(axes: Axes, facts: Facts, bounds: tuple[float, float]) -> None:
    """Histogram of neighbouring overlaps, with the bounds that a run keeps for videos."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Overlap of neighbours")
    overlap = facts.get("overlap")
    if not overlap or not overlap["measured"]:
        _nothing(axes, "none known")
        return
    bins = [float(edge) for edge in range(0, 101, 4)]
    if facts["kind"] == "video":
        axes.axvspan(100 * bounds[0], 100 * bounds[1], color=GREEN, alpha=0.14, lw=0)
        axes.hist(100 * np.asarray(overlap["values"]), bins=bins, color=BLUE)
        axes.set_xlabel(f"%  green: {bounds[0]:.0%} to {bounds[1]:.0%}")
    else:
        sides = [100 * np.asarray(overlap[axis]["values"]) for axis in ("x", "y")]
        axes.hist(sides, bins=bins, color=[BLUE, GREEN], label=["x", "y"], stacked=True)
        axes.legend(loc="best", handlelength=1.0)
        axes.set_xlabel(f"%  of {overlap['measured']} pairs looked at")
    axes.set_xlim(0, 100)
    axes.set_ylabel("pairs")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _greys(axes: Axes, one: Shown) -> None:
    """Grey levels of a few taken frames, and two sigma of their noise as a bar."""
    axes.set_title("Grey levels, noise")
    if not one.greys.size:
        _nothing(axes, "none taken")
        return
    low, high = (float(v) for v in np.percentile(one.greys, (0.05, 99.95)))
    whole = one.greys.dtype.kind != "f"
    step = max(1, round((high - low) / 64)) if whole else (high - low) / 64
    edges = np.arange(low - 0.5 * whole, high + 1.5 * step, step) if step else [low - 1, low + 1]
    counts, _, _ = axes.hist(
        one.greys, bins=[float(edge) for edge in edges], color=FAINT, density=True
    )
    noise, top = one.facts.get("noise"), float(np.max(counts)) * 1.12
    axes.set_ylim(0, top * 1.12)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if noise:
        ends = noise["mean"] - noise["sigma"], noise["mean"] + noise["sigma"]
        axes.plot(ends, (top, top), color=ORANGE, lw=2.5, solid_capstyle="butt")
        axes.set_title(f"Noise sigma {noise['sigma']:.3g}")
    axes.set_xlabel("grey level  orange: ± sigma")


def _words(axes: Axes, one: Shown) -> None:
    """The facts in words, the bad ones first and in red; what does not fit is in the table."""
    axes.set_axis_off()
    height = axes.get_position().height * axes.figure.get_figure(root=True).get_size_inches()[1]
    lines: list[tuple[str, str, str]] = []
    rows = [(name, text, name in BAD) for name, text in one.rows if name != "note"]
    for name, text, bad in sorted(rows, key=lambda row: not row[2]):
        short = "cannot use" if name == "CANNOT BE USED" else name
        for n, line in enumerate(textwrap.wrap(text, CHARACTERS)):
            lines.append(("" if n else short, line, RED if bad else INK))
    if len(lines) > MOST_LINES:
        more = ("", "... more in the table and in --json", FAINT)
        lines = [*lines[: MOST_LINES - 1], more]
    style: dict[str, Any] = {"fontsize": 6.6, "va": "top", "transform": axes.transAxes}
    for n, (name, line, colour) in enumerate(lines):
        y = 1.08 - n * LINE_IN / height
        axes.text(0, y, name, color=colour, fontweight="bold", **style)
        axes.text(NAME_SHARE, y, line, color=colour, **style)


def _summary(
    figure: Figure, shown: Sequence[Shown], bounds: tuple[float, float], low: float, tall: float
) -> None:
    """All files side by side: frames taken, overlaps, speed, scan period, noise."""
    from matplotlib.ticker import MaxNLocator

    numbers, entries = zip(
        *((n, one.facts) for n, one in enumerate(shown) if "taken" in one.facts), strict=True
    )
    width, gap = 2.1, 0.6
    panels = [
        figure.add_axes((x / WIDE_IN, low, width / WIDE_IN, tall))
        for x in PANELS[0][0] + np.arange(5) * (width + gap)
    ]
    titles = ("Frames taken", "Overlap (%)", "Speed (px/s)", "Scan period (s)", "Noise sigma")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel(f"file (0 to {len(shown) - 1})")
        axes.set_xlim(-0.6, len(shown) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].bar(numbers, [e["taken"] for e in entries], color=BLUE)
    panels[1].axhspan(100 * bounds[0], 100 * bounds[1], color=GREEN, alpha=0.14, lw=0)
    for n, entry in zip(numbers, entries, strict=True):
        overlap = entry["overlap"]
        if overlap["measured"]:
            ends = 100 * overlap["min"], 100 * overlap["max"]
            panels[1].plot((n, n), ends, color=BLUE)
            panels[1].plot(n, 100 * overlap["median"], "o", ms=3, color=BLUE)
    panels[1].set_ylim(0, 100)
    series = (
        [(e.get("motion") or {}).get("speed_px_s") for e in entries],
        [(e.get("scan") or {}).get("period_s") for e in entries],
        [(e.get("noise") or {}).get("sigma") for e in entries],
    )
    for axes, values in zip(panels[2:], series, strict=True):
        known = [(n, v) for n, v in zip(numbers, values, strict=True) if v is not None]
        if not known:
            _nothing(axes, "none seen")
            continue
        axes.plot(*zip(*known, strict=True), "o", ms=3.5, color=BLUE)
        axes.set_ylim(0, 1.15 * max(v for _, v in known) or 1)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 12]}...{text[-9:]}"
