"""The report shows what was cut off the recorded pictures, and the flat field or why none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cemi_dask.frames import Crop, FlatField
from cemi_dask.frames.shading import TERMS
from cemi_dask.report import ReportOptions, write_report
from cemi_dask.report.frame_section import crop_figure, flat_field_figure
from cemi_dask.report.style import drawing

QUICK = ReportOptions(figure_dpi=72, page_dpi=72)
SIZE = (240, 320)


def field(*, applied: bool = True) -> FlatField:
    coefficients = [0.0] * len(TERMS)
    coefficients[TERMS.index((2, 0))] = -0.01
    note = "shading of 6.0% peak to valley" if applied else "not applied: 3 usable frames"
    return FlatField((200, 320), tuple(coefficients), 0.06, 0.001, 24, 20, applied, note)


def page_of(out: Path, crop: Crop, **facts: Any) -> str:
    (out / "figures").mkdir(parents=True)
    sample = np.random.default_rng(0).integers(60, 200, (120, 160)).astype(np.uint8)
    cv2.imwrite(str(out / "figures" / "recorded.png"), sample)
    notes = ["data bar cropped: 40 px at the bottom"] if crop.bottom else []
    known = {"crop": crop.model_dump(), "recorded_shape": list(SIZE), "notes": notes}
    (out / "run.json").write_text(json.dumps({"name": "x", "input": known, **facts}))
    return write_report(out, options=QUICK).read_text(encoding="utf-8")


def test_the_crop_is_drawn_on_a_sample_and_told(tmp_path: Path) -> None:
    page = page_of(tmp_path, Crop(bottom=40), flat_field=field().as_json())
    assert "Data bar cropped: 40 px at the bottom." in page
    assert "Orange: cut off." in page
    assert "Flat field: frames are divided by their common shading of 6.0% peak to valley" in page
    for name in ("frames", "flat-field", "recorded"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_why_nothing_was_done_is_told(tmp_path: Path) -> None:
    page = page_of(tmp_path / "few", Crop(), flat_field=field(applied=False).as_json())
    assert "Nothing is cut off." in page
    assert "Flat field not applied: 3 usable frames." in page
    assert not (tmp_path / "few" / "figures" / "flat-field.png").exists()
    page = page_of(tmp_path / "off", Crop(left=7))
    assert "Cut off as configured: 7 px at the left." in page
    assert "No flat field was estimated (frames.flat_field: none)." in page


def test_strips_that_are_cut_off_lie_where_the_crop_says() -> None:
    sample = np.full(SIZE, 100, np.uint8)
    sample[::2] = 140
    with drawing():
        figure = crop_figure(sample, SIZE, Crop(top=30, bottom=60, left=10))
    boxes = [p.get_bbox().extents.round().tolist() for p in figure.axes[0].patches]
    assert boxes[:-1] == [[0, 0, 320, 30], [0, 180, 320, 240], [0, 30, 10, 180]]
    assert boxes[-1] == [10, 30, 320, 180]  # what is kept


def test_the_flat_field_is_drawn_in_percent_of_the_mean() -> None:
    with drawing():
        figure = flat_field_figure(field())
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    true = 100 / field().gain()
    assert drawn.mean() == pytest.approx(100, abs=1e-3)
    # every eighth pixel is drawn: the steepest slope makes 0.2 % of that
    assert np.ptp(drawn) == pytest.approx(np.ptp(true), abs=0.3)
