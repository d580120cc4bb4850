"""Labels from Labelme's shapes, COCO's annotations and mask pictures."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import pytest

from cemi_dask.errors import InputError
from cemi_dask.segment.annotations import LabelNames, coco_labels, labelme_labels, mask_labels

NAMES = LabelNames(("lamellar", "dendrite"), {"lam": "lamellar", "dirt": "background"})
SHAPE = (40, 60)


def shape(label: str, kind: str, points: list, **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, **more}


def drawn(*shapes: dict[str, Any], **options: Any) -> np.ndarray:
    return labelme_labels(shapes, SHAPE, NAMES, where="a.json", **options)


def png(mask: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()


def test_a_rectangle_and_a_polygon_cover_whole_pixels() -> None:
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[10:20, 5:30] = 1
    corners = [[5, 10], [30, 20]]
    np.testing.assert_array_equal(drawn(shape("lamellar", "rectangle", corners)), wanted)
    np.testing.assert_array_equal(drawn(shape("lam", "rectangle", corners[::-1])), wanted)
    ring = [[5, 10], [30, 10], [30, 20], [5, 20]]
    for kind in ("polygon", "rectangle"):
        np.testing.assert_array_equal(drawn(shape("lamellar", kind, ring)), wanted)
    shifted = [[x + 0.4, y - 0.4] for x, y in ring]  # the same pixel centres lie inside
    np.testing.assert_array_equal(drawn(shape("lamellar", "polygon", shifted)), wanted)


def test_a_circle_is_centre_and_a_point_on_it() -> None:
    found = drawn(shape("dendrite", "circle", [[30, 20], [40, 20]]))
    y, x = np.mgrid[:40, :60] + 0.5
    inside = np.hypot(y - 20, x - 30) < 10
    np.testing.assert_array_equal(found == 2, inside)


def test_later_shapes_overwrite_and_background_cuts_holes() -> None:
    found = drawn(
        shape("lamellar", "rectangle", [[0, 0], [60, 40]]),
        shape("dendrite", "rectangle", [[10, 10], [30, 30]]),
        shape("background", "rectangle", [[15, 15], [20, 20]]),
        shape("dirt", "rectangle", [[40, 0], [42, 2]]),
        shape("unknown", "rectangle", [[50, 30], [60, 40]]),
    )
    assert [found[5, 5], found[12, 12], found[17, 17], found[1, 41]] == [1, 2, 0, 0]
    assert (found[30:, 50:] == 255).all()


def test_a_mask_is_pasted_into_its_box() -> None:
    mask = np.zeros((11, 6), np.uint8)
    mask[3:5, 1:4] = 1
    found = drawn(shape("lamellar", "mask", [[20, 5], [25, 15]], mask=png(mask)))
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[8:10, 21:24] = 1
    np.testing.assert_array_equal(found, wanted)
    outside = drawn(shape("lamellar", "mask", [[-2, 5], [3, 15]], mask=png(mask)))
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[8:10, :2] = 1
    np.testing.assert_array_equal(outside, wanted)


def test_lines_need_a_width() -> None:
    line = shape("lamellar", "linestrip", [[10, 20.5], [50, 20.5]])
    with pytest.raises(InputError, match=r"shape 1 is a linestrip.*line_width_px"):
        drawn(line)
    found = drawn(line, line_width_px=3)
    assert (found[19:22, 12:48] == 1).all()
    assert not found[:18].any()
    assert not found[23:].any()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (shape("lamellar", "point", [[1, 2]]), "a point of 1 point"),
        (shape("lamellar", "polygon", [[1, 2], [3, 4]]), "polygon of 2 point"),
        (shape("lamela", "rectangle", [[1, 2], [3, 4]]), "the label 'lamela'.*lamellar, dendrite"),
        (shape("lamellar", "polygon", [["a", 2]]), "no pairs of numbers"),
        (shape("lamellar", "polygon", [[float("nan"), 2]] * 3), "not finite"),
        (shape("lamellar", "mask", [[1, 2], [3, 4]]), "there is a NoneType"),
        (shape("lamellar", "mask", [[1, 2], [3, 4]], mask="%%"), "no base64"),
        (shape("lamellar", "mask", [[1, 2], [3, 4]], mask="AAAA"), "its mask is no picture"),
        (
            shape("lamellar", "mask", [[1, 2], [3, 4]], mask=png(np.ones((4, 3), np.uint8))),
            "its mask is 3 x 4 px, its box 3 x 3",
        ),
    ],
)
def test_shapes_that_cannot_be_used_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=f"a.json, shape 1.*{told}"):
        drawn(wrong)


def test_coco_polygons_and_run_lengths() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    inside = np.zeros(SHAPE, np.uint8, order="F")
    inside[10:20, 30:50] = 1
    packed = coco.encode(inside)
    runs = [30 * 40 + 10, *([10, 30] * 19), 10, 20 + 10 * 40]  # down the columns
    square = [[5.0, 10.0, 25.0, 10.0, 25.0, 20.0, 5.0, 20.0]]
    for segmentation in (
        {"size": [40, 60], "counts": packed["counts"].decode()},
        {"size": [40, 60], "counts": runs},
    ):
        found = coco_labels(
            [
                {"id": 1, "category_id": 7, "segmentation": square},
                {"id": 2, "category_id": 9, "segmentation": segmentation},
            ],
            SHAPE,
            {7: 1, 9: 2},
            where="coco.json",
        )
        wanted = 2 * inside
        wanted[10:20, 5:25] = 1
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"category_id": 8, "segmentation": [[0, 0, 5, 0, 5, 5]]}, "no category 8"),
        ({"category_id": 7, "bbox": [0, 0, 4, 4]}, "no segmentation"),
        ({"category_id": 7, "segmentation": {"size": [4, 6], "counts": [24]}}, r"\[40, 60\]"),
        ({"category_id": 7, "segmentation": ["text"]}, "cannot be read"),
    ],
)
def test_annotations_that_cannot_be_used_are_named(wrong: dict[str, Any], told: str) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(InputError, match=f"coco.json, annotation 3.*{told}"):
        coco_labels([{"id": 3, **wrong}], SHAPE, {7: 1}, where="coco.json")


def test_levels_of_masks_mean_labels() -> None:
    mask = np.array([[0, 128], [255, 0]], np.uint8)
    one = LabelNames(("lamellar",), {})
    assert mask_labels(mask, one, {}, where="m").tolist() == [[0, 1], [1, 0]]
    values = {128: "dendrite", 255: "unknown"}
    assert mask_labels(mask, NAMES, values, where="m").tolist() == [[0, 2], [255, 0]]
    assert mask_labels(mask // 127, NAMES, {}, where="m").tolist() == [[0, 1], [2, 0]]
    with pytest.raises(InputError, match=r"m\.png: the grey level\(s\) 128, 255 stand for nothing"):
        mask_labels(mask, NAMES, {}, where="m.png")
