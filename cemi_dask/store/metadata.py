"""OME-Zarr 0.5 group metadata: multiscales, labels, and our own `cemi` attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cemi_dask.errors import StoreError
from cemi_dask.store.atomic import write_json_atomic

FORMAT_VERSION = 1
Colour = tuple[int, int, int, int]

_NO_PIXEL_SIZE = "The pixel size is unknown: the unit of both axes is one pixel of level 0."
_CLEAR: Colour = (0, 0, 0, 0)
# Okabe and Ito's palette, readable with any colour vision, half transparent.
_PALETTE: tuple[Colour, ...] = (
    (230, 159, 0, 128),
    (86, 180, 233, 128),
    (0, 158, 115, 128),
    (204, 121, 167, 128),
    (213, 94, 0, 128),
    (0, 114, 178, 128),
)


def multiscale(levels: int, pixel_um: float | None, name: str, kind: str) -> dict[str, Any]:
    """The multiscales entry for `levels` levels, each half the size of the one before.

    A pixel of level i covers 2^i x 2^i pixels of level 0, whose centres' mean lies
    (2^i - 1) / 2 px from the first pixel's centre.
    """
    scale = 1.0 if pixel_um is None else float(pixel_um)
    unit = {} if pixel_um is None else {"unit": "micrometer"}
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [scale * 2**level] * 2},
                {"type": "translation", "translation": [scale * (2**level - 1) / 2] * 2},
            ],
        }
        for level in range(levels)
    ]
    axes = [{"name": axis, "type": "space", **unit} for axis in ("y", "x")]
    return {"name": name, "type": kind, "axes": axes, "datasets": datasets}


def image_attributes(
    levels: int,
    pixel_um: float | None,
    *,
    options: Mapping[str, Any],
    window: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Attributes of a mosaic's group.

    `options` are the MosaicOptions it was written with, for the levels and labels to come;
    `window` is (min, start, end, max) for display.
    """
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [multiscale(levels, pixel_um, "mosaic", "mean of valid pixels")],
    }
    if window is not None:
        low, start, end, high = window
        bounds = {"min": low, "start": start, "end": end, "max": high}
        channel = {"label": "SEM", "color": "FFFFFF", "active": True, "window": bounds}
        ome["omero"] = {"channels": [channel]}
    return {"ome": ome, "cemi": {**_own(pixel_um), "options": dict(options)}}


def label_attributes(
    levels: int,
    pixel_um: float | None,
    name: str,
    *,
    meaning: Mapping[int, str],
    colors: Mapping[int, Colour] | None,
) -> dict[str, Any]:
    """Attributes of a label's group: what each value means and its colour (RGBA, 0..255)."""
    shown: dict[int, Colour] = {0: _CLEAR, **(colors or {})}
    for number, value in enumerate(sorted(v for v in meaning if v != 0)):
        shown.setdefault(value, _PALETTE[number % len(_PALETTE)])
    label = {
        "source": {"image": "../../"},
        "colors": [{"label-value": v, "rgba": list(shown[v])} for v in sorted(shown)],
        "properties": [
            {"label-value": v, "meaning": meaning.get(v, "background" if v == 0 else "")}
            for v in sorted(shown)
        ],
    }
    ome = {
        "version": "0.5",
        "multiscales": [multiscale(levels, pixel_um, name, "majority")],
        "image-label": label,
    }
    return {"ome": ome, "cemi": _own(pixel_um)}


def _own(pixel_um: float | None) -> dict[str, Any]:
    own: dict[str, Any] = {"version": FORMAT_VERSION, "no_data": 0, "pixel_um": pixel_um}
    if pixel_um is None:
        own["note"] = _NO_PIXEL_SIZE
    return own


def write_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write a zarr v3 group's metadata, checked against the OME-Zarr model first.

    Raises StoreError for metadata that the model refuses or a disk that does.
    """
    import yaozarrs  # late: 0.1 s that only writers need
    from pydantic import ValidationError

    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    try:
        yaozarrs.validate_ome_object(document, yaozarrs.v05.OMEZarrGroupJSON)
    except ValidationError as error:
        raise StoreError(f"The metadata for {path} is no OME-Zarr 0.5: {error}") from error
    write_json_atomic(path / "zarr.json", document)


def read_group(path: Path) -> dict[str, Any]:
    """Attributes of the zarr group at `path`; StoreError where there is none."""
    file = path / "zarr.json"
    try:
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        hint = "it has no zarr.json" if path.is_dir() else "there is no such folder"
        raise StoreError(
            f"{path} is no OME-Zarr mosaic: {hint}. Give the folder that holds zarr.json, such "
            "as OUT/mosaic.ome.zarr."
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("node_type") != "group":
        raise StoreError(f"{path} is a zarr array, not a group with levels: give its parent.")
    attributes = document.get("attributes", {})
    if not isinstance(attributes, dict):
        raise StoreError(f"{file} has attributes of the wrong kind.")
    return attributes
