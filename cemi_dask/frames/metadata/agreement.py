"""What all files of an input state alike, and where they contradict each other: `agree`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cemi_dask.errors import InputError
from cemi_dask.frames.metadata.model import FrameMetadata, same_pixel

PER_FILE = ("stage_x_um", "stage_y_um", "stage_z_um", "acquired", "origin", "notes")
MOST_NOTES = 3
Stated = tuple[str, FrameMetadata]


@dataclass(frozen=True)
class Agreement:
    """What the files state alike (None: nothing), the pixel size that counts, what to tell.

    `pixel_um` is the config's, else the files', else None. `notes` say where it comes from,
    `warnings` what a user should check.
    """

    metadata: FrameMetadata | None
    pixel_um: float | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def agree(stated: Sequence[Stated], *, pixel_um: float | None, size: tuple[int, int]) -> Agreement:
    """What (file, metadata) pairs of one input have in common; `size`: of the files, in px.

    `pixel_um` given by the user counts; a file that states another is a warning. Raises
    InputError where two files state pixel sizes that differ by more than 0.1 % and the user
    gives none.
    """
    known = [(file, found) for file, found in stated if found.origin is not None]
    if not known:
        return Agreement(None, pixel_um)
    warnings = _unreadable(known)
    sized = [(file, found) for file, found in known if found.pixel_um is not None]
    if pixel_um is None:
        _refuse_difference(sized)
    else:
        warnings += _overridden(sized, pixel_um)
    notes = []
    common = _common([found for _, found in known])
    if pixel_um is None and sized:
        file, found = sized[0]
        pixel_um = found.pixel_um
        several = f" of {len(stated)} files" if len(stated) > 1 else ""
        share = f"{len(sized)}{several}" if len(sized) < len(stated) else f"all{several}"
        whose = Path(file).name if len(stated) == 1 else f"{share}, {Path(file).name} first"
        notes.append(f"pixel size {found.pixel_um:.6g} um from {found.vendor} metadata ({whose})")
        warnings += _doubts(found, size)
    return Agreement(common, pixel_um, tuple(notes), tuple(warnings))


def _refuse_difference(sized: Sequence[Stated]) -> None:
    for file, found in sized[1:]:
        first, expected = sized[0]
        if not same_pixel(expected.pixel_um or 0.0, found.pixel_um or 0.0):
            raise InputError(
                f"{first} states a pixel size of {expected.pixel_um:.6g} um ({expected.origin}), "
                f"{file} one of {found.pixel_um:.6g} um ({found.origin}). List only files of one "
                "magnification in input.paths, or set input.pixel_um to the one that is right."
            )


def _overridden(sized: Sequence[Stated], pixel_um: float) -> list[str]:
    for file, found in sized:
        if found.pixel_um is not None and not same_pixel(pixel_um, found.pixel_um):
            return [
                f"input.pixel_um says {pixel_um:.6g} um, {Path(file).name} states "
                f"{found.pixel_um:.6g} um ({found.origin}): input.pixel_um is used."
            ]
    return []


def _doubts(found: FrameMetadata, size: tuple[int, int]) -> list[str]:
    """Why the stated pixel size may not be that of the files' pixels."""
    told = []
    x_um, y_um = found.pixel_um, found.pixel_y_um
    if x_um is not None and y_um is not None and not same_pixel(x_um, y_um):
        told.append(
            f"The pixels are not square: {x_um:.6g} um along x, {y_um:.6g} um along y "
            f"({found.origin}). Lengths are measured with the first; resample the pictures to "
            "square pixels."
        )
    if found.picture_width_px is not None and found.picture_width_px != size[1]:
        told.append(
            f"The metadata ({found.origin}) describe a picture {found.picture_width_px} px wide, "
            f"the files are {size[1]} px wide. If they were scaled, the pixel size of "
            f"{found.pixel_um:.6g} um is wrong: set input.pixel_um."
        )
    return told


def _unreadable(known: Sequence[Stated]) -> list[str]:
    """The notes of the files as warnings: few, and how many more there are."""
    told = list(dict.fromkeys(f"{Path(f).name}: {n}." for f, found in known for n in found.notes))
    more = len(told) - MOST_NOTES
    rest = [f"{more} more statements in metadata cannot be used."] if more > 0 else []
    return told[:MOST_NOTES] + rest


def _common(found: Sequence[FrameMetadata]) -> FrameMetadata:
    """What all state alike; what each file has of its own (stage, date) only for a single one."""
    if len(found) == 1:
        return found[0]
    values: dict[str, Any] = {}
    for name in FrameMetadata.model_fields:
        stated = [getattr(metadata, name) for metadata in found]
        if name not in PER_FILE and all(_alike(stated[0], value) for value in stated[1:]):
            values[name] = stated[0]
    origins = list(dict.fromkeys(metadata.origin for metadata in found))
    values["origin"] = origins[0] if len(origins) == 1 else f"{origins[0]} and others"
    return FrameMetadata(**values)


def _alike(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-3)
    return bool(first == second)
