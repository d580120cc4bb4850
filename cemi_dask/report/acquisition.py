"""How the pictures were taken: what files state about it, what was cut off, where tiles lie."""

from __future__ import annotations

from typing import Any

from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.page import Section, Table

# key in run.json, name, unit, factor to that unit.
ROWS = (
    ("instrument", "Microscope", "", 1.0),
    ("vendor", "Metadata of", "", 1.0),
    ("detector", "Detector", "", 1.0),
    ("accelerating_kv", "Accelerating voltage", "kV", 1.0),
    ("magnification", "Magnification", "×", 1.0),
    ("pixel_um", "Pixel size", "µm", 1.0),
    ("pixel_y_um", "Pixel size along y", "µm", 1.0),
    ("working_distance_mm", "Working distance", "mm", 1.0),
    ("dwell_us", "Dwell time", "µs", 1.0),
    ("line_time_s", "Line time", "ms", 1e3),
    ("frame_time_s", "Frame time", "s", 1.0),
    ("acquired", "Taken", "", 1.0),
    ("origin", "Stated by", "", 1.0),
)


def acquisition_section(data: RunFolderData) -> list[Section]:
    """One section with what the files state alike and how they were understood.

    None for a run that read no files. What the files do not state is left out.
    """
    known = data.run.get("input")
    if not isinstance(known, dict):
        return []
    metadata = known.get("metadata") or {}
    rows = [
        (name, _text(metadata[key], unit, factor))
        for key, name, unit, factor in ROWS
        if metadata.get(key) is not None
    ]
    used = data.run.get("pixel_um")
    stated = metadata.get("pixel_um")
    if used and stated and abs(used - stated) > 1e-3 * stated:
        rows.append(("Pixel size used (input.pixel_um)", _text(used, "µm", 1.0)))
    tables = (Table(("", "All files state"), rows),) if rows else ()
    text = tuple(f"{note[:1].upper()}{note[1:]}." for note in map(str, known.get("notes", [])))
    if not rows:
        text = ("The files state nothing about how they were taken.", *text)
    return [Section("acquisition", "Acquisition", text=text, tables=tables)]


def _text(value: Any, unit: str, factor: float) -> str:
    if isinstance(value, int | float):
        return f"{value * factor:.6g} {unit}".strip()
    return str(value)
