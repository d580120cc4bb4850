"""Labels (y, x) from what annotation programs write: shapes of Labelme, annotations of COCO, masks.

Pixel (row r, column c) covers r..r+1 and c..c+1 in the coordinates of these programs and
belongs to a shape where its centre lies inside. Later shapes lie over earlier ones, and a shape
called background cuts a hole.
"""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage.draw import disk, polygon

from cemi_dask.errors import InputError, MissingExtraError
from cemi_dask.segment.training.patches import UNKNOWN, Uint8

Mask = npt.NDArray[np.bool_]
# What a shape may be called besides a label; the spellings with underscores are Labelme's own.
BACKGROUND, IGNORED = ("background", "_background_"), ("unknown", "__ignore__")
SHIFT = 4  # bits of subpixel position in OpenCV's drawing


@dataclass(frozen=True)
class LabelNames:
    """The labels of a training, and what names in files stand for.

    `labels` get the numbers 1, 2, ...; `rename` maps a file's name to a label, to background
    or to unknown.
    """

    labels: tuple[str, ...]
    rename: Mapping[str, str]

    def number(self, name: str, where: str) -> int:
        """The number of a name in the file `where`. Raises InputError for one not known."""
        called = self.rename.get(name, name)
        if called in self.labels:
            return 1 + self.labels.index(called)
        if called in BACKGROUND:
            return 0
        if called in IGNORED:
            return UNKNOWN
        raise InputError(
            f"{where}: nothing is known of the label {name!r}; the labels are "
            f"{', '.join(self.labels)}. Correct it, or say in data.rename what it stands for: a "
            "label, background or unknown."
        )


# ---------------------------------------------------------------- Labelme


def labelme_labels(
    shapes: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    names: LabelNames,
    *,
    line_width_px: int | None = None,
    where: str,
) -> Uint8:
    """Labels of a picture of `shape` from the `shapes` of a Labelme file.

    Polygons, rectangles, circles and masks; lines only with a width. Raises InputError for
    other shapes, for one that is damaged, and for an unknown label; `where` names the file.
    """
    labels = np.zeros(shape, np.uint8)
    for number, each in enumerate(shapes, 1):
        place = f"{where}, shape {number}"
        value = names.number(str(each.get("label")), place)
        labels[_labelme_mask(each, shape, line_width_px, place)] = value
    return labels


def _labelme_mask(
    each: Mapping[str, Any], shape: tuple[int, int], line_width_px: int | None, place: str
) -> Mask:
    kind = each.get("shape_type") or "polygon"
    points = _points(each.get("points"), place)
    if kind == "polygon" and len(points) >= 3:
        return polygon_mask(points, shape)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return polygon_mask(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), shape)
    if kind == "rectangle" and len(points) == 4:  # as newer versions write it
        return polygon_mask(points, shape)
    if kind == "circle" and len(points) == 2:
        return _circle_mask(points, shape)
    if kind in ("linestrip", "line") and len(points) >= 2:
        return _line_mask(points, shape, line_width_px, f"{place} is a {kind}")
    if kind == "mask" and len(points) == 2:
        return _pasted_mask(each.get("mask"), points, shape, place)
    known = "polygon, rectangle, circle, mask, and linestrip with data.line_width_px"
    raise InputError(
        f"{place}: a {kind} of {len(points)} point(s) has no area. Shapes may be {known}."
    )


