"""Hitachi: the .txt file beside a picture, with a section [SemImageFile]."""

from __future__ import annotations

import re

from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements, ini_sections

SECTION = "SemImageFile"

# Positions are in nm, voltages in V, the working distance in um where no unit is written.
# Rotation and tilt are left out: their unit differs between models and is not written.
NUMBERS = {
    "pixel_um": ("PixelSize", "nm"),
    "accelerating_kv": ("AcceleratingVoltage", "v"),
    "magnification": ("Magnification", "x"),
    "working_distance_mm": ("WorkingDistance", "um"),
    "stage_x_um": ("StagePositionX", "nm"),
    "stage_y_um": ("StagePositionY", "nm"),
    "stage_z_um": ("StagePositionZ", "nm"),
}


def hitachi_metadata(text: str, origin: str) -> FrameMetadata | None:
    """What a Hitachi sidecar states; None where the text is none."""
    values = ini_sections(text).get(SECTION)
    if values is None:
        return None
    found = Statements("Hitachi", origin)
    for name, (key, unit) in NUMBERS.items():
        found.number(name, key, values.get(key), unit)
    found.text("detector", values.get("SignalName"))
    found.text("instrument", values.get("InstructName"))  # the key is spelt so
    found.text("acquired", f"{values.get('Date', '')} {values.get('Time', '')}")
    size = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", values.get("DataSize", ""))
    if size:
        found.number("picture_width_px", "DataSize", size.group(1), "px")
        found.number("picture_height_px", "DataSize", size.group(2), "px")
    return found.metadata()
