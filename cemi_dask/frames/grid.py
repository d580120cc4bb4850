"""Rows and columns of tiles from their file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames.options import TileOptions

ROW_MARKS = frozenset({"r", "row", "y", "line"})
COLUMN_MARKS = frozenset({"c", "col", "column", "x"})
HOLES = 0.5  # a grid that lacks more than half of its tiles is taken for chance


@dataclass(frozen=True)
class Grid:
    """Row and column of every file, counted from 0; `how` says in words where from.

    kind: "grid"; "sequence" (numbered pictures: `cols` holds the numbers, from 0, and only the
    pictures tell how they run); "none" (row and column mean nothing). `bare` is True where
    only the order of two numbers tells row from column, `stated` where `tiles.columns` told,
    `folders` where one of the numbers is a folder's.
    """

    kind: Literal["grid", "sequence", "none"]
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    how: str
    bare: bool = False
    stated: bool = False
    folders: bool = False

    def swapped(self, how: str) -> Grid:
        """The grid with rows and columns exchanged."""
        return replace(self, rows=self.cols, cols=self.rows, how=how)


def grid_of(files: Sequence[str], options: TileOptions) -> Grid:
    """The grid that file names state: by `options.pattern`, else by the numbers in them.

    Without a pattern all names must be alike but for one number (a sequence) or two (a
    grid, where no pair occurs twice and at least half of the places are filled). Raises
    ConfigError for a pattern that does not work, InputError for names that do not fit it.
    """
    if options.pattern is not None:
        return _by_pattern(files, options.pattern)
    grid = _by_names(files, options)
    if options.columns is not None and not grid.stated:
        raise ConfigError(
            f"tiles.columns is {options.columns}, but the names are not those of pictures "
            f"numbered through ({files[0]}, ...; {grid.how}). Leave it out, or number the files."
        )
    return grid


def _by_names(files: Sequence[str], options: TileOptions) -> Grid:
    """The grid by the names alone, else, where files lie in several folders, by both."""
    paths = [Path(file) for file in files]
    alone = _by_numbers(files, [path.stem for path in paths], options)
    if alone.kind != "none" or len({path.parent for path in paths}) < 2:
        return alone
    both = _by_numbers(files, [f"{path.parent.name}/{path.stem}" for path in paths], options)
    if both.kind != "grid":
        return alone
    return replace(both, how=f"{both.how}, the folders' numbers first", bare=True, folders=True)


def _by_numbers(files: Sequence[str], names: list[str], options: TileOptions) -> Grid:
    """The grid that the numbers in the names state."""
    texts, numbers = _tokens(names)
    varying = [k for k in range(len(numbers[0])) if len({n[k] for n in numbers}) > 1]
    if texts is None or not varying or len(files) < 2:
        return _unknown(files, "the file names state no grid")
    # A running number beside row and column says nothing about the place.
    counts = [len({n[k] for n in numbers}) for k in varying]
    if len(varying) > 2:
        rest = [k for k, count in zip(varying, counts, strict=True) if count < len(files)]
        varying = rest if len(rest) == 2 else varying
    if len(varying) == 1:
        line = [n[varying[0]] for n in numbers]
        return _line(line, texts[varying[0]], options) or _sequence(files, line, options)
    if len(varying) != 2:
        return _unknown(files, f"{len(varying)} numbers vary in the file names")
    pairs = [(n[varying[0]], n[varying[1]]) for n in numbers]
    return _pairs(files, pairs, (texts[varying[0]], texts[varying[1]]), options.order)


def _by_pattern(files: Sequence[str], pattern: str) -> Grid:
    if "{row}" not in pattern and "{col}" not in pattern:
        raise ConfigError(
            f"tiles.pattern {pattern!r} holds neither {{row}} nor {{col}}. Write the file name "
            "with them in place of the numbers: 'tile_r{row}_c{col}.tif'."
        )
    expression = re.escape(pattern)
    for name in ("row", "col"):
        expression = expression.replace(re.escape(f"{{{name}}}"), rf"(?P<{name}>\d+)", 1)
    expression = expression.replace(re.escape("*"), ".*")
    try:
        matcher = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"tiles.pattern {pattern!r} cannot be used: {error}.") from error
    rows, cols = [], []
    for file in files:
        path = Path(file)
        # A pattern with folders ('row_{row}/tile_{col}.tif') is held against as many of the file.
        name = "/".join(path.parts[-1 - pattern.count("/") :])
        match = matcher.fullmatch(name) or matcher.fullmatch(name.removesuffix(path.suffix))
        if match is None:
            raise InputError(
                f"{file} does not fit tiles.pattern {pattern!r}. Correct the pattern "
                "(* stands for anything) or list only the files that fit in input.paths."
            )
        found = match.groupdict()
        rows.append(int(found.get("row") or 0))
        cols.append(int(found.get("col") or 0))
    _no_doubles(files, rows, cols, f"tiles.pattern {pattern!r}")
    return Grid("grid", _from_zero(rows), _from_zero(cols), f"rows and columns by {pattern!r}")


def _tokens(names: list[str]) -> tuple[list[str] | None, list[list[int]]]:
    """(text before each number, or None where the names are not alike; numbers per name)."""
    split = [re.split(r"(\d+)", name) for name in names]
    numbers = [[int(part) for part in parts[1::2]] for parts in split]
    texts = split[0][0::2]
    alike = all(parts[0::2] == texts for parts in split)
    return (texts if alike else None), numbers


def _line(numbers: list[int], mark: str, options: TileOptions) -> Grid | None:
    """One row or column of tiles, where the text before its number states that."""
    word = _word(mark)
    if len(set(numbers)) < len(numbers) or options.columns is not None:
        return None
    if word not in ROW_MARKS | COLUMN_MARKS:
        return None
    row = Grid("grid", (0,) * len(numbers), _from_zero(numbers), "the file names hold the column")
    return row if word in COLUMN_MARKS else row.swapped("the file names hold the row")


def _sequence(files: Sequence[str], numbers: list[int], options: TileOptions) -> Grid:
    """Numbered pictures: placed where `options.columns` states how they run, else a sequence."""
    count, span = len(set(numbers)), max(numbers) - min(numbers) + 1
    if count < len(files):
        return _unknown(files, f"{_alike(files, numbers)} have the same number")
    if count < HOLES * span:
        return _unknown(files, f"the numbering has gaps ({len(files)} files, {span} numbers)")
    if options.columns is not None:
        return _stated(_from_zero(numbers), options)
    return Grid(
        "sequence", (0,) * len(files), _from_zero(numbers), f"{len(files)} numbered pictures"
    )


def _stated(numbers: tuple[int, ...], options: TileOptions) -> Grid:
    """The grid of pictures numbered line by line, with `options.columns` columns."""
    columns = options.columns or 1
    down = options.order == "col_row"
    length = -(-(max(numbers) + 1) // columns) if down else columns
    lines, along = [], []
    for number in numbers:
        line, at = divmod(number, length)
        lines.append(line)
        along.append(length - 1 - at if options.snake and line % 2 else at)
    told = f"{columns} columns, as tiles.columns states"
    way = f"{'column by column' if down else 'row by row'}{', to and fro' * options.snake}"
    grid = Grid("grid", tuple(lines), tuple(along), f"numbered {way}, {told}", stated=True)
    return grid.swapped(grid.how) if down else grid


def _alike(files: Sequence[str], marks: Sequence[object]) -> str:
    """Two files with the same mark, in words."""
    seen: dict[object, str] = {}
    for file, mark in zip(files, marks, strict=True):
        if mark in seen:
            return f"{seen[mark]} and {file}"
        seen[mark] = file
    raise AssertionError("all marks differ")


def _pairs(
    files: Sequence[str],
    pairs: list[tuple[int, int]],
    marks: tuple[str, str],
    order: Literal["auto", "row_col", "col_row"],
) -> Grid:
    first, second = ([p[k] for p in pairs] for k in (0, 1))
    places = len(set(first)) * len(set(second))
    if len(set(pairs)) < len(pairs):
        return _unknown(files, f"{_alike(files, pairs)} have the same numbers")
    if len(pairs) < HOLES * places:
        return _unknown(files, "the two numbers in the file names form no grid")
    marked = _marked(marks)
    decided = order if order != "auto" else marked
    row_first = decided != "col_row"
    rows, cols = (first, second) if row_first else (second, first)
    told = "row then column" if row_first else "column then row"
    return Grid(
        "grid",
        _from_zero(rows),
        _from_zero(cols),
        f"the file names hold {told}",
        bare=decided is None,
    )


def _marked(marks: tuple[str, str]) -> Literal["row_col", "col_row"] | None:
    """The order that the text before the two numbers states, if it does."""
    words = [_word(mark) for mark in marks]
    if words[0] in ROW_MARKS and words[1] in COLUMN_MARKS:
        return "row_col"
    if words[0] in COLUMN_MARKS and words[1] in ROW_MARKS:
        return "col_row"
    return "col_row" if words[0] == "grid@" else None  # [Grid@column row]


def _word(mark: str) -> str:
    """The last word of the text before a number."""
    return re.split(r"[^a-z@]+", mark.casefold().rstrip("_-= ."))[-1]


def _unknown(files: Sequence[str], why: str) -> Grid:
    rows = (0,) * len(files)
    return Grid("none", rows, (-1,) * len(files), f"no layout known: {why}")


def _from_zero(numbers: Sequence[int]) -> tuple[int, ...]:
    least = min(numbers)
    return tuple(n - least for n in numbers)


def _no_doubles(files: Sequence[str], rows: list[int], cols: list[int], what: str) -> None:
    seen: dict[tuple[int, int], str] = {}
    for file, place in zip(files, zip(rows, cols, strict=True), strict=True):
        if place in seen:
            raise InputError(
                f"By {what}, {seen[place]} and {file} both lie in row {place[0]}, column "
                f"{place[1]}. Correct the pattern (with the folder, where that tells them apart: "
                "'row_{row}/tile_{col}.tif'), or leave one of them out."
            )
        seen[place] = file
