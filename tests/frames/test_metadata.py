"""Metadata: every vendor's tag or sidecar is read in its own units; nothing is made up."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imwrite

from cemi_dask.errors import UnreadableError
from cemi_dask.frames import FrameMetadata, read_metadata
from cemi_dask.frames.metadata.fei import fei_metadata
from cemi_dask.frames.metadata.hitachi import hitachi_metadata
from cemi_dask.frames.metadata.jeol import jeol_metadata
from cemi_dask.frames.metadata.tescan import tescan_metadata
from cemi_dask.frames.metadata.zeiss import zeiss_metadata
from tests.frames.microscopes import (
    FEI,
    FEI_VALUES,
    HITACHI,
    JEOL,
    TESCAN,
    TESCAN_SEM,
    ZEISS,
    picture,
    tescan_tag,
    write_tagged,
)


def assert_states(found: FrameMetadata, expected: dict[str, Any]) -> None:
    """The metadata hold these statements (numbers to 1e-9) and no others."""
    stated = found.model_dump(exclude_none=True, exclude={"origin", "notes", "vendor"})
    assert set(stated) == set(expected)
    for name, value in expected.items():
        exact = isinstance(value, str)
        assert stated[name] == (value if exact else pytest.approx(value, rel=1e-9)), name


def zeiss(path: Path, text: str = ZEISS, **values: Any) -> FrameMetadata:
    filled = {"width": 64, "height": 40, "pixel": "12.33 nm", "x": "71.4538", **values}
    return read_metadata(write_tagged(path / "z.tif", 34118, text.format(**filled)))


def test_zeiss_tag_is_read_in_its_units(tmp_path: Path) -> None:
    found = zeiss(tmp_path)
    assert found.vendor == "Zeiss"
    assert found.notes == ()
    assert_states(
        found,
        {
            "pixel_um": 0.01233,
            "detector": "InLens",
            "accelerating_kv": 1.8,
            "magnification": 4530.0,
            "working_distance_mm": 4.5,
            "stage_x_um": 71453.8,
            "stage_y_um": 91316.1,
            "stage_z_um": 41676.0,
            "stage_rotation_deg": 113.6,
            "stage_tilt_deg": 52.6,
            "scan_rotation_deg": 0.0,  # an angle is stated, and that it is off
            "dwell_us": 0.1,
            "line_time_s": 0.07434,
            "frame_time_s": 114.0,
            "instrument": "Auriga 60",
            "acquired": "18 Apr 2016 22:42:02",
            "picture_width_px": 64,
            "picture_height_px": 40,
        },
    )


@pytest.mark.parametrize(
    ("written", "expected_um"),
    [
        ("2.615 µm", 2.615),
        ("2.615 um", 2.615),
        ("558.2 pm", 0.0005582),
        ("1.2 mm", 1200.0),
        ("0.02 cm", 200.0),
    ],
)
def test_zeiss_pixel_sizes_come_in_any_unit(
    tmp_path: Path, written: str, expected_um: float
) -> None:
    assert zeiss(tmp_path, pixel=written).pixel_um == pytest.approx(expected_um, rel=1e-9)


def test_zeiss_pixel_size_of_the_screen_is_that_of_1024_pixels(tmp_path: Path) -> None:
    text = ZEISS.replace("AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {pixel}\r\n", "")
    assert zeiss(tmp_path, text).pixel_um == pytest.approx(0.02465 * 1024 / 64)
    agrees = text + "AP_WIDTH\r\nWidth = 25.24 µm\r\n"
    assert zeiss(tmp_path, agrees).pixel_um == pytest.approx(0.02465 * 1024 / 64)
    found = zeiss(tmp_path, text + "AP_WIDTH\r\nWidth = 50.5 µm\r\n")
    assert found.pixel_um is None
    assert "contradict each other" in found.notes[0]
    only_width = text.replace("AP_PIXEL_SIZE\r\nPixel Size = 24.65 nm\r\n", "")
    only_width += "AP_WIDTH\r\nWidth = 25.24 µm\r\n"
    assert zeiss(tmp_path, only_width).pixel_um == pytest.approx(25.24 / 64)


@pytest.mark.parametrize("tag", [34680, 34682])
def test_fei_tags_are_read_from_si_units(tmp_path: Path, tag: int) -> None:
    found = read_metadata(write_tagged(tmp_path / "f.tif", tag, FEI.format(**FEI_VALUES)))
    assert found.vendor == "FEI"
    assert str(tag) in str(found.origin)
    assert_states(
        found,
        {
            "pixel_um": 0.00190805,
            "detector": "TLD",
            "accelerating_kv": 3.0,
            "magnification": 0.127 / 1.95385e-6,
            "working_distance_mm": 2.51849,
            "stage_x_um": -18329.7,
            "stage_y_um": -2521.06,
            "stage_z_um": 2499.98,
            "stage_rotation_deg": math.degrees(-2.62355),
            "stage_tilt_deg": 0.0,
            "scan_rotation_deg": 0.0,
            "dwell_us": 10.0,
            "line_time_s": 0.01024,
            "frame_time_s": 9.06,
            "instrument": "Strata DB",
            "acquired": "07/24/2020 12:08:34 PM",
            "picture_width_px": 64,
            "picture_height_px": 40,
        },
    )


def test_fei_numbers_that_are_none_leave_the_rest(tmp_path: Path) -> None:
    text = FEI.replace("WorkingDistance=0.00251849", "WorkingDistance=notafloat")
    text = text.replace("HV=3000", "HV=notafloat").replace("WD=0.00251849", "WD=")
    values = {**FEI_VALUES, "hv": "", "x": "1.2.3"}
    found = read_metadata(write_tagged(tmp_path / "f.tif", 34682, text.format(**values)))
    assert found.accelerating_kv is None
    assert found.working_distance_mm is None
    assert found.pixel_um == pytest.approx(0.00190805)
    # A wrong number gives way to the same statement in another section.
    assert found.stage_x_um == pytest.approx(-18331.2)
    told = "; ".join(found.notes)
    assert "Beam.HV is 'notafloat'" in told
    assert "Stage.WorkingDistance is 'notafloat'" in told
    assert "Stage.StageX is '1.2.3'" in told


@pytest.mark.parametrize("pixel", ["0", "-1e-9", "nan", "inf", "1e-9 kg"])
def test_impossible_pixel_sizes_are_none_with_a_note(tmp_path: Path, pixel: str) -> None:
    values = {**FEI_VALUES, "pixel": pixel, "field": ""}
    found = read_metadata(write_tagged(tmp_path / "f.tif", 34682, FEI.format(**values)))
    assert found.pixel_um is None
    assert f"PixelWidth is '{pixel}'" in "; ".join(found.notes)


def test_fei_field_width_gives_the_pixel_size_where_none_is_stated(tmp_path: Path) -> None:
    values = {**FEI_VALUES, "pixel": "", "field": "0.000128"}
    found = read_metadata(write_tagged(tmp_path / "f.tif", 34682, FEI.format(**values)))
    assert found.pixel_um == pytest.approx(128 / 64)
    assert "field width over ResolutionX" in str(found.origin)


def test_tescan_tag_is_read_between_its_binary_blocks(tmp_path: Path) -> None:
    found = read_metadata(write_tagged(tmp_path / "t.tif", 50431, tescan_tag(strip=12)))
    assert found.vendor == "TESCAN"
    assert found.notes == ()
    assert_states(
        found,
        {
            "pixel_um": 0.041,
            "detector": "SE",
            "accelerating_kv": 15.0,
            "magnification": 5000.0,
            "working_distance_mm": 10.0,
            "stage_x_um": 1230.0,
            "stage_y_um": -450.0,
            "stage_z_um": 3100.0,
            "stage_rotation_deg": 12.5,
            "stage_tilt_deg": 0.0,
            "scan_rotation_deg": 0.0,
            "dwell_us": 3.2,
            "instrument": "MIRA3 LMH",
            "acquired": "2019-03-12 10:22:13",
            "bar_height_px": 12,
        },
    )
    assert found.picture_height_in((40, 64)) == 28


def test_pixels_that_are_not_square_have_two_sizes(tmp_path: Path) -> None:
    tag = tescan_tag(pixel_y="4.2e-008")
    found = read_metadata(write_tagged(tmp_path / "t.tif", 50431, tag))
    assert (found.pixel_um, found.pixel_y_um) == pytest.approx((0.041, 0.042))


@pytest.mark.parametrize("name", ["t.hdr", "t.png.hdr", "t-png.hdr", "T.HDR"])
def test_tescan_header_files_are_found_beside_the_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.png").write_bytes(b"")
    text = f"[MAIN]\r\n{TESCAN}[SEM]\r\n{TESCAN_SEM}"
    (tmp_path / name).write_text(text.format(strip=0, pixel="4.1e-008", pixel_y="4.1e-008"))
    found = read_metadata(tmp_path / "t.png")
    assert (found.vendor, found.pixel_um, found.origin) == ("TESCAN", 0.041, name)


def jeol(folder: Path, text: str = JEOL, **values: Any) -> FrameMetadata:
    filled = {"width": 1280, "height": 960, "bar": 180, "marker": "5um", **values}
    (folder / "j.avi").write_bytes(b"")
    (folder / "j.TXT").write_text(text.format(**filled), encoding="utf-8")
    return read_metadata(folder / "j.avi")


def test_jeol_sidecar_of_a_video_is_read(tmp_path: Path) -> None:
    found = jeol(tmp_path)
    assert (found.vendor, found.notes) == ("JEOL", ())
    assert_states(
        found,
        {
            "pixel_um": 5 / 180,
            "detector": "SEI",
            "accelerating_kv": 15.0,
            "magnification": 5000.0,
            "working_distance_mm": 10.1,
            "stage_x_um": 2044.0,
            "stage_y_um": -704.0,
            "stage_z_um": 10200.0,
            "stage_rotation_deg": 11.0,
            "stage_tilt_deg": 0.0,
            "instrument": "JSM-7800F",
            "acquired": "2019/03/12 10:21:55",
            "picture_width_px": 1280,
            "picture_height_px": 960,
        },
    )


@pytest.mark.parametrize(
    ("marker", "bar", "expected_um"),
    [("100nm", 150, 0.1 / 150), ("10µm", 139, 10 / 139), ("1 mm", 100, 10.0), ("5um", 0, None)],
)
def test_jeol_micron_bars_in_any_unit(
    tmp_path: Path, marker: str, bar: int, expected_um: float | None
) -> None:
    found = jeol(tmp_path, marker=marker, bar=bar)
    assert found.pixel_um == (None if expected_um is None else pytest.approx(expected_um))


@pytest.mark.parametrize(
    ("field", "expected_um"), [("35.2000µm 26.4µm", 0.0275), ("80um 60um", 5 / 180)]
)
def test_jeol_field_of_view_counts_where_the_bar_agrees(
    tmp_path: Path, field: str, expected_um: float
) -> None:
    found = jeol(tmp_path, f"{JEOL}$CM_FIELD_OF_VIEW {field}\n")
    assert found.pixel_um == pytest.approx(expected_um)
    # 80 um on 1280 px are 0.0625 um/px; the bar says 0.0278.
    assert bool(found.notes) == (expected_um != 0.0275)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_hitachi_sidecar_is_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    imwrite(tmp_path / "h.tif", picture())
    text = HITACHI.format(pixel="9.921875", x="-52125000") + "SampleName=Probe für µ\r\n"
    (tmp_path / "h.txt").write_bytes(text.encode(encoding))
    found = read_metadata(tmp_path / "h.tif")
    assert (found.vendor, found.notes) == ("Hitachi", ())
    assert_states(
        found,
        {
            "pixel_um": 0.009921875,
            "detector": "SE(U)",
            "accelerating_kv": 15.0,
            "magnification": 10000.0,
            "working_distance_mm": 8.1,
            "stage_x_um": -52125.0,
            "stage_y_um": 55250.0,
            "instrument": "SU8230",
            "acquired": "2019/03/12 10:22:13",
            "picture_width_px": 64,
            "picture_height_px": 40,
        },
    )


def test_a_broken_number_in_a_sidecar_is_none_with_a_note(tmp_path: Path) -> None:
    imwrite(tmp_path / "h.tif", picture())
    (tmp_path / "h.txt").write_text(HITACHI.format(pixel="12,4", x="far"))
    found = read_metadata(tmp_path / "h.tif")
    assert found.pixel_um is None
    assert found.stage_x_um is None
    assert found.stage_y_um == 55250.0
    assert found.notes == (
        "h.txt: PixelSize is '12,4', not a number that can be used",
        "h.txt: StagePositionX is 'far', not a number that can be used",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Pixel size: 0.5 um, detector BSE. Call Anna.\n",
        "PixelSize=12.4\nMagnification=500\n",  # no section: whose file is it?
        "file,x_um,y_um\na.tif,0,0\n",
        "[Settings]\nPixelSizeX=1e-9\n",
        "costs: $CM_MAG is not the first word here",
    ],
)
def test_other_text_beside_a_picture_is_nothing(tmp_path: Path, text: str) -> None:
    imwrite(tmp_path / "a.tif", picture())
    (tmp_path / "a.txt").write_text(text)
    assert read_metadata(tmp_path / "a.tif") == FrameMetadata()


def test_binary_rubbish_beside_a_picture_is_nothing(tmp_path: Path) -> None:
    imwrite(tmp_path / "a.tif", picture())
    (tmp_path / "a.txt").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "a.hdr").mkdir()
    assert read_metadata(tmp_path / "a.tif") == FrameMetadata()


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected_um"),
    [
        ("micron", 4.0, 0.25),
        ("um", 4.0, 0.25),
        ("\\u00B5m", 4.0, 0.25),
        ("nm", 0.02, 0.05),
        ("mm", 1000.0, 1.0),
        ("pixel", 4.0, None),
        ("inch", 72.0, 25400 / 72),  # set by a user of ImageJ: it is what he says
    ],
)
def test_imagej_unit_and_resolution_are_a_pixel_size(
    tmp_path: Path, unit: str, per_unit: float, expected_um: float | None
) -> None:
    path = tmp_path / "i.tif"
    imwrite(path, picture(), imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    found = read_metadata(path)
    # A rational of two whole numbers below 2^32.
    assert found.pixel_um == (None if expected_um is None else pytest.approx(expected_um, rel=1e-6))


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1.0), ("nm", 1e-3), ("mm", 1e3)])
def test_ome_physical_size_is_a_pixel_size(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "o.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": unit}
    sizes |= {"PhysicalSizeY": 0.25, "PhysicalSizeYUnit": unit}
    imwrite(path, picture(), ome=True, metadata={"axes": "YX", **sizes})
    found = read_metadata(path)
    assert (found.pixel_um, found.pixel_y_um) == pytest.approx((0.5 * factor, 0.25 * factor))


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "NONE"])
def test_dots_per_inch_are_no_pixel_size(tmp_path: Path, unit: str) -> None:
    imwrite(tmp_path / "d.tif", picture(), resolution=(72, 72), resolutionunit=unit)
    assert read_metadata(tmp_path / "d.tif") == FrameMetadata()


def test_damaged_descriptions_are_nothing(tmp_path: Path) -> None:
    for text in ("<OME><Pixels", '<!DOCTYPE a [<!ENTITY b "c">]><OME/>', "ImageJ=1.5\nunit=\n"):
        imwrite(tmp_path / "o.tif", picture(), description=text, metadata=None)
        assert read_metadata(tmp_path / "o.tif") == FrameMetadata()


def test_a_tag_counts_before_the_sidecar_and_a_difference_is_told(tmp_path: Path) -> None:
    path = write_tagged(tmp_path / "b.tif", 34682, FEI.format(**FEI_VALUES))
    (tmp_path / "b.txt").write_text(HITACHI.format(pixel="5", x="0"))
    found = read_metadata(path)
    assert found.pixel_um == pytest.approx(0.00190805)
    assert found.detector == "TLD"
    assert "b.txt states 0.005 um/px" in found.notes[0]
    assert "0.00190805" in found.notes[0]


def test_the_first_page_of_several_counts(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    for number, pixel in enumerate(("2 µm", "3 µm")):
        text = ZEISS.format(width=64, height=40, pixel=pixel, x="1").encode("latin-1")
        extra = [(34118, 1, len(text), text, True)]
        imwrite(path, picture(), extratags=extra, metadata=None, append=number > 0)
    assert read_metadata(path).pixel_um == 2.0


def test_missing_files_and_false_tiffs_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "no.tif").write_text("hello")
    for name in ("no.tif", "missing.tif"):
        with pytest.raises(UnreadableError) as caught:
            read_metadata(tmp_path / name)
        assert name in str(caught.value)


def test_damaged_texts_never_fail_and_never_state_the_impossible() -> None:
    """Cut, shortened and changed texts of all vendors, 300 of each."""
    rng = random.Random(1)
    junk = ("1e308", "1e-320", "0", "nan", "9" * 400, "", "=", "\0", "[", "$", "-5", "1.5")
    zeiss_text = ZEISS.format(width=64, height=40, pixel="12 nm", x="1")
    texts: dict[str, Callable[[str], FrameMetadata | None]] = {
        zeiss_text + "AP_WIDTH\r\nWidth = 25.24 µm\r\n": lambda t: zeiss_metadata(t, 64),
        FEI.format(**FEI_VALUES): fei_metadata,
        tescan_tag(strip=5).decode("latin-1"): tescan_metadata,
        JEOL.format(width=64, height=40, bar=100, marker="5um"): lambda t: jeol_metadata(t, "j"),
        HITACHI.format(pixel=5, x=1): lambda t: hitachi_metadata(t, "h"),
    }
    for text, read in texts.items():
        for _ in range(300):
            damaged = text
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(damaged) + 1)
                numbers = list(re.finditer(r"[-+.\de]+", damaged))
                if rng.random() < 0.6 and numbers:
                    start, end = rng.choice(numbers).span()
                    damaged = damaged[:start] + rng.choice(junk) + damaged[end:]
                else:
                    damaged = damaged[:at] + damaged[at + rng.choice((1, 30, 10**6)) :]
            found = read(damaged)  # the model itself refuses NaN and sizes that are not positive
            assert found is None or found.pixel_um is None or 0 < found.pixel_um < 1e30
