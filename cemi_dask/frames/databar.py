"""Where a burnt-in data bar lies: a strip at the top or bottom that stays while the stage moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.options import Crop

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MAX_SHARE = 0.3  # of the frame's height: a larger strip at rest is the specimen, not a bar
MIN_SHARE_AT_REST = 0.85  # of a line's pixels; a clock or a reading may change
LEVELS = 255.0  # thresholds below are in 8-bit grey levels
MAX_AT_REST = 0.5  # of the lines between: more, and the specimen stands still
STILL = 12.0
TEXT = 40.0  # text stands out from its background by at least this
MARGIN_PX = 4  # cut off beside text that lies on the picture without a border

# Part-transparent bars
GLASS_FRAMES = 4  # fewer have strokes at rest by chance
STILL_STROKE = 20.0  # codecs let strokes tremble where what shows through changes
TEXT_LINES = 5  # the height of the smallest letters
TEXT_EDGES = 3  # left and right borders of strokes in a line
CHANCE_RATIO = 4.0  # such borders elsewhere are there by chance
AT_REST_SHARE = 0.2  # of the other lines that hold such borders: the specimen stands still
DIMMED = 0.15  # step of the logarithm of contrast: an opacity of 0.3 makes 0.36
STEP_RATIO = 5.0  # of the step to what lines differ by
WINDOW = 4
PARTS = 12  # along x, and how many of them the step must go through
THROUGH_SHARE = 0.75
FREE_TEXT_SHARE = 0.1  # of the width that text without a bar must span: a mouse pointer does not

# Plain bars in one picture
FLAT = 2.5
FLAT_SHARE = 0.5  # of a bar line's pixels that have the bar's level
STRAY_SHARE = 0.1  # of the lines beyond it
RULE_PX = 4  # lines that frame a bar, or divide it
RULED_SHARE = 0.9  # of the width that such a line spans
LEAST_BAR_PX, LEAST_BAR_SHARE = 8, 0.02


def detect_bar(pictures: Sequence[npt.NDArray[Any]]) -> Crop:
    """The strips at top and bottom that hold a data bar, from frames (y, x) of one run.

    A line is at rest where at least 85 % of its pixels stay the same within 12 of 255 grey
    levels in all frames. A strip of such lines along the edge is a bar where it holds text
    or a scale bar. The bar begins where all frames leave its grey level with a step, or, where
    the text lies on the picture itself, just beside the text. A part-transparent bar (at least
    four frames) is told by strokes that rest while what shows through moves; it ends where the
    picture's contrast steps up.
    One picture, or frames at rest, tell a bar only where it cannot be anything else: one level
    but for text, at least 2 % high, ending in a step over the whole width. No bar is higher
    than 30 % of the frame.
    """
    if not pictures:
        return Crop()
    stack = np.stack([_levels(picture) for picture in pictures])
    still = (stack.max(axis=0) - stack.min(axis=0)) <= STILL
    at_rest = still.mean(axis=1) >= MIN_SHARE_AT_REST
    reach = int(MAX_SHARE * len(at_rest))
    if at_rest[reach : len(at_rest) - reach].mean() > MAX_AT_REST:
        return Crop(top=_plain(stack[0]), bottom=_plain(stack[0, ::-1]))
    typical = np.median(stack, axis=0)
    found = []
    glyphs = _glyphs(stack)
    for step in (1, -1):
        lines = slice(None, None, step)
        plain = _strip(stack[:, lines], at_rest[lines], still[lines], typical[lines])
        # A clock that changes cuts a plain bar short: its end is seen all the same.
        found.append(_glass(stack[:, lines], still[lines], glyphs[lines], plain))
    return Crop(top=found[0], bottom=found[1])


def _levels(picture: npt.NDArray[Any]) -> F32:
    if picture.dtype == np.uint8:
        return picture.astype(np.float32)
    low, high = np.nanpercentile(picture, (0.1, 99.9))
    scale = LEVELS / max(float(high - low), 1e-9)
    return np.clip((picture.astype(np.float32) - np.float32(low)) * np.float32(scale), 0, LEVELS)


def _strip(stack: F32, at_rest: Mask, still: Mask, typical: F32) -> int:
    """Height in px of the bar along the first line of `stack` (frames, y, x); 0: none."""
    height = len(at_rest)
    run = height if at_rest.all() else int(np.argmin(at_rest))
    if run < 3:
        return 0
    strip = typical[:run]
    background = np.median(strip, axis=1)
    text = (np.abs(strip - background[:, None]) > TEXT) & still[:run]
    text_lines = np.flatnonzero(_borders(text) >= 2)
    if len(text_lines) < 3:
        return 0
    inside = int(text_lines[-1]) + 1
    edge = _edge(stack, background, inside)
    if edge is not None and edge <= MAX_SHARE * height:
        return edge + _ruled(strip[edge : edge + RULE_PX], STILL)
    if inside + MARGIN_PX <= MAX_SHARE * height:
        return min(run, inside + MARGIN_PX)
    return 0


def _borders(text: Mask) -> npt.NDArray[np.int64]:
    """How many left and right borders of strokes each line has."""
    return np.asarray((text[:, 1:] != text[:, :-1]).sum(axis=1), np.int64)


def _edge(stack: F32, background: F32, inside: int) -> int | None:
    """First line beyond `inside` where every frame leaves the strip's one grey level.

    None where the strip has no one level, or the frames do not all step there.
    """
    level = float(np.median(background[:inside]))
    plain = np.abs(background - level) <= STILL
    if plain[:inside].mean() < 0.5:
        return None
    left = np.flatnonzero(~plain[inside:])
    edge = inside + int(left[0]) if len(left) else len(background)
    beyond = stack[:, edge : edge + 3]
    if not beyond.shape[1]:
        return None
    stepped = np.abs(beyond - level) > STILL
    return edge if (stepped.mean(axis=(1, 2)) > 0.7).all() else None


def _glyphs(stack: F32) -> Mask:
    """Left and right borders of strokes: steps along x that stay in all frames, (y, x - 1).

    The specimen moves along x and can keep no such step; a stroke keeps it, and its own level,
    whatever shows through beside it.
    """
    still = (stack.max(axis=0) - stack.min(axis=0)) <= STILL_STROKE
    step = np.diff(stack, axis=2)
    keeps = (step.min(axis=0) > TEXT) | (step.max(axis=0) < -TEXT)
    return np.asarray(keeps & (still[:, 1:] | still[:, :-1]), np.bool_)


def _glass(stack: F32, still: Mask, glyphs: Mask, plain: int) -> int:
    """Height in px of the part-transparent bar along the first line, at least `plain` px."""
    frames, height, width = stack.shape
    reach = int(MAX_SHARE * height)
    count = glyphs.sum(axis=1)
    by_chance = float(count[reach : height - reach].mean())
    has_text = count >= TEXT_EDGES + CHANCE_RATIO * by_chance
    at_rest = has_text[reach : height - reach].mean() > AT_REST_SHARE
    if frames < GLASS_FRAMES or at_rest or has_text[reach : reach + TEXT_LINES].all():
        return plain
    text_lines = np.flatnonzero(has_text[:reach])
    if len(text_lines) < TEXT_LINES:
        return plain
    inside = int(text_lines[-1]) + 1
    edge = _dimming_end(_liveliness(stack, still), inside, reach)
    if edge is not None or plain:
        return max(edge or 0, plain)
    columns = np.flatnonzero(glyphs[:reach].any(axis=0))
    spans = np.percentile(columns, 95) - np.percentile(columns, 5) >= FREE_TEXT_SHARE * width
    return min(inside + MARGIN_PX, reach) if spans else 0


def _liveliness(stack: F32, still: Mask) -> F32:
    """How much the moving pixels of each line differ between the frames, (y, parts along x)."""
    moving = ~still
    moving[moving.mean(axis=1) < 1 - MIN_SHARE_AT_REST] = True
    spread = stack.std(axis=0) * moving
    starts = np.linspace(0, stack.shape[2], PARTS + 1).astype(int)[:-1]
    total = np.add.reduceat(spread, starts, axis=1)
    return np.asarray(
        total / np.maximum(np.add.reduceat(moving, starts, axis=1, dtype=np.int64), 1), np.float32
    )


def _dimming_end(parts: F32, inside: int, reach: int) -> int | None:
    """First line from `inside` to `reach` where the picture's contrast steps up for good.

    `parts` is the liveliness. The step must go through nearly all of the width: where grains
    begin beside empty resin it does not.
    """
    lively = _log(parts.mean(axis=1))
    middle = lively[reach : len(lively) - reach]
    noise = float(np.median(np.abs(np.diff(middle)))) * 1.4826 / np.sqrt(2)
    lines = np.arange(inside, min(reach, len(lively) - WINDOW) + 1)
    steps = np.array([_step(lively, int(e), WINDOW) for e in lines])
    if not len(steps) or steps.max() < max(DIMMED, STEP_RATIO * noise):
        return None
    best = int(lines[np.argmax(steps)])
    near = np.arange(max(inside, best - WINDOW), min(best + WINDOW, reach) + 1)
    sharp = lively[near] - lively[near - 1]
    # Codecs smear the edge over a line or two: the last steep line ends it.
    best = int(near[np.flatnonzero(sharp >= 0.5 * sharp.max())[-1]])
    through = _step(_log(parts), best, 2 * WINDOW) >= DIMMED / 2
    lasting = _step(lively, best, best) >= DIMMED
    return best if lasting and through.mean() >= THROUGH_SHARE else None


def _log(values: F32) -> F32:
    return np.log(np.maximum(values, 0.1)).astype(np.float32)


def _step(values: F32, line: int, window: int) -> Any:
    """Median of the `window` lines from `line` on less that of the `window` lines before."""
    before, after = values[max(0, line - window) : line], values[line : line + window]
    return np.median(after, axis=0) - np.median(before, axis=0)


def _plain(picture: F32) -> int:
    """Height in px of an unmistakable plain bar along the first line of a picture; 0: none."""
    height = len(picture)
    reach = int(MAX_SHARE * height)
    level = float(np.median(picture[: max(LEAST_BAR_PX, int(LEAST_BAR_SHARE * height))]))
    flat = (np.abs(picture - level) <= FLAT).mean(axis=1)
    in_bar = np.flatnonzero(flat[: reach + 1] >= FLAT_SHARE)
    if not len(in_bar) or in_bar[0] > RULE_PX:
        return 0
    gaps = np.flatnonzero(np.diff(in_bar) > RULE_PX)
    end = int(in_bar[gaps[0]] if len(gaps) else in_bar[-1]) + 1
    if not max(LEAST_BAR_PX, LEAST_BAR_SHARE * height) <= end <= reach - RULE_PX:
        return 0
    strip = picture[:end]
    text = np.abs(strip - level) > TEXT
    lettered = (_borders(text) >= TEXT_EDGES).sum()
    beyond = flat[end : end + 4 * RULE_PX]
    if (
        lettered < TEXT_LINES
        or np.median(beyond) > STRAY_SHARE
        or flat[end : height - reach].mean() > STRAY_SHARE
    ):
        return 0
    return end + _ruled(picture[end : end + RULE_PX], FLAT)


def _ruled(lines: F32, within: float) -> int:
    """How many of the first `lines` are of one grey level each: a rule may frame the bar."""
    level = np.median(lines, axis=1)[:, None]
    plain = (np.abs(lines - level) <= within).mean(axis=1) >= RULED_SHARE
    return len(plain) if plain.all() else int(np.argmin(plain))
