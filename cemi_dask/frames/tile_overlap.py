"""How much neighbouring tiles of a known layout really share, asked of a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cemi_dask.frames.images import read_image
from cemi_dask.frames.motion import look_at, measure_motion, reduction
from cemi_dask.frames.options import Crop
from cemi_dask.frames.sources import Place

PAIRS = 6  # looked at along each axis
STRIPS = (0.5, 0.25)  # of the frame: neighbours are matched by strips of this width
LEAST_SCORE = 0.15
ACROSS = 0.3  # of the frame: neighbours along an axis differ less in the other one


def tile_overlaps(
    files: Sequence[str], places: Sequence[Place], *, size: tuple[int, int], crop: Crop
) -> dict[str, list[float | None]]:
    """Shared fraction of neighbours along ``x`` and along ``y``, measured; None: not measurable.

    A few pairs spread over the layout are matched by the halves that face each other, then by
    the quarters, in which a narrow overlap stands out more. Both lists are empty where no
    positions are known.
    """
    shape = crop.shape(size)
    x, y = (np.array([getattr(p, name) for p in places]) for name in ("x_px", "y_px"))
    scaled = np.stack([x / shape[1], y / shape[0]], axis=1)
    found: dict[str, list[float | None]] = {}
    for axis, name in ((0, "x"), (1, "y")):
        pairs = neighbours(scaled, axis)
        found[name] = [_shared(files[i], files[j], axis, crop) for i, j in pairs]
    return found


def neighbours(scaled: npt.NDArray[np.float64], axis: int) -> list[tuple[int, int]]:
    """A few pairs (i, j), j the next tile after i along `axis`; positions in frame sizes."""
    known = np.flatnonzero(np.isfinite(scaled).all(axis=1))
    if len(known) < 2:
        return []
    near = known[cKDTree(scaled[known]).query_pairs(1.0, p=np.inf, output_type="ndarray")]
    steps = scaled[near[:, 1]] - scaled[near[:, 0]]
    kept = np.abs(steps[:, 1 - axis]) < np.minimum(ACROSS, np.abs(steps[:, axis]))
    next_one: dict[int, tuple[float, int]] = {}
    for (i, j), step in zip(near[kept], steps[kept, axis], strict=True):
        first, second = (int(i), int(j)) if step > 0 else (int(j), int(i))
        best = next_one.get(first, (np.inf, -1))
        next_one[first] = min(best, (abs(float(step)), second))
    pairs = [(i, j) for i, (_, j) in sorted(next_one.items())]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, PAIRS).round().astype(int))
    return [pairs[n] for n in chosen] if pairs else []


def _shared(first: str, second: str, axis: int, crop: Crop) -> float | None:
    """The shared fraction of the second tile, right of (axis 1: below) the first."""
    pictures = [_picture(file, axis, crop) for file in (first, second)]
    for part in STRIPS:
        found = _matched(pictures[0], pictures[1], round(pictures[0].shape[1] * part))
        if found is not None:
            return found
    return None


def _matched(first: npt.NDArray[Any], second: npt.NDArray[Any], strip_px: int) -> float | None:
    """The shared fraction by the facing strips of two pictures; None where they do not match."""
    height, width = first.shape
    factor = reduction((height, max(height, width)))
    strips = first[:, width - strip_px :], second[:, :strip_px]
    looks = [look_at(np.ascontiguousarray(strip), factor=factor) for strip in strips]
    motion = measure_motion(looks[0], looks[1], min_score=LEAST_SCORE)
    if motion is None or abs(motion.dy_px) > ACROSS * height:
        return None
    shared = (strip_px - motion.dx_px) / width
    return float(shared) if 0 < shared < 1 else None


def _picture(file: str, axis: int, crop: Crop) -> npt.NDArray[Any]:
    picture = read_image(file)
    kept = picture[crop.kept((picture.shape[0], picture.shape[1]))]
    return kept if axis == 0 else kept.T
