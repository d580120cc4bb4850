"""`read_metadata`: what a picture or video file, and the text beside it, state."""

from __future__ import annotations

from pathlib import Path

from cemi_dask.errors import UnreadableError
from cemi_dask.frames.metadata.model import FrameMetadata, same_pixel
from cemi_dask.frames.metadata.sidecar import FolderNames, sidecar_statements
from cemi_dask.frames.metadata.tags import tiff_statements

TIFF_SUFFIXES = (".tif", ".tiff")
OF_FILES = ("vendor", "origin", "notes", "pixel_um", "pixel_y_um")
DESCRIPTIONS = ("ImageJ", "OME")  # written by programs that processed the picture


def read_metadata(path: str | Path, *, names: FolderNames | None = None) -> FrameMetadata:
    """What the tags of a TIFF and the sidecar of any picture or video state about it.

    The vendor's own tags count first, then the sidecar, then ImageJ's or OME's description;
    each adds what those before it leave open. Reads headers only. `names` keeps the listing
    of folders between calls. Raises UnreadableError for a file that is missing or, being
    called a TIFF, is none.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableError(f"{path} does not exist. Correct the path.")
    stated = tiff_statements(path) if path.suffix.lower() in TIFF_SUFFIXES else []
    beside = sidecar_statements(path, names or FolderNames())
    vendors = [metadata for metadata in stated if metadata.vendor not in DESCRIPTIONS]
    others = [metadata for metadata in stated if metadata.vendor in DESCRIPTIONS]
    found = FrameMetadata()
    for metadata in (*vendors, *([] if beside is None else [beside]), *others):
        found = _completed(found, metadata)
    return found


def _completed(first: FrameMetadata, second: FrameMetadata) -> FrameMetadata:
    """`first` with what only `second` states, and a note where pixel sizes differ."""
    if first.origin is None:
        return second
    values = first.model_dump()
    added = second.model_dump(exclude_none=True, exclude=set(OF_FILES))
    for name, value in added.items():
        if values[name] is None:
            values[name] = value
    notes = [*first.notes, *second.notes]
    if first.pixel_um is None:
        values["pixel_um"], values["pixel_y_um"] = second.pixel_um, second.pixel_y_um
    elif second.pixel_um is not None and not same_pixel(first.pixel_um, second.pixel_um):
        notes.append(
            f"{second.origin} states {second.pixel_um:.6g} um/px, {first.origin} "
            f"{first.pixel_um:.6g} um/px; the latter is taken"
        )
    values["origin"] = f"{first.origin}; {second.origin}"
    return FrameMetadata(**{**values, "notes": tuple(notes)})
