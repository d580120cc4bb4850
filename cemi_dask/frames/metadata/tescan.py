"""TESCAN: the key=value text of TIFF tag 50431, and of the .hdr file beside a picture."""

from __future__ import annotations

import re

from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements

TAG = 50431

NUMBERS = {
    "pixel_um": (("PixelSizeX",), "m"),
    "pixel_y_um": (("PixelSizeY",), "m"),
    "accelerating_kv": (("HV", "AcceleratorVoltage"), "v"),
    "magnification": (("Magnification",), "x"),
    "working_distance_mm": (("WD",), "m"),
    "stage_x_um": (("StageX",), "m"),
    "stage_y_um": (("StageY",), "m"),
    "stage_z_um": (("StageZ",), "m"),
    "stage_rotation_deg": (("StageRotation",), "deg"),
    "stage_tilt_deg": (("StageTilt",), "deg"),
    "scan_rotation_deg": (("ScanRotation",), "deg"),
    "dwell_us": (("DwellTime",), "s"),
    "bar_height_px": (("ImageStripSize",), "px"),
}
# A key starts a line; in the tag blocks of binary data stand before some.
LINE = re.compile(r"([A-Za-z][A-Za-z0-9]*)=([^\r\n\0]*)")


def tescan_metadata(text: str, origin: str = f"TIFF tag {TAG}") -> FrameMetadata | None:
    """What TESCAN's text states (SI units, angles in degrees); None where it is no such text.

    The tag holds blocks (thumbnail, MAIN, SEM, ...) with binary heads and no section names,
    the .hdr file sections; the keys are the same and no key of interest occurs in two.
    """
    values: dict[str, str] = {}
    for match in LINE.finditer(text):
        values.setdefault(match.group(1), match.group(2).strip())
    if "PixelSizeX" not in values:
        return None
    found = Statements("TESCAN", origin)
    for name, (keys, unit) in NUMBERS.items():
        for key in keys:
            found.number(name, key, values.get(key), unit)
    for key in ("Detector", "Detector0"):
        found.text("detector", values.get(key))
    for key in ("DeviceModel", "Device"):
        found.text("instrument", values.get(key))
    found.text("acquired", f"{values.get('Date', '')} {values.get('Time', '')}")
    return found.metadata()
