"""What a video file is, before any picture of it is looked at: `video_facts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cemi_dask.frames.video import index_video, open_video

EVEN = 0.3  # of the median step, by which those of a constant frame rate may differ


def video_facts(path: str | Path) -> dict[str, Any]:
    """Codec, depth, size, frame rate and number of frames of a video, as plain JSON.

    Keys: ``bytes``, ``container``, ``codec``, ``lossless``, ``pixel_format``, ``bits`` (per
    sample), ``width_px``, ``height_px``, ``fps`` (by the time stamps, else by the header; None:
    neither), ``rate`` ("constant", "variable" or "unknown"), ``step_min_s`` and ``step_max_s``
    (between frames), ``announced`` (frames by the header; None: it does not say), ``recorded``
    (by the packets, missing ones included), ``key_frames``, ``duration_s`` (of what is there)
    and ``problems`` in words. Packets are read, none is decoded. Raises UnreadableError.
    """
    index = index_video(path)
    with open_video(path) as (container, stream):
        context, codec = stream.codec_context, stream.codec_context.codec
        pixels = context.format
        facts: dict[str, Any] = {
            "bytes": Path(path).stat().st_size,
            "container": container.format.name.partition(",")[0],
            "codec": codec.canonical_name,
            "lossless": None if codec.lossy == codec.lossless else bool(codec.lossless),
            "pixel_format": pixels.name if pixels else None,
            "bits": max((part.bits for part in pixels.components), default=8) if pixels else None,
            "width_px": int(context.width) or None,
            "height_px": int(context.height) or None,
            "announced": int(stream.frames) or None,
            "recorded": index.recorded,
            "key_frames": len(index.key_pts),
            "problems": list(index.problems),
        }
        stated = float(stream.average_rate) if stream.average_rate else None
        stamps = np.asarray(index.pts, np.float64) * float(stream.time_base or 0)
    return {**facts, **_timing(stamps, np.asarray(index.numbers), stated)}


def _timing(stamps_s: Any, numbers: Any, stated: float | None) -> dict[str, Any]:
    """Frame rate and duration from the time stamps (s) of the frames `numbers`."""
    steps = np.diff(stamps_s)
    if not len(steps) or not (steps > 0).all():
        return {"fps": stated, "rate": "unknown", "step_min_s": None, "step_max_s": None,
                "duration_s": None}  # fmt: skip
    # Where frames are missing a step spans several numbers.
    each = steps / np.diff(numbers)
    usual = float(np.median(each))
    even = bool((np.abs(each - usual) <= EVEN * usual).all())
    span = float(stamps_s[-1] - stamps_s[0])
    return {
        "fps": float(numbers[-1] - numbers[0]) / span,
        "rate": "constant" if even else "variable",
        "step_min_s": float(steps.min()),
        "step_max_s": float(steps.max()),
        "duration_s": span + usual,
    }
