"""JEOL: the .txt file beside a picture, lines such as ``$CM_MAG 500``."""

from __future__ import annotations

import re

from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements

LINE = re.compile(r"^\s*\$+((?:CM|SM|FE)_[A-Z0-9_]+)[ \t]*(.*?)\s*$", re.MULTILINE)
STAGE = ("stage_x_um", "stage_y_um", "stage_z_um", "stage_rotation_deg", "stage_tilt_deg")
STAGE_UNITS = ("mm", "mm", "mm", "deg", "deg")


def jeol_metadata(text: str, origin: str) -> FrameMetadata | None:
    """What a JEOL sidecar states; None where the text is none.

    The pixel size is the length of the micron bar (SM_MICRON_MARKER) over its pixels
    (SM_MICRON_BAR), a whole number, so good to half a pixel of the bar; where the field of
    view is stated and agrees with the bar, it is taken over the picture's width, being
    more exact. Positions are in mm, angles in degrees.
    """
    values: dict[str, str] = {}
    for match in LINE.finditer(text):
        values.setdefault(match.group(1), match.group(2))
    if not any(key.startswith("CM_") for key in values) and "SM_MICRON_BAR" not in values:
        return None
    found = Statements("JEOL", origin)
    found.number("accelerating_kv", "CM_ACCEL_VOLT", values.get("CM_ACCEL_VOLT"), "kv")
    found.number("magnification", "CM_MAG", values.get("CM_MAG"), "x")
    found.number("working_distance_mm", "SM_WD", values.get("SM_WD"), "mm")
    for key in ("SM_SCAN_ROTATION", "CM_SCAN_ROTATION"):
        found.number("scan_rotation_deg", key, values.get(key), "deg")
    for key in ("CM_SIGNAL", "FE_DETECTOR_NAME"):
        found.text("detector", values.get(key))
    found.text("instrument", values.get("CM_INSTRUMENT"))
    found.text("acquired", f"{values.get('CM_DATE', '')} {values.get('CM_TIME', '')}")
    _several(found, "CM_STAGE_POSITION", values, STAGE, STAGE_UNITS)
    _several(found, "CM_STAGE_POS", values, STAGE, STAGE_UNITS)
    for key in ("CM_FULL_SIZE", "CM_IMAGE_SIZE"):
        _several(found, key, values, ("picture_width_px", "picture_height_px"), ("px", "px"))
    _pixel(found, values)
    return found.metadata()


def _several(
    found: Statements,
    key: str,
    values: dict[str, str],
    names: tuple[str, ...],
    units: tuple[str, ...],
) -> None:
    """Several numbers behind one key, blanks between them."""
    for name, part, unit in zip(names, values.get(key, "").split(), units, strict=False):
        found.number(name, key, part, unit)


def _pixel(found: Statements, values: dict[str, str]) -> None:
    marker = found.quantity("length", "SM_MICRON_MARKER", values.get("SM_MICRON_MARKER"), "um")
    bar_px = found.quantity("count", "SM_MICRON_BAR", values.get("SM_MICRON_BAR"), "px")
    by_bar = marker / bar_px if marker and bar_px and marker > 0 and bar_px > 0 else None
    first = re.sub(r"\s+(?=[^\d\s.])", "", values.get("CM_FIELD_OF_VIEW", "")).split()[:1]
    field = found.quantity("length", "CM_FIELD_OF_VIEW", "".join(first), "um")
    width_px = found.values.get("picture_width_px")
    by_field = field / width_px if field and width_px and field > 0 else None
    differ = 0.0 if by_bar is None or by_field is None else abs(by_field / by_bar - 1.0)
    if bar_px and differ > 0.01 + 1.0 / bar_px:
        found.notes.append(
            f"CM_FIELD_OF_VIEW differs by {differ:.1%} from the micron bar, which is taken"
        )
        by_field = None
    if by_field is not None:
        found.value("pixel_um", by_field * 1e6)
        found.origin += ", CM_FIELD_OF_VIEW"
    elif by_bar is not None:
        found.value("pixel_um", by_bar * 1e6)
        found.origin += ", SM_MICRON_MARKER over SM_MICRON_BAR"
