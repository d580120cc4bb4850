"""What a TIFF file itself states: vendors' tags, ImageJ's and OME's descriptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cemi_dask.errors import UnreadableError
from cemi_dask.frames.metadata import fei, tescan, zeiss
from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import Statements, decode_text

X_RESOLUTION, Y_RESOLUTION, DESCRIPTION = 282, 283, 270
MOST_BYTES = 4 << 20  # of a tag: no microscope writes more, a damaged count may


def tiff_statements(path: str | Path) -> list[FrameMetadata]:
    """What the first page of a TIFF states, the vendor's own tags first; may be empty.

    Resolution in dots per inch or cm is not a pixel size: programs write 72 dpi into any
    picture. Raises UnreadableError for a file that is no TIFF.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            texts = {code: _text(tif, page.tags.get(code)) for code in CODES}
            width_px = int(page.imagewidth)
            steps = [_ratio(page.tags.get(code)) for code in (X_RESOLUTION, Y_RESOLUTION)]
    except Exception as error:  # tifffile raises whatever its parsers raise
        raise UnreadableError(
            f"{path} cannot be read as a TIFF ({error}). Save it again or leave it out."
        ) from error
    found: list[FrameMetadata | None] = []
    if texts[zeiss.TAG]:
        found.append(zeiss.zeiss_metadata(texts[zeiss.TAG], width_px))
    found += [fei.fei_metadata(texts[code], code) for code in fei.TAGS if texts[code]]
    found.append(tescan.tescan_metadata(texts[tescan.TAG]))
    description = texts[DESCRIPTION]
    if description.startswith("ImageJ="):
        found.append(imagej_metadata(description, steps[0], steps[1]))
    elif "<OME" in description[:2000]:
        found.append(ome_metadata(description))
    return [metadata for metadata in found if metadata is not None]


CODES = (zeiss.TAG, *fei.TAGS, tescan.TAG, DESCRIPTION)


def _text(tif: Any, tag: Any) -> str:
    """The bytes of a tag as text, from the file: parsers of tags differ in what they accept."""
    if tag is None or tag.valuebytecount > MOST_BYTES:
        return ""
    tif.filehandle.seek(tag.valueoffset)
    return decode_text(tif.filehandle.read(tag.valuebytecount))


def _ratio(tag: Any) -> float | None:
    """A rational tag as a number; None where it is absent or no number."""
    value = tag.value if tag is not None else None
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return None


def imagej_metadata(
    description: str, x_per_unit: float | None, y_per_unit: float | None
) -> FrameMetadata | None:
    """The pixel size that ImageJ's description and resolution give; None without a unit."""
    lines = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
    unit = lines.get("unit", "").replace("\\u00B5", "\u00b5").strip()
    if not unit or unit.casefold() in ("pixel", "pixels") or not x_per_unit:
        return None
    found = Statements("ImageJ", f"TIFF tag {DESCRIPTION} (ImageJ)")
    found.number("pixel_um", "unit", f"{1.0 / x_per_unit:.12g} {unit}", "um")
    if y_per_unit:
        found.number("pixel_y_um", "unit", f"{1.0 / y_per_unit:.12g} {unit}", "um")
    return found.metadata()


def ome_metadata(description: str) -> FrameMetadata | None:
    """The pixel size of the first image of an OME-XML description; None without one."""
    if "<!ENTITY" in description or "<!DOCTYPE" in description:
        return None  # OME-XML has neither; entities can be made to expand without end
    try:
        plain = re.sub(r"^\s*<\?xml[^>]*\?>", "", description.rstrip("\0 "))
        root = ElementTree.fromstring(plain)  # noqa: S314 (no entities, see above)
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    found = Statements("OME", f"TIFF tag {DESCRIPTION} (OME-XML)")
    for name, axis in (("pixel_um", "X"), ("pixel_y_um", "Y")):
        key = f"PhysicalSize{axis}"
        unit = pixels.attrib.get(f"{key}Unit", "\u00b5m")
        text = pixels.attrib.get(key)
        found.number(name, key, None if text is None else f"{text} {unit}", "um")
    return found.metadata()
