"""The ingots of a batch: read from a table, a folder, or configs."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.config import RunConfig, parse_config, read_yaml, run_name

YAMLS = (".yaml", ".yml")


@dataclass(frozen=True)
class Ingot:
    """One ingot of a batch: its name, its config, and the folder where the config's paths start."""

    name: str
    config: RunConfig
    base: Path


def list_ingots(
    source: str | Path | Sequence[RunConfig | str | Path], config: str | Path | None = None
) -> list[Ingot]:
    """The ingots that `source` names, in its order (a folder's: sorted by name).

    A table (CSV): a row per ingot. The column ``config`` names its config, else `config` is
    taken; the column ``name`` its name; every other column is a key of the config with dots,
    such as ``input.paths``, whose cell is read as YAML and replaces what the config says. Empty
    cells replace nothing. Paths in cells start where those of the config do: at its folder, or
    at the table's where there is no config. A folder with `config`: an ingot per subfolder, which
    is the config's ``input.paths``. A folder without: an ingot per YAML file in it, and per
    subfolder that holds one. Anything else: configs, each by path or as `RunConfig`.

    Raises ConfigError for what cannot be read or is wrong, for no ingots, and for two of a name.
    """
    if not isinstance(source, str | Path):
        if config is not None:
            raise ConfigError("Configs are given one by one: leave out `config`.")
        found = [_given(one) for one in source]
    elif Path(source).is_dir():
        found = _of_folder(Path(source).resolve(), config)
    else:
        found = _of_table(Path(source).resolve(), config)
    if not found:
        raise ConfigError(
            f"{source} names no ingots. Give a table with a row for each, or a folder."
        )
    doubled = [name for name, count in Counter(ingot.name for ingot in found).items() if count > 1]
    if outside := [ingot.name for ingot in found if ingot.name in {".", ".."}]:
        raise ConfigError(f"An ingot cannot be called {outside[0]!r}: it is no name of a folder.")
    if doubled:
        raise ConfigError(
            f"Two ingots are called {doubled[0]!r}, and each needs a run folder of its own. Give "
            "them different names (the column `name` of a table, or `name` in the configs)."
        )
    return found


def _given(one: RunConfig | str | Path) -> Ingot:
    if isinstance(one, RunConfig):
        return Ingot(one.name, one, Path.cwd())
    config = parse_config(read_yaml(one), origin=str(one))
    return Ingot(config.name, config, Path(one).resolve().parent)


def _named(name: str, values: Any, base: Path, origin: str) -> Ingot:
    """An ingot whose config gets that name."""
    if isinstance(values, dict):
        values = {**values, "name": name}
    return Ingot(name, parse_config(values, origin=origin), base)


def _of_folder(folder: Path, config: str | Path | None) -> list[Ingot]:
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    folders = [path for path in inside if path.is_dir() and not _is_output(path)]
    if config is not None:
        found = []
        for path in folders:
            values = _with_cell(read_yaml(config), "input.paths", [str(path)])
            base = Path(config).resolve().parent
            found.append(_named(run_name(path, "ingot"), values, base, f"{config} for {path}"))
        return found
    files = [
        (run_name(path.with_suffix(""), "ingot"), path)
        for path in inside
        if path.suffix in YAMLS and path.is_file()
    ]
    for path in folders:
        held = [file for file in sorted(path.iterdir()) if file.suffix in YAMLS]
        if len(held) > 1:
            raise ConfigError(
                f"{path} holds {len(held)} YAML files ({held[0].name} and {held[1].name} first). "
                "Leave one, or give a table that names the config of each ingot."
            )
        files += [(run_name(path, "ingot"), file) for file in held]
    return [_named(name, read_yaml(file), file.parent, str(file)) for name, file in files]


def _is_output(folder: Path) -> bool:
    """Whether a run or a batch has left this folder: it is no ingot."""
    return (folder / "ledger").is_dir() or (folder / "batch.csv").is_file()


def _of_table(file: Path, config: str | Path | None) -> list[Ingot]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"Cannot read {file}: {told}. Give a table (CSV) of ingots, or a folder."
        ) from error
    rows = csv.DictReader(io.StringIO(text), strict=True)
    found = []
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ConfigError(
                    f"{file}, line {rows.line_num} has not one cell for each of the "
                    f"{len(rows.fieldnames or ())} columns. Put texts with commas in quotes."
                )
            cells = {key.strip(): cell.strip() for key, cell in row.items()}
            if any(cells.values()):
                found.append(_of_row(file, rows.line_num, cells, config))
    except csv.Error as error:
        raise ConfigError(f"{file}, line {rows.line_num} is no CSV: {error}.") from error
    return found


def _of_row(file: Path, line: int, cells: dict[str, str], config: str | Path | None) -> Ingot:
    own = cells.pop("config", "")
    name = cells.pop("name", "")
    path = file.parent / own if own else None if config is None else Path(config).resolve()
    values: Any = {} if path is None else read_yaml(path)
    origin = f"{file}, line {line}"
    for key, cell in cells.items():
        if cell:
            try:
                values = _with_cell(values, key, yaml.safe_load(cell))
            except yaml.YAMLError as error:
                told = " ".join(str(error).split())
                raise ConfigError(f"{origin}, column {key}: {told}") from error
    if not name and isinstance(values, dict):
        name = str(values.get("name", "")) or (path.stem if own and path else f"ingot-{line - 1}")
    return _named(name, values, file.parent if path is None else path.parent, origin)


def _with_cell(values: Any, key: str, cell: Any) -> Any:
    """`values` with that key, given with dots, replaced; what is no mapping stays for the check."""
    if not isinstance(values, dict):
        return values
    first, _, rest = key.partition(".")
    if not rest:
        return {**values, first: cell}
    below = values.get(first)
    if isinstance(below, str):  # a method by its name alone
        below = {"method": below}
    return {**values, first: _with_cell(below if isinstance(below, dict) else {}, rest, cell)}
