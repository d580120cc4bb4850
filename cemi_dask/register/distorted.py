"""Overlaps that are distorted: displacements of their parts, and the one typical of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cv2 import TM_CCOEFF_NORMED, matchTemplate

from cemi_dask.geometry import Box
from cemi_dask.overlap import LocalShifts
from cemi_dask.register.correlate import find_peaks, overlap_boxes, row_dot
from cemi_dask.register.prepare import Image, Prepared
from cemi_dask.register.refine import Refined, parts_of, refine
from cemi_dask.resample import reach_px

Floats = npt.NDArray[np.float64]

_PART_PX = 32  # side of a part: hardly distorted in itself, and wide enough to be found
_REACH_PX = 12  # how far a part may lie from where the overlap as a whole has it
_MIN_SCORE = 0.5  # of a part that is believed
_MIN_PARTS = 16  # fewer do not tell where their middle lies
_TOGETHER_PX = 3.0  # from the typical displacement: a part of a distorted overlap
_TELLING = 0.05  # of an overlap's variance: less structure than that need not agree

_FAR_PX = 1.5  # a part that one step moves farther was not where a step can tell
_LINEAR_PX = 0.1  # rms distortion up to which one linear step tells where parts lie


def local_shifts(fixed: Prepared, moving: Prepared, found: Refined, *, steps: int) -> LocalShifts:
    """Displacements of the parts of an overlap whose displacement as a whole is `found`.

    They follow from the forces that its refinement leaves on the parts; where parts are
    farther off than these are proportional to, each part is refined by itself in `steps`.
    """
    parts = parts_of(found)
    box, (rows, columns) = parts.box, parts.grid
    start = np.array([found.dx_px, found.dy_px])
    near = np.abs(parts.off_px).max(axis=1) <= _FAR_PX
    shift, information = start + parts.off_px, parts.information * near[:, None, None]
    if found.distortion_px > _LINEAR_PX:
        y, x = (
            np.linspace(a, b, n + 1).round().astype(int)
            for a, b, n in ((box.y0, box.y1, rows), (box.x0, box.x1, columns))
        )
        information = np.zeros_like(information)
        for k in range(rows * columns):
            r, c = divmod(k, columns)
            part = Box(int(y[r]), int(x[c]), int(y[r + 1]), int(x[c + 1]))
            fine = refine(fixed, moving, (start[0], start[1]), steps=steps + 6, part=part)
            if fine is not None:  # else it tells nothing
                shift[k] = fine.dx_px, fine.dy_px
                information[k] = np.linalg.pinv(fine.covariance_px2, hermitian=True)
    return LocalShifts.pack(box, (rows, columns), shift, information)


def explained(fixed: Prepared, moving: Prepared, found: Refined) -> float | None:
    """The part of the structure in the overlap that agrees at the displacement `found`; 1: all.

    Noisy looks at one place correlate by sqrt(q_1 q_2), with q the part of each one's variance
    that is not white noise: the score is compared with that. None where hardly any structure is.
    """
    structure = [
        1 - frame.noise_variance(frame.smooth_px) / max(variance, 1e-9)
        for frame, variance in zip((fixed, moving), found.variances, strict=True)
    ]
    if min(structure) < _TELLING:
        return None
    return found.score / float(np.sqrt(structure[0] * structure[1]))


def _match(part: Image, moving: Prepared, around: Box) -> tuple[float, float, float]:
    """Where in `around`, which is wider by the reach all around, the smoothed frame shows `part`
    best: (dx, dy) px off the middle, and the normalised cross-correlation there."""
    match = matchTemplate(moving.gradients.value[around.slices], part, TM_CCOEFF_NORMED)
    px, py, height = find_peaks(np.asarray(match, np.float32), 1)[0]
    return px - _REACH_PX, py - _REACH_PX, height


@dataclass(frozen=True)
class Typical:
    """A displacement px, and how many of the overlap's parts (0..1) lie within 3 px of it."""

    dx_px: float
    dy_px: float
    together: float


def typical_displacement(
    fixed: Prepared, moving: Prepared, start: tuple[float, float]
) -> Typical | None:
    """The displacement near `start` (dx, dy) px from which structure is least far off.

    Where parts are displaced by more than structure is wide, the squared difference of the
    pictures no longer grows with the miss, and least squares follows whichever part it meets
    first. So every part is measured by itself, and the weighted median taken along each
    axis: it minimises the sum of absolute misses (Laplace 1818), each part with the weight
    it has in least squares. None where too few parts are found again.
    """
    local, weight, parts = local_displacements(fixed, moving, (round(start[0]), round(start[1])))
    if len(local) < _MIN_PARTS or not weight.any(axis=0).all():
        return None
    dx, dy = (
        float(np.quantile(local[:, k], 0.5, weights=weight[:, k], method="inverted_cdf"))
        for k in (0, 1)
    )
    near = np.hypot(local[:, 0] - dx, local[:, 1] - dy) <= _TOGETHER_PX
    return Typical(dx, dy, np.count_nonzero(near) / parts)


def local_displacements(
    fixed: Prepared, moving: Prepared, whole: tuple[int, int]
) -> tuple[Floats, Floats, int]:
    """Displacements (m, 2) px of the parts found again near `whole`, their weights (m, 2), and
    how many parts were sought.

    A part lies where the normalised cross-correlation of the smoothed frames peaks. Its
    weight along an axis is the sum of products of both frames' derivatives where they match:
    what their squares would say of the structure, but free of noise, which both have apart.
    """
    inset = reach_px(fixed.smooth_px) + _REACH_PX + max(_askew_px(fixed), _askew_px(moving))
    box = overlap_boxes(fixed.shape, *whole, inset_px=inset)[0]
    a, b = fixed.gradients, moving.gradients
    local, weight, sought = [], [], 0
    for y in range(box.y0, box.y1 - _PART_PX + 1, _PART_PX):
        for x in range(box.x0, box.x1 - _PART_PX + 1, _PART_PX):
            sought += 1
            part = Box(y, x, y + _PART_PX, x + _PART_PX)
            around = part.shift(-whole[1], -whole[0]).expand(_REACH_PX)
            dx, dy, height = _match(a.value[part.slices], moving, around)
            if height < _MIN_SCORE or max(abs(dx), abs(dy)) >= _REACH_PX:
                continue
            local.append((whole[0] - dx, whole[1] - dy))
            found = around.shift(_REACH_PX + round(dy), _REACH_PX + round(dx))
            there = Box(found.y0, found.x0, found.y0 + _PART_PX, found.x0 + _PART_PX).slices
            products = (
                row_dot(a.along_x[part.slices], b.along_x[there]),
                row_dot(a.along_y[part.slices], b.along_y[there]),
            )
            weight.append(np.maximum(products, 0.0))
    return np.array(local).reshape(-1, 2), np.array(weight).reshape(-1, 2), sought


def _askew_px(frame: Prepared) -> int:
    """How far the lines of a rectified frame stop short of its sides, at most."""
    return 0 if frame.offsets_px is None else int(np.ceil(np.abs(frame.offsets_px).max()))
