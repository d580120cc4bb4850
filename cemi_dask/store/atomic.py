"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cemi_dask.errors import CemiError, StoreError

# Suffix of files that are being written; one left behind by a killed process is rubbish.
PARTIAL_SUFFIX = ".partial"

_ADVICE = {
    errno.ENOSPC: "Free some space or choose another output folder, then run again.",
    errno.EDQUOT: "Raise the quota or choose another output folder, then run again.",
    errno.EFBIG: "The file system or a limit of this process forbids files of that size.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "The file system is read-only: choose another output folder.",
}


@contextmanager
def storing(path: Path | str) -> Iterator[None]:
    """Context in which an operating-system error becomes a StoreError that names `path`."""
    try:
        yield
    except CemiError:
        raise
    except OSError as error:
        number = error.errno or 0
        reason = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(number, "Check the path and the disk, then run again.")
        raise StoreError(f"Cannot write {path}: {reason}. {advice}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without error.

    The folder is made where missing. The data are on disk before the rename, so that a power
    cut leaves the old file or the new one. Raises StoreError when the disk refuses.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; StoreError when the disk refuses."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json_atomic(path: Path | str, value: Any) -> None:
    """Write `value` as JSON, two spaces deep, to `path`, whole or not at all.

    NaN and infinity are refused (ValueError): JSON has no such numbers.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def delete_zarr(folder: Path) -> None:
    """Delete a zarr array or image folder; StoreError if it holds anything else.

    A path given by mistake must not cost anybody's files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file; choose another name for the output.")
    ours = {"zarr.json", "c", "labels"}
    foreign = [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in ours and not entry.name.isdigit() and entry.suffix != PARTIAL_SUFFIX
    ]
    if foreign:
        raise StoreError(
            f"{folder} holds {sorted(foreign)[:3]}, which is no part of an image, so it is not "
            "deleted. Choose another output folder."
        )
    with storing(folder):
        shutil.rmtree(folder)


def remove_partial_files(folder: Path) -> None:
    """Delete what killed writers left under `folder`; call it only where nobody writes."""
    for leftover in folder.rglob(f"*{PARTIAL_SUFFIX}"):
        leftover.unlink(missing_ok=True)
