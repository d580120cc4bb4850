"""Which files an inspection reads: what goes together, and why others cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cemi_dask import frames
from cemi_dask.errors import CemiError, ConfigError, InputError, UnreadableError
from cemi_dask.frames.images import image_header, read_image
from cemi_dask.frames.video import video_header

Lost = tuple[str, str]  # a file, and why it cannot be used


def find_all(
    options: frames.InputOptions,
) -> tuple[list[frames.Source], list[frames.Source], list[tuple[str, str, str]], dict[str, Any]]:
    """(videos, tiles, (path, why, kind) of what is neither, the classes of those errors)."""
    base = Path.cwd()
    files: dict[str, dict[str, None]] = {"videos": {}, "tiles": {}}
    lost, errors = [], {}
    for path in options.paths:
        first: CemiError | None = None
        some = False
        for kind in ("videos", "tiles"):
            try:
                one = options.model_copy(update={"paths": (path,), "kind": kind})
                for source in frames.find_sources(one, base):
                    files[kind].update(dict.fromkeys(source.files))
                    some = True
            except CemiError as error:
                first = first or error
        if not some:
            try:  # with the words for both kinds
                frames.find_sources(options.model_copy(update={"paths": (path,)}), base)
            except CemiError as error:
                first = error
            lost.append((path, str(first), "unknown"))
            errors[path] = type(first)
    sources = [
        frames.find_sources(options.model_copy(update={"paths": tuple(named), "kind": kind}), base)
        if named
        else []
        for kind, named in files.items()
    ]
    return sources[0], sources[1], lost, errors


def prepared_videos(
    sources: Sequence[frames.Source], options: frames.InputOptions
) -> tuple[list[frames.Source], list[Lost], str]:
    """(readable videos ready to be scanned, the others, why a run would refuse them together).

    As a run does, all are prepared together; where they do not go together, each by itself.
    """
    good, lost = _readable(sources, options)
    refusal = ""
    try:
        return (frames.prepare(good, options) if good else []), lost, ""
    except ConfigError:
        raise
    except CemiError as error:
        refusal = str(error)
    ready = []
    for source in good:
        try:
            ready += frames.prepare([source], options)
        except CemiError as error:
            lost.append((source.files[0], str(error)))
    return ready, lost, refusal if len(ready) > 1 else ""


def _readable(
    sources: Sequence[frames.Source], options: frames.InputOptions
) -> tuple[list[frames.Source], list[Lost]]:
    good, lost = [], []
    for source in sources:
        try:
            video_header(source.files[0])
            if options.metadata == "auto":
                frames.read_metadata(source.files[0])
            good.append(source)
        except CemiError as error:
            lost.append((source.files[0], str(error)))
    return good, lost


def prepared_tiles(
    sources: Sequence[frames.Source], options: frames.InputOptions
) -> tuple[list[frames.Source], list[Lost], str]:
    """The same for tiles: those of the commonest size and grey type are one set."""
    headers, lost = {}, []
    for file in (file for source in sources for file in source.files):
        try:
            headers[file] = image_header(file)
        except CemiError as error:
            lost.append((file, str(error)))
    kinds = Counter(headers.values()).most_common()
    for (height, width), dtype in (kind for kind, _ in kinds[1:]):
        usual = f"{kinds[0][0][0][1]} x {kinds[0][0][0][0]} px {kinds[0][0][1]}"
        lost += [
            (f, f"{f} is {width} x {height} px {dtype}, {kinds[0][1]} of the {len(headers)} "
                f"pictures are {usual}, and all of a mosaic must be of one kind. Convert it, or "
                "leave it out.")
            for f, kind in headers.items() if kind == ((height, width), dtype)
        ]  # fmt: skip
    files = [f for f, kind in headers.items() if kind == kinds[0][0]]
    if not files:
        return [], lost, ""
    ready, bad, refusal = _prepared_set(files, options)
    return ready, [*lost, *bad], refusal


def _prepared_set(
    files: Sequence[str], options: frames.InputOptions
) -> tuple[list[frames.Source], list[Lost], str]:
    """(the tiles as prepared sources, those that are damaged, why a run would refuse them)."""

    def prepare(kept: Sequence[str], how: frames.InputOptions) -> list[frames.Source]:
        named = how.model_copy(update={"paths": tuple(kept), "kind": "tiles"})
        return frames.prepare(frames.find_sources(named), named)

    try:
        return prepare(files, options), [], ""
    except ConfigError:
        raise
    except UnreadableError:
        # Headers were fine: the pixels of a tile that was looked at are not.
        lost = [told for told in map(_damage, files) if told is not None]
        bad = {file for file, _ in lost}
        good = [file for file in files if file not in bad]
        if not good:
            return [], lost, ""
        ready, more, refusal = _prepared_set(good, options) if lost else ([], [], "")
        return ready, [*lost, *more], refusal
    except InputError as error:
        # Most often pixel sizes that differ: without metadata the rest can be told.
        alone = options.model_copy(update={"metadata": "none"})
        return prepare(files, alone), [], str(error)


def _damage(file: str) -> Lost | None:
    try:
        read_image(file)
    except CemiError as error:
        return file, str(error)
    return None
