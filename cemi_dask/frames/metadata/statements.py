"""From texts in files to numbers in known units: `Statements`, `decode_text`, `ini_sections`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cemi_dask.frames.metadata.model import FrameMetadata

# unit: (dimension, how much of the dimension's base unit it is).
UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        **{
            name: ("length", factor)
            for names, factor in (
                (("pm",), 1e-12),
                (("nm",), 1e-9),
                (("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer"), 1e-6),
                (("mm",), 1e-3),
                (("cm",), 1e-2),
                (("m",), 1.0),
                (("\u00e5", "\u212b", "angstrom"), 1e-10),
                (("inch", "in"), 0.0254),
            )
            for name in names
        },
        "v": ("voltage", 1.0),
        "volt": ("voltage", 1.0),
        "kv": ("voltage", 1e3),
        "ns": ("time", 1e-9),
        "us": ("time", 1e-6),
        "\u00b5s": ("time", 1e-6),
        "\u03bcs": ("time", 1e-6),
        "ms": ("time", 1e-3),
        "s": ("time", 1.0),
        "sec": ("time", 1.0),
        "secs": ("time", 1.0),
        "min": ("time", 60.0),
        "mins": ("time", 60.0),
        "hours": ("time", 3600.0),
        "\u00b0": ("angle", 1.0),
        "deg": ("angle", 1.0),
        "rad": ("angle", 180.0 / math.pi),
        "x": ("times", 1.0),
        "kx": ("times", 1e3),
        "mx": ("times", 1e6),
        "px": ("count", 1.0),
    }
)

# field of FrameMetadata: (dimension, its unit in the dimension's base unit).
FIELDS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "pixel_um": ("length", 1e-6),
        "pixel_y_um": ("length", 1e-6),
        "accelerating_kv": ("voltage", 1e3),
        "magnification": ("times", 1.0),
        "working_distance_mm": ("length", 1e-3),
        "stage_x_um": ("length", 1e-6),
        "stage_y_um": ("length", 1e-6),
        "stage_z_um": ("length", 1e-6),
        "stage_rotation_deg": ("angle", 1.0),
        "stage_tilt_deg": ("angle", 1.0),
        "scan_rotation_deg": ("angle", 1.0),
        "dwell_us": ("time", 1e-6),
        "line_time_s": ("time", 1.0),
        "frame_time_s": ("time", 1.0),
        "picture_width_px": ("count", 1.0),
        "picture_height_px": ("count", 1.0),
        "bar_height_px": ("count", 1.0),
    }
)
POSITIVE = frozenset(
    ("pixel_um", "pixel_y_um", "magnification", "picture_width_px", "picture_height_px")
)
TOO_LARGE = 1e30  # in any unit: such a number is damage, and would overflow in the next step
NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*)", re.DOTALL)


class Statements:
    """What one tag or sidecar states, collected key by key into `FrameMetadata`.

    A text that should hold a number and does not leaves the field None and becomes a note;
    an empty text is no statement.
    """

    def __init__(self, vendor: str, origin: str) -> None:
        self.vendor, self.origin = vendor, origin
        self.values: dict[str, Any] = {}
        self.notes: list[str] = []

    def number(self, name: str, key: str, text: str | None, unit: str) -> None:
        """Take the number in `text`, in the unit it states or else in `unit`, as field `name`."""
        if name in self.values or text is None or not text.strip():
            return
        value = self._read(name, key, text.strip(), unit)
        if value is not None:
            # Twelve digits: 5.825 nm is 0.005825 um, not 0.005825000000000001 um.
            rounded = float(f"{value:.12g}")
            self.values[name] = int(rounded) if FIELDS[name][0] == "count" else rounded

    def value(self, name: str, value: float | None) -> None:
        """Take a positive number derived from stated ones, in the unit of the field `name`."""
        if value is not None and 0 < value < TOO_LARGE and name not in self.values:
            self.values[name] = float(f"{value:.12g}")

    def text(self, name: str, text: str | None) -> None:
        """Take a text, without the blanks around it, as field `name`."""
        if text is not None and text.strip() and name not in self.values:
            self.values[name] = " ".join(text.split())

    def quantity(self, dimension: str, key: str, text: str | None, unit: str) -> float | None:
        """A number in the dimension's base unit (m, V, s, degrees), or None with a note."""
        if text is None or not text.strip():
            return None
        found = NUMBER.fullmatch(text.strip())
        number = float(found.group(1)) if found else math.nan
        said = re.sub(r"\s+", "", found.group(2)).casefold() if found else ""
        known = UNITS.get(said or unit)
        if not abs(number) < TOO_LARGE or known is None or known[0] != dimension:
            what = "a number" if known is None or known[0] == dimension else f"a {dimension}"
            self.notes.append(f"{key} is {text.strip()[:40]!r}, not {what} that can be used")
            return None
        return number * known[1]

    def _read(self, name: str, key: str, text: str, unit: str) -> float | None:
        dimension, base = FIELDS[name]
        value = self.quantity(dimension, key, text, unit)
        if value is None:
            return None
        value /= base
        whole = dimension != "count" or (value >= 0 and value == round(value))
        if (name in POSITIVE and value <= 0) or not whole:
            self.notes.append(f"{key} is {text[:40]!r}, which no picture has")
            return None
        return value

    def metadata(self) -> FrameMetadata:
        """The statements as `FrameMetadata`."""
        values = dict(self.values)
        x, y = values.get("pixel_um"), values.get("pixel_y_um")
        if x is None or x == y:
            values.pop("pixel_y_um", None)
        notes = tuple(f"{self.origin}: {note}" for note in self.notes)
        return FrameMetadata(**values, vendor=self.vendor, origin=self.origin, notes=notes)


def decode_text(data: bytes) -> str:
    """Text of a tag or sidecar: UTF-16 or UTF-8 by its mark, UTF-8 where it is, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def ini_sections(text: str) -> dict[str, dict[str, str]]:
    """{section: {key: value}} of INI text; lines that are neither are passed over.

    Python's configparser refuses a file for one doubled key or stray line; instruments write
    both. The first of doubled keys counts; keys before any section are in section "".
    """
    sections: dict[str, dict[str, str]] = {"": {}}
    current = sections[""]
    for line in re.split(r"[\r\n\0]+", text):
        plain = line.strip()
        if plain.startswith("[") and plain.endswith("]"):
            current = sections.setdefault(plain[1:-1].strip(), {})
        elif "=" in plain:
            key, _, value = plain.partition("=")
            current.setdefault(key.strip(), value.strip())
    return sections
