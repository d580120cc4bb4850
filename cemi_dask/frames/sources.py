"""`Source`: one video, or up to 16 tiles, as one piece of reading; `find_sources`."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.frames.metadata import FrameMetadata
from cemi_dask.frames.options import Crop, InputOptions
from cemi_dask.frameset import Nominal

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for names in ("avi", "mp4 m4v mov", "mkv webm", "wmv", "mpg mpeg ts", "ogv flv y4m nut")
    for name in names.split()
)
IMAGE_SUFFIXES = frozenset((".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"))
NOTHING = Crop()
TILES_PER_SOURCE = 16  # so that reading one source is worth a task


@dataclass(frozen=True)
class Place:
    """Where a tile lies: row and column of the scan (-1: unknown), corner in px (NaN: unknown)."""

    row: int = 0
    col: int = -1
    x_px: float = float("nan")
    y_px: float = float("nan")


@dataclass(frozen=True)
class Source:
    """What one reading task reads: one row video, or a few tiles.

    `key` is unique, stable between runs and fit for file names. `shape` and `dtype` are
    those of the files (before `crop`), known after `prepare`, as are `crop`, `places` (one
    per tile), `nominal` and `notes` (what was decided, in words). `metadata` is what all
    files of the input state alike (None: nothing), `stage_um` the stage position (x, y) of
    each of this source's files, `pixel_um` the pixel size that counts: the user's, else the
    metadata's, else None. `warnings` are what a user should check.
    """

    key: str
    kind: Literal["video", "tiles"]
    files: tuple[str, ...]
    row: int = 0
    shape: tuple[int, int] | None = None
    dtype: str | None = None
    crop: Crop = NOTHING
    places: tuple[Place, ...] = ()
    nominal: Nominal = "none"
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metadata: FrameMetadata | None = None
    stage_um: tuple[tuple[float, float] | None, ...] = ()
    pixel_um: float | None = None


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts row2 before row10."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts if p]


def find_sources(options: InputOptions, base: Path | str = ".") -> list[Source]:
    """The sources that `options.paths`, taken relative to `base`, stand for, in row order.

    Folders give the videos or pictures directly in them; videos are rows, sorted by file
    name as people sort numbers. Raises InputError where nothing is found or videos and
    pictures are mixed, UnreadableError for a file that does not exist, ConfigError for a
    suffix that is not known.
    """
    videos: dict[str, None] = {}
    images: dict[str, None] = {}
    for entry in options.paths:
        for file in _expand(entry, Path(base), options.kind):
            (videos if Path(file).suffix.lower() in VIDEO_SUFFIXES else images)[file] = None
    if videos and images:
        raise InputError(
            f"{len(videos)} videos ({Path(next(iter(videos))).name}, ...) and {len(images)} "
            f"pictures ({Path(next(iter(images))).name}, ...) were found in {_named(options)}. "
            "Set input.kind to 'videos' or 'tiles', or name the files."
        )
    found = videos or images
    if not found:
        raise InputError(
            f"No {_what(options.kind)} found at {_named(options)} (looked in {Path(base)}). "
            f"Known suffixes: {_suffixes(options.kind)}.{_below(options, Path(base))}"
        )
    if videos:
        files = sorted(found, key=lambda f: (natural_key(Path(f).name), f))
        return [
            Source(_key(i, len(files), file), "video", (file,), row=i)
            for i, file in enumerate(files)
        ]
    # Neighbours in one folder lie near each other: they are read by the same few tasks.
    files = sorted(found, key=lambda f: (natural_key(str(Path(f).parent)), natural_key(f), f))
    groups = [files[i : i + TILES_PER_SOURCE] for i in range(0, len(files), TILES_PER_SOURCE)]
    return [
        Source(_key(i, len(groups), group[0]), "tiles", tuple(group))
        for i, group in enumerate(groups)
    ]


def _expand(entry: str, base: Path, kind: str) -> list[str]:
    """Files with a known suffix that one entry of `paths` stands for."""
    path = base / Path(entry).expanduser()
    if path.is_dir():
        return [str(f) for f in path.iterdir() if _wanted(f, kind)]
    if path.is_file():
        if not _known(path):
            raise ConfigError(
                f"{path} has the suffix {path.suffix!r}, which is neither a video nor a picture. "
                f"Known suffixes: {_suffixes('auto')}."
            )
        if not _wanted(path, kind):
            raise ConfigError(
                f"{path} is not one of the {_what(kind)} that input.kind asks for "
                f"({_suffixes(kind)}). Change input.kind or the path."
            )
        return [str(path)]
    if not glob.has_magic(entry):
        raise UnreadableError(
            f"{path} does not exist. Check input.paths; relative paths start at {base}."
        )
    found = [Path(f) for f in glob.glob(str(path), recursive=True)]
    # 'ingot/*' with a folder per row stands for the files in those folders.
    inside = [f for folder in found if folder.is_dir() for f in folder.iterdir()]
    return [str(f) for f in [*found, *inside] if _wanted(f, kind)]


def _below(options: InputOptions, base: Path) -> str:
    """A hint where the folders given hold only folders with such files."""
    for entry in options.paths:
        path = base / Path(entry).expanduser()
        if path.is_dir():
            folders = [f for f in path.iterdir() if f.is_dir()]
            if any(_wanted(f, options.kind) for folder in folders for f in folder.iterdir()):
                return f" The folders in {path} hold some: give '{Path(entry) / '*'}'."
    return ""


def _known(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def _wanted(path: Path, kind: str) -> bool:
    suffix = path.suffix.lower()
    wanted = {"videos": VIDEO_SUFFIXES, "tiles": IMAGE_SUFFIXES}.get(
        kind, VIDEO_SUFFIXES | IMAGE_SUFFIXES
    )
    return suffix in wanted and not path.name.startswith(".") and path.is_file()


def _what(kind: str) -> str:
    return {"videos": "videos", "tiles": "pictures"}.get(kind, "videos or pictures")


def _suffixes(kind: str) -> str:
    parts = {"videos": [VIDEO_SUFFIXES], "tiles": [IMAGE_SUFFIXES]}.get(
        kind, [VIDEO_SUFFIXES, IMAGE_SUFFIXES]
    )
    return "; ".join(" ".join(sorted(part)) for part in parts)


def _named(options: InputOptions) -> str:
    return ", ".join(repr(p) for p in options.paths)


def _key(index: int, count: int, file: str) -> str:
    """A name for the source that any file system takes: its number and the file's stem."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(file).stem).strip("-.") or "source"
    return f"{index:0{max(3, len(str(count - 1)))}d}_{stem[:60]}"
