"""Where a burnt-in data bar lies: a strip at the top or bottom that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.frames.options import Crop

MAX_SHARE = 0.3  # of the frame's height: a larger strip at rest is the specimen, not a bar
MIN_SHARE_AT_REST = 0.85  # of a line's pixels; a clock or a reading may change
LEVELS = 255.0  # thresholds below are in 8-bit grey levels
STILL = 12.0
TEXT = 40.0  # text stands out from its background by at least this
MARGIN_PX = 4  # cut off beside text that lies on the picture without a border


def detect_bar(pictures: Sequence[npt.NDArray[Any]]) -> Crop:
    """The strips at top and bottom that hold a data bar, from at least two frames (y, x).

    A line is at rest where at least 85 % of its pixels stay the same within 12 of 255 grey
    levels in all frames. A strip of such lines along the edge is a bar where it holds text
    or a scale bar, or where one grey level fills it and all frames end at its edge with a
    step. The bar begins at that step, or, where the text lies on the picture itself, just
    beside the text. Nothing is cut where more than 30 % of the lines are at rest (a specimen
    at rest, blank frames) or fewer than two frames differ.
    """
    if len(pictures) < 2:
        return Crop()
    stack = np.stack([_levels(picture) for picture in pictures])
    low, high = stack.min(axis=0), stack.max(axis=0)
    still = (high - low) <= STILL
    at_rest = still.mean(axis=1) >= MIN_SHARE_AT_REST
    if at_rest.all():
        return Crop()
    typical = np.median(stack, axis=0)
    bottom = _strip(stack[:, ::-1], at_rest[::-1], still[::-1], typical[::-1])
    top = _strip(stack, at_rest, still, typical)
    return Crop(top=top, bottom=bottom)


def _levels(picture: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if picture.dtype == np.uint8:
        return picture.astype(np.float32)
    low, high = np.percentile(picture, (0.1, 99.9))
    scale = LEVELS / max(float(high - low), 1e-9)
    return np.clip((picture.astype(np.float32) - np.float32(low)) * np.float32(scale), 0, LEVELS)


def _strip(
    stack: npt.NDArray[np.float32],
    at_rest: npt.NDArray[np.bool_],
    still: npt.NDArray[np.bool_],
    typical: npt.NDArray[np.float32],
) -> int:
    """Height in px of the bar along the first line of `stack` (frames, y, x); 0: none."""
    height = len(at_rest)
    run = height if at_rest.all() else int(np.argmin(at_rest))
    if run < 3:
        return 0
    strip = typical[:run]
    background = np.median(strip, axis=1)
    text = (np.abs(strip - background[:, None]) > TEXT) & still[:run]
    text_lines = np.flatnonzero(text.sum(axis=1) >= 3)
    inside = int(text_lines[-1]) + 1 if len(text_lines) else 3
    edge = _edge(stack, background, inside)
    if edge is not None and edge <= MAX_SHARE * height:
        ruled = strip[edge : edge + MARGIN_PX].std(axis=1) <= STILL  # a line may frame the bar
        return edge + (len(ruled) if ruled.all() else int(np.argmin(ruled)))
    if len(text_lines) and inside + MARGIN_PX <= MAX_SHARE * height:
        return min(run, inside + MARGIN_PX)
    return 0


def _edge(
    stack: npt.NDArray[np.float32], background: npt.NDArray[np.float32], inside: int
) -> int | None:
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
