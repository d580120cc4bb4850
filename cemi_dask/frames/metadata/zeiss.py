"""Zeiss SmartSEM: the text of TIFF tag 34118 (CZ_SEM)."""

from __future__ import annotations

import re

from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements

TAG = 34118
SCREEN_PX = 1024  # AP_PIXEL_SIZE is that of the microscope's screen, so many pixels wide

# A line with a key alone, then a sentence: "WD =  3.9 mm", "Date :25 Sep 2018".
PAIR = re.compile(
    r"^[ \t]*([A-Z]{2}_[A-Z0-9_]+)[ \t]*[\r\n]+[^=:\r\n]*[=:]([^\r\n\0]*)", re.MULTILINE
)

# field: keys, the first that is there counts.
TEXTS = {
    "detector": ("DP_DETECTOR_CHANNEL", "DP_DETECTOR_TYPE"),
    "instrument": ("DP_SEM", "SV_SERIAL_NUMBER"),
}
NUMBERS: dict[str, tuple[tuple[str, ...], str]] = {
    "accelerating_kv": (("AP_ACTUALKV", "AP_MANUALKV"), "kv"),
    "magnification": (("AP_MAG",), "x"),
    "working_distance_mm": (("AP_WD",), "mm"),
    "stage_x_um": (("AP_STAGE_AT_X",), "mm"),
    "stage_y_um": (("AP_STAGE_AT_Y",), "mm"),
    "stage_z_um": (("AP_STAGE_AT_Z",), "mm"),
    "stage_rotation_deg": (("AP_STAGE_AT_R",), "deg"),
    "stage_tilt_deg": (("AP_STAGE_AT_T",), "deg"),
    "dwell_us": (("DP_DWELL_TIME",), "us"),
    "line_time_s": (("AP_LINE_TIME",), "ms"),
    "frame_time_s": (("AP_FRAME_TIME",), "s"),
}


def zeiss_metadata(text: str, width_px: int) -> FrameMetadata:
    """What the text of a SmartSEM tag states, for a picture file `width_px` wide.

    The text has lines of numbers, then pairs of lines: a key (AP_WD) and a sentence
    (WD =  3.9 mm). The size of the picture's pixels is AP_IMAGE_PIXEL_SIZE; older versions
    state only AP_PIXEL_SIZE, that of a screen 1024 px wide whatever the picture's width, and
    the width of the field (AP_WIDTH).
    """
    values = _pairs(text)
    found = Statements("Zeiss", f"TIFF tag {TAG}")
    for name, keys in TEXTS.items():
        for key in keys:
            found.text(name, values.get(key))
    for name, (alternatives, unit) in NUMBERS.items():
        for key in alternatives:
            found.number(name, key, values.get(key), unit)
    when = [values[key] for key in ("AP_DATE", "AP_TIME") if key in values]
    found.text("acquired", " ".join(when))
    # Scan rotation has an angle even where it is switched off.
    off = values.get("DP_SCAN_ROT", "").casefold() == "off"
    angle = "0" if off else values.get("AP_SCANROTATION")
    found.number("scan_rotation_deg", "AP_SCANROTATION", angle, "deg")
    stored = re.fullmatch(r"(\d+)\s*\*\s*(\d+)", values.get("DP_IMAGE_STORE", ""))
    if stored:
        found.number("picture_width_px", "DP_IMAGE_STORE", stored.group(1), "px")
        found.number("picture_height_px", "DP_IMAGE_STORE", stored.group(2), "px")
    _pixel(found, values, width_px)
    return found.metadata()


def _pixel(found: Statements, values: dict[str, str], width_px: int) -> None:
    found.number("pixel_um", "AP_IMAGE_PIXEL_SIZE", values.get("AP_IMAGE_PIXEL_SIZE"), "um")
    if "pixel_um" in found.values:
        found.origin += ", AP_IMAGE_PIXEL_SIZE"
        return
    width_px = found.values.get("picture_width_px", width_px)
    screen = found.quantity("length", "AP_PIXEL_SIZE", values.get("AP_PIXEL_SIZE"), "um")
    field = found.quantity("length", "AP_WIDTH", values.get("AP_WIDTH"), "um")
    if screen is not None and screen > 0:
        found.value("pixel_um", screen * SCREEN_PX / width_px * 1e6)
        found.origin += f", AP_PIXEL_SIZE of {SCREEN_PX} screen px on {width_px} px"
        if field is not None and abs(field - screen * SCREEN_PX) > 0.01 * field:
            del found.values["pixel_um"]
            found.notes.append(
                f"AP_PIXEL_SIZE ({values['AP_PIXEL_SIZE']}) on {SCREEN_PX} screen px and AP_WIDTH "
                f"({values['AP_WIDTH']}) contradict each other"
            )
    elif field is not None and field > 0:
        found.value("pixel_um", field / width_px * 1e6)
        found.origin += f", AP_WIDTH on {width_px} px"


def _pairs(text: str) -> dict[str, str]:
    """{key: what the sentence in the next line states behind the = or :}."""
    values: dict[str, str] = {}
    for match in PAIR.finditer(text):
        values.setdefault(match.group(1), match.group(2).strip())
    return values
