"""Indentation hardness out of a CSV file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError, UnreadableError

NAN = float("nan")
FloatArray = npt.NDArray[np.float64]

X_NAMES = {"x_um": 1.0, "x": 1.0, "position_um": 1.0, "x_mm": 1000.0, "position_mm": 1000.0}
VALUE_WORDS = ("hardness", "hv", "value", "h_gpa", "gpa")
ERROR_WORDS = ("error", "err", "std", "sd", "se", "sigma", "uncertainty")


@dataclass(frozen=True)
class Hardness:
    """Indents along x, ascending: position in micrometres, value, its standard error or NaN."""

    x_um: FloatArray
    value: FloatArray
    error: FloatArray
    name: str


def read_hardness(path: Path | str, *, value_column: str | None = None) -> Hardness:
    """Indents out of a CSV file: a column x_um (or x_mm), a value column, perhaps an error.

    Fields are parted by commas, semicolons or tabs; lines that start with # are skipped.
    Indents at the same x are averaged. Raises UnreadableError for a file that cannot be
    opened, InputError naming file, line and column for what is no number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise UnreadableError(f"The hardness file {path} cannot be read: {cause}.") from cause
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(lines) < 2:
        raise InputError(f"The hardness file {path} has no data. It needs a header and indents.")
    comma = max(",;\t", key=lines[0][1].count)
    rows = list(csv.reader([line for _, line in lines], delimiter=comma, skipinitialspace=True))
    header = [name.strip() for name in rows[0]]
    columns = _columns(header, path, value_column)
    table = np.array(
        [
            [_number(row, index, (path, number, header)) for index in columns]
            for (number, _), row in zip(lines[1:], rows[1:], strict=True)
        ]
    )
    scale = X_NAMES[header[columns[0]].lower()]
    error = table[:, 2] if len(columns) > 2 else np.full(len(table), NAN)
    return _averaged(scale * table[:, 0], table[:, 1], error, header[columns[1]])


def _columns(header: list[str], path: Path, value_column: str | None) -> list[int]:
    """Indices of the columns x, value and, where there is one, error."""
    low = [name.lower() for name in header]
    x = next((k for k, name in enumerate(low) if name in X_NAMES), None)
    if x is None:
        raise InputError(f"{path}: none of the columns {header} is a position. Call it x_um.")
    errors = [k for k, name in enumerate(low) if _is_error(name) and k != x]
    if value_column is not None:
        if value_column not in header:
            raise InputError(f"{path}: there is no column {value_column!r} among {header}.")
        value = header.index(value_column)
    else:
        rest = [k for k in range(len(low)) if k != x and k not in errors]
        named = [k for k in rest if any(word in low[k] for word in VALUE_WORDS)]
        if not named and len(rest) != 1:
            raise InputError(
                f"{path}: none of the columns {header} is called hardness. Rename one, or set "
                "value_column."
            )
        value = (named or rest)[0]
    return [x, value, *[k for k in errors if k != value][:1]]


def _is_error(name: str) -> bool:
    return any(word in ERROR_WORDS for word in name.replace("-", "_").replace(" ", "_").split("_"))


def _number(row: list[str], index: int, place: tuple[Path, int, list[str]]) -> float:
    path, number, header = place
    text = row[index].strip() if index < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = NAN
    if not np.isfinite(value):
        raise InputError(
            f"{path}, line {number}, column {header[index]!r}: {text!r} is no number. "
            "Correct or delete the line."
        )
    return value


def _averaged(x_um: FloatArray, value: FloatArray, error: FloatArray, name: str) -> Hardness:
    """Repeated indents at one x as one, with the standard error of their mean."""
    places, which, counts = np.unique(x_um, return_inverse=True, return_counts=True)
    mean = np.bincount(which, value) / counts
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.bincount(which, (value - mean[which]) ** 2) / (counts - 1) / counts
    stated = np.bincount(which, error**2) / counts**2
    return Hardness(places, mean, np.sqrt(np.where(counts > 1, spread, stated)), name)
