"""FEI and Thermo Fisher: the INI text of TIFF tags 34680 (FEI_SFEG) and 34682 (FEI_HELIOS)."""

from __future__ import annotations

from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements, ini_sections

TAGS = (34682, 34680)

# field: (section, key) in the order they count, unit. `beam` and `scan` stand for the
# sections that [Beam] names: EBeam and EScan, IBeam and IScan.
NUMBERS = {
    "accelerating_kv": ((("beam", "HV"), ("Beam", "HV")), "v"),
    "working_distance_mm": ((("Stage", "WorkingDistance"), ("beam", "WD")), "m"),
    "stage_x_um": ((("Stage", "StageX"), ("beam", "StageX")), "m"),
    "stage_y_um": ((("Stage", "StageY"), ("beam", "StageY")), "m"),
    "stage_z_um": ((("Stage", "StageZ"), ("beam", "StageZ")), "m"),
    "stage_rotation_deg": ((("Stage", "StageR"), ("beam", "StageR")), "rad"),
    "stage_tilt_deg": ((("Stage", "StageT"), ("beam", "StageTa")), "rad"),
    "scan_rotation_deg": ((("Beam", "ScanRotation"), ("beam", "ScanRotation")), "rad"),
    "dwell_us": ((("Scan", "Dwelltime"), ("scan", "Dwell")), "s"),
    "line_time_s": ((("scan", "LineTime"),), "s"),
    "frame_time_s": ((("Scan", "FrameTime"), ("scan", "FrameTime")), "s"),
    "picture_width_px": ((("Image", "ResolutionX"),), "px"),
    "picture_height_px": ((("Image", "ResolutionY"),), "px"),
    "bar_height_px": ((("PrivateFei", "DatabarHeight"),), "px"),
    "pixel_um": ((("Scan", "PixelWidth"), ("scan", "PixelWidth")), "m"),
    "pixel_y_um": ((("Scan", "PixelHeight"), ("scan", "PixelHeight")), "m"),
}
FIELD_WIDTHS = (("Scan", "HorFieldsize"), ("scan", "HorFieldsize"), ("beam", "HFW"))


def fei_metadata(text: str, tag: int = TAGS[0]) -> FrameMetadata:
    """What the INI text of an FEI tag states; lengths in it are in m, angles in radians.

    The pixel size is PixelWidth, or, where a camera states none, the field's width over
    ResolutionX, the width of the picture. ResolutionY is its height without the data bar.
    The magnification follows from the field's width and that of the reference canvas.
    """
    sections = ini_sections(text)
    beam = sections.get("Beam", {})
    alias = {"beam": beam.get("Beam", ""), "scan": beam.get("Scan", "")}
    found = Statements("FEI", f"TIFF tag {tag}")

    def value(section: str, key: str) -> str | None:
        return sections.get(alias.get(section, section) or "-", {}).get(key)

    for name, (places, unit) in NUMBERS.items():
        for section, key in places:
            found.number(name, f"{alias.get(section, section)}.{key}", value(section, key), unit)
    found.text("detector", value("Detectors", "Name"))
    found.text("instrument", value("System", "SystemType"))
    found.text("acquired", f"{value('User', 'Date') or ''} {value('User', 'Time') or ''}")
    widths = [found.quantity("length", key, value(part, key), "m") for part, key in FIELD_WIDTHS]
    field = next((width for width in widths if width), None)
    canvas = found.quantity("length", "canvas", value("Image", "MagCanvasRealWidth"), "m")
    if field is not None and canvas is not None and field > 0 < canvas:
        found.value("magnification", canvas / field)
    width_px = found.values.get("picture_width_px")
    if "pixel_um" not in found.values and field is not None and field > 0 and width_px:
        found.value("pixel_um", field / width_px * 1e6)
        found.origin += ", field width over ResolutionX"
    return found.metadata()
