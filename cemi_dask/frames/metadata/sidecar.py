"""Sidecar files: the text beside a picture or video in which a microscope describes it."""

from __future__ import annotations

from pathlib import Path

from cemi_dask.frames.metadata.hitachi import hitachi_metadata
from cemi_dask.frames.metadata.jeol import jeol_metadata
from cemi_dask.frames.metadata.model import FrameMetadata
from cemi_dask.frames.metadata.statements import decode_text
from cemi_dask.frames.metadata.tescan import tescan_metadata

MOST_BYTES = 1 << 20  # larger text is no sidecar


class FolderNames:
    """The names in folders, listed once each: asking for every tile would cost a network."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The file of this name in `folder`, whatever its case; None where there is none."""
        if folder not in self._listed:
            try:
                # Of a.txt and a.TXT the first in order counts, on every file system.
                names = sorted((entry.name for entry in folder.iterdir()), reverse=True)
            except OSError:
                names = []
            self._listed[folder] = {name.casefold(): name for name in names}
        found = self._listed[folder].get(name.casefold())
        return None if found is None else folder / found


def sidecar_statements(path: Path, names: FolderNames) -> FrameMetadata | None:
    """What the sidecar of a picture or video states; None where there is none.

    Looked for: picture.txt and picture.tif.txt (JEOL, Hitachi), picture.hdr, picture.tif.hdr
    and picture-tif.hdr (TESCAN). A file of such a name that is in none of these formats is
    somebody's notes and is passed over.
    """
    suffix = path.suffix.lstrip(".")
    for name in (
        f"{path.stem}.txt",
        f"{path.name}.txt",
        f"{path.stem}.hdr",
        f"{path.name}.hdr",
        f"{path.stem}-{suffix}.hdr",
    ):
        beside = names.find(path.parent, name)
        found = None if beside is None else read_sidecar(beside)
        if found is not None:
            return found
    return None


def read_sidecar(path: Path) -> FrameMetadata | None:
    """What a text file states if it is a sidecar of a known format, else None."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        text = decode_text(path.read_bytes())
    except OSError:
        return None
    head = text[:2000].lstrip()
    if "[SemImageFile]" in head:
        return hitachi_metadata(text, path.name)
    if head.startswith("[MAIN]"):
        return tescan_metadata(text, path.name)
    return jeol_metadata(text, path.name) if head.startswith("$") else None
