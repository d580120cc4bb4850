"""Width of lamellae as the paper counted it: a line across a region, by lamellae met."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import scipy.ndimage

NAN = float("nan")


def paper_width(
    grey: npt.NDArray[np.float32],
    bcc: npt.NDArray[np.bool_] | None,
    region: npt.NDArray[np.bool_],
) -> float:
    """Lamella width in px of one lamellar region (y, x), as the paper measured it.

    A line through the centre of the region's minimum-area rectangle runs along the mean
    normal of the lamellae from side to side; its length is divided by the number of lamellae
    (of both phases) met on it. Phases are told apart by `bcc`, or, without it, by the line's
    mean grey level. NaN where the line meets fewer than three lamellae. Lang et al., CEMI.
    """
    (cx, cy), (width, height), angle = cv2.minAreaRect(_ends(region))
    normal = _normal_angle(grey, region)
    turned = normal - np.deg2rad(angle)
    reach = min(
        width / 2 / max(abs(np.cos(turned)), 1e-9), height / 2 / max(abs(np.sin(turned)), 1e-9)
    )
    t = np.linspace(-reach, reach, max(2, round(8 * reach)))
    y, x = cy + t * np.sin(normal), cx + t * np.cos(normal)
    on = (y >= 0) & (x >= 0) & (y <= grey.shape[0] - 1) & (x <= grey.shape[1] - 1)
    if np.count_nonzero(on) < 2:
        return NAN
    y, x = y[on], x[on]
    if bcc is None:
        line = scipy.ndimage.map_coordinates(grey, [y, x], order=1)
        dark = line < line.mean()
    else:
        dark = bcc[np.rint(y).astype(int), np.rint(x).astype(int)]
    lamellae = 1 + np.count_nonzero(dark[1:] != dark[:-1])
    length = float(np.hypot(y[-1] - y[0], x[-1] - x[0]))
    return length / lamellae if lamellae >= 3 else NAN


def _ends(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """First and last pixel (x, y) of every row of a region: all that its convex hull may touch."""
    rows = np.flatnonzero(region.any(axis=1))
    part = region[rows]
    first = part.argmax(axis=1)
    last = region.shape[1] - 1 - part[:, ::-1].argmax(axis=1)
    return np.stack([np.r_[first, last], np.r_[rows, rows]], axis=1).astype(np.int32)


def _normal_angle(grey: npt.NDArray[np.float32], region: npt.NDArray[np.bool_]) -> float:
    """Direction (radians from x towards y) in which grey levels change most in the region."""
    inside = cv2.erode(region.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)[inside].astype(np.float64)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)[inside].astype(np.float64)
    return float(0.5 * np.arctan2(2 * np.sum(gx * gy), np.sum(gx * gx - gy * gy)))