def _points(values: Any, place: str) -> npt.NDArray[np.float64]:
    try:
        points = np.asarray(values, np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: its points are no pairs of numbers ({error}).") from error
    if not np.isfinite(points).all():
        raise InputError(f"{place}: its points are not finite.")
    return points


def polygon_mask(points: npt.NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """True for the pixels whose centre lies in a polygon of points (x, y)."""
    mask = np.zeros(shape, bool)
    mask[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, shape)] = True
    return mask


def _circle_mask(points: npt.NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """A circle from its centre and a point on it."""
    mask = np.zeros(shape, bool)
    radius = float(np.hypot(*(points[1] - points[0])))
    if radius > 0:
        mask[disk((points[0, 1] - 0.5, points[0, 0] - 0.5), radius, shape=shape)] = True
    return mask


def _line_mask(
    points: npt.NDArray[np.float64], shape: tuple[int, int], width_px: int | None, what: str
) -> Mask:
    if width_px is None:
        raise InputError(
            f"{what}, which has no area. Set data.line_width_px to draw it that wide, or draw "
            "polygons."
        )
    canvas = np.zeros(shape, np.uint8)
    path = np.rint((points - 0.5) * 2**SHIFT).astype(np.int32)
    cv2.polylines(canvas, [path], False, 1, width_px, cv2.LINE_8, SHIFT)
    return np.asarray(canvas != 0)


def _pasted_mask(
    text: Any, points: npt.NDArray[np.float64], shape: tuple[int, int], place: str
) -> Mask:
    """A mask given as a PNG of its bounding box, whose corners (both inside) are `points`."""
    x0, y0, x1, y1 = (int(v) for v in np.rint(points).ravel())
    png = decode_base64(text, place)
    found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) if png else None
    if found is None or found.shape != (y1 - y0 + 1, x1 - x0 + 1):
        size = "no picture" if found is None else f"{found.shape[1]} x {found.shape[0]} px"
        raise InputError(
            f"{place}: its mask is {size}, its box {x1 - x0 + 1} x {y1 - y0 + 1} px. Draw it again."
        )
    mask = np.zeros(shape, bool)
    top, left = max(0, y0), max(0, x0)
    inside = np.asarray(found)[top - y0 :, left - x0 :] != 0
    target = mask[top : y1 + 1, left : x1 + 1]
    target |= inside[: target.shape[0], : target.shape[1]]
    return mask


def decode_base64(text: Any, place: str) -> bytes:
    """The bytes of a base64 text in an annotation. Raises InputError where it is none."""
    if not isinstance(text, str):
        raise InputError(f"{place}: where a picture should be there is a {type(text).__name__}.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{place}: its picture is no base64 ({error}).") from error


# ---------------------------------------------------------------- COCO


def coco_labels(
    annotations: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    numbers: Mapping[int, int],
    *,
    where: str,
) -> Uint8:
    """Labels of a picture of `shape` from its COCO `annotations`: polygons and run lengths.

    `numbers` maps a category's id to a label. Raises InputError for an annotation that is
    damaged or of another picture's size, MissingExtraError without pycocotools.
    """
    coco = _import_coco()
    labels = np.zeros(shape, np.uint8)
    for each in annotations:
        place = f"{where}, annotation {each.get('id')}"
        value = numbers.get(each.get("category_id", -1))
        if value is None:
            raise InputError(f"{place}: there is no category {each.get('category_id')!r}.")
        labels[_coco_mask(coco, each.get("segmentation"), shape, place)] = value
    return labels


def _coco_mask(coco: Any, given: Any, shape: tuple[int, int], place: str) -> Mask:
    height, width = shape
    if isinstance(given, Mapping) and list(given.get("size", ())) != [height, width]:
        raise InputError(
            f"{place}: its run lengths are for {given.get('size')} px (height, width), the "
            f"picture has {[height, width]}."
        )
    if not given:
        raise InputError(f"{place}: it has no segmentation. Boxes alone label no pixels.")
    try:
        if isinstance(given, Mapping):
            packed = isinstance(given["counts"], str | bytes)
            runs = dict(given) if packed else coco.frPyObjects(dict(given), height, width)
        else:
            runs = coco.merge(coco.frPyObjects(list(given), height, width))
        mask = coco.decode(runs)
    except Exception as error:  # pycocotools raises whatever its parts raise
        raise InputError(f"{place}: its segmentation cannot be read ({error}).") from error
    return np.asarray(mask != 0)


def _import_coco() -> Any:
    try:
        return importlib.import_module("pycocotools.mask")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "pycocotools is not installed, which COCO annotations need: "
            "pip install 'cemi-dask[train]'."
        ) from error


# ---------------------------------------------------------------- masks


def mask_labels(
    mask: npt.NDArray[Any], names: LabelNames, values: Mapping[int, str], *, where: str
) -> Uint8:
    """Labels of a mask picture (y, x) whose grey levels mean labels.

    `values` says which level means what (a label, background, unknown). Without it, with one
    label any level but 0 means it, and with several the level is the label's number. Raises
    InputError for a level that means nothing.
    """
    if not values and len(names.labels) == 1:
        return np.asarray(mask != 0, np.uint8)
    known: dict[int, int] = {0: 0} | {k: k for k in range(1, len(names.labels) + 1)}
    if values:
        known = {0: 0} | {level: names.number(name, where) for level, name in values.items()}
    found = [int(level) for level in np.unique(mask)]
    strange = [level for level in found if level not in known]
    if strange:
        raise InputError(
            f"{where}: the grey level(s) {', '.join(map(str, strange[:5]))} stand for nothing. Say "
            "in data.values what they mean."
        )
    labels = np.zeros(mask.shape, np.uint8)
    for level in found:
        labels[mask == level] = known[level]
    return labels
