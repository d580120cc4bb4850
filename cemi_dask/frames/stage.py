"""Where tiles lie by the stage positions that their files state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames.images import read_image
from cemi_dask.frames.motion import look_at, measure_motion, reduction
from cemi_dask.frames.options import Crop, TileOptions

PAIRS = 6  # neighbours along each axis that are asked for its direction
LEAST_SCORE = 0.15  # correlation of the shared parts from which on a pair has a say
LEAST_AGREEING = 0.5  # of the pairs must have one direction
SAME_PLACE = 0.02  # of a frame: tiles nearer to each other show one place, not neighbours
ACROSS = 0.3  # of a frame: neighbours along an axis differ less in the other one
STRAY = 0.1  # of the tiles may lie apart from all others
LEAST_SHARED = 0.03  # of a frame: less is too narrow to be matched

Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
StageUm = Sequence[tuple[float, float] | None]


@dataclass(frozen=True)
class StageLayout:
    """Corners of tiles in px (x to the right, y down, from 0), and in words where from.

    `doubt` says why they should not be used unasked; empty: nothing speaks against them.
    """

    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    how: str
    doubt: str = ""


def stage_layout(
    files: Sequence[str],
    stage_um: StageUm,
    *,
    pixel_um: float | None,
    framing: tuple[tuple[int, int], Crop],
    options: TileOptions,
) -> StageLayout:
    """The layout that the stage positions in the files give; `framing`: file size, crop.

    Which way x and y grow differs between microscopes: it is asked of the overlaps of a few
    neighbours, unless `options` state it. Raises ConfigError without a pixel size, InputError
    where a file states no position.
    """
    missing = [file for file, place in zip(files, stage_um, strict=True) if place is None]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} tiles state no stage position, the first "
            f"{missing[0]}. Give a table as tiles.positions, or leave them out."
        )
    if pixel_um is None:
        raise ConfigError(
            "The files state stage positions, and no pixel size is known to turn them into px. "
            "Set input.pixel_um."
        )
    size, crop = framing
    shape = crop.shape(size)
    places = np.array(stage_um, np.float64) / pixel_um
    doubt = implausible(places, shape)
    signs, told = [], []
    for axis, given in ((0, options.position_x), (1, options.position_y)):
        words = ("right", "left") if axis == 0 else ("down", "up")
        sign, why = _given(given, words)
        if given == "auto" and not doubt:
            sign, why = _by_overlap(files, places, axis, (shape, crop))
        doubt = doubt or ("the pictures do not overlap as they say" if sign == 0 else "")
        sign = sign or 1
        signs.append(sign)
        told.append(f"{'xy'[axis]} grows {words[0] if sign > 0 else words[1]}{why}")
    placed = places * np.array(signs, np.float64)
    placed -= placed.min(axis=0)
    how = f"stage positions from the files' metadata, {' and '.join(told)}"
    return StageLayout(placed[:, 0], placed[:, 1], how, doubt)


def implausible(places_px: npt.NDArray[np.float64], shape: tuple[int, int]) -> str:
    """Why positions (n, 2: x, y in px) cannot be those of overlapping tiles; empty: they can.

    Nearly every tile must overlap another one, and tiles must not all show the same place.
    """
    if len(places_px) < 2:
        return "there is one tile only"
    scaled = places_px / np.array((shape[1], shape[0]), np.float64)
    nearest = cKDTree(scaled).query(scaled, k=2, p=np.inf)[0][:, 1]
    if float(np.median(nearest)) < SAME_PLACE:
        return "they are the same for all tiles, or nearly so"
    apart = int((nearest >= 1.0).sum())
    if apart > STRAY * len(nearest):
        return f"by them {apart} of {len(nearest)} tiles overlap no other"
    return ""


def _given(given: str, words: tuple[str, str]) -> tuple[int, str]:
    return (-1 if given == words[1] else 1), ("" if given == "auto" else " (as set)")


def _by_overlap(
    files: Sequence[str],
    places_px: npt.NDArray[np.float64],
    axis: int,
    framing: tuple[tuple[int, int], Crop],
) -> tuple[int, str]:
    """(+1 or -1, in words why): the direction in which neighbours along an axis overlap.

    0 where there are such neighbours and fewer than half of them overlap in one direction.
    """
    shape, crop = framing
    pairs = _neighbours(places_px, axis, shape)
    if not pairs:
        return 1, " (assumed: no neighbours along it)"
    forth = back = 0
    for i, j in pairs:
        first, second = (_picture(files[n], crop) for n in (i, j))
        if axis == 1:
            first, second = first.T, second.T
        shared = first.shape[1] - round(float(places_px[j, axis] - places_px[i, axis]))
        ahead = _score(first[:, -shared:], second[:, :shared])
        behind = _score(second[:, -shared:], first[:, :shared])
        forth += ahead > behind
        back += behind > ahead
    if max(forth, back) < LEAST_AGREEING * len(pairs) or forth == back:
        return 0, ""
    return (1 if forth > back else -1), " (as the tiles overlap)"


def _picture(file: str, crop: Crop) -> npt.NDArray[Any]:
    picture = read_image(file)
    return picture[crop.kept((picture.shape[0], picture.shape[1]))]


def _score(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Correlation of what two tiles should share; 0: nothing, or at quite another place."""
    factor = reduction((first.shape[0], first.shape[0]))
    factor = min(factor, max(1, first.shape[1] // 16))
    looks = [look_at(np.ascontiguousarray(part), factor=factor) for part in (first, second)]
    motion = measure_motion(looks[0], looks[1], min_score=LEAST_SCORE)
    if motion is None or abs(motion.dy_px) > (ACROSS + 0.1) * first.shape[0]:
        return 0.0
    return motion.score if abs(motion.dx_px) <= first.shape[1] / 2 else 0.0


def _neighbours(
    places_px: npt.NDArray[np.float64], axis: int, shape: tuple[int, int]
) -> list[tuple[int, int]]:
    """Pairs (i, j), j further along the axis, that share a strip across it; spread over all."""
    scaled = places_px / np.array((shape[1], shape[0]), np.float64)
    pairs = cKDTree(scaled).query_pairs(1.0 - LEAST_SHARED, p=np.inf, output_type="ndarray")
    steps = scaled[pairs[:, 1]] - scaled[pairs[:, 0]]
    along, across = np.abs(steps[:, axis]), np.abs(steps[:, 1 - axis])
    kept = (along > 0.3) & (across < ACROSS)
    pairs, steps = pairs[kept], steps[kept]
    ordered = np.where(steps[:, axis, None] > 0, pairs, pairs[:, ::-1])
    ordered = ordered[np.lexsort((ordered[:, 1], ordered[:, 0]))]
    chosen = np.unique(np.linspace(0, len(ordered) - 1, PAIRS).round().astype(int))
    return [(int(ordered[k, 0]), int(ordered[k, 1])) for k in chosen] if len(ordered) else []
