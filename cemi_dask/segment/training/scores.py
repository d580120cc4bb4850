"""How well labels agree with a truth: IoU, Dice, and F1 of the boundaries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.segment.training.patches import UNKNOWN, Uint8

BOUNDARY_PX = 3  # how far a boundary may lie from the true one


@dataclass(frozen=True)
class Scores:
    """Agreement on one label; NaN where neither picture shows it (`boundary_f1`: no boundary)."""

    iou: float
    dice: float
    boundary_f1: float


def scores(pairs: Iterable[tuple[Uint8, Uint8]], label: int) -> Scores:
    """Agreement of (found, truth) pictures (y, x), all their pixels together, on `label`.

    Pixels whose truth is not known (255) do not count. Boundary F1 (Csurka et al. 2013) is the
    harmonic mean of the shares of either boundary that lie within 3 px of the other.
    """
    both = found_all = true_all = 0
    hits = np.zeros(4)  # found near truth, found, truth near found, truth
    for found, truth in pairs:
        known = truth != UNKNOWN
        ours, theirs = (found == label) & known, (truth == label) & known
        both += int((ours & theirs).sum())
        found_all += int(ours.sum())
        true_all += int(theirs.sum())
        hits += _boundary_hits(ours, theirs, known)
    union = found_all + true_all - both
    if not union:
        return Scores(float("nan"), float("nan"), float("nan"))
    return Scores(both / union, 2 * both / (found_all + true_all), _f1(*hits))


def _f1(near_truth: float, found: float, near_found: float, truth: float) -> float:
    if not found or not truth:
        return float("nan") if not found + truth else 0.0
    precision, recall = near_truth / found, near_found / truth
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _boundary_hits(
    ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    cross = np.ones((3, 3), np.uint8)
    inner = cv2.erode(known.astype(np.uint8), cross, borderValue=1) != 0
    edges = [
        (cv2.erode(mask.astype(np.uint8), cross, borderValue=1) == 0) & mask & inner
        for mask in (ours, theirs)
    ]
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BOUNDARY_PX + 1,) * 2)
    near = [cv2.dilate(edge.astype(np.uint8), disk) != 0 for edge in edges]
    return np.array(
        [(edges[0] & near[1]).sum(), edges[0].sum(), (edges[1] & near[0]).sum(), edges[1].sum()],
        np.float64,
    )
