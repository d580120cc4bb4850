"""The frames table from what the scans found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cemi_dask.errors import InputError
from cemi_dask.frames.sources import Source
from cemi_dask.frameset import EXTRA_COLUMNS, FRAME_COLUMNS, Nominal


def build_table(
    sources: Sequence[Source], scans: Sequence[dict[str, Any]]
) -> tuple[pd.DataFrame, Nominal]:
    """(table, nominal): one row per taken frame, in the order of the pixel stack.

    The columns are those of `Frames.table`; `nominal` says what its positions mean. Raises
    InputError where the sources differ in size or grey type, or nothing was taken.
    """
    _same_kind(sources, scans)
    table = _table(record for scan in scans for record in scan["records"] if record["taken"])
    if table.empty:
        raise InputError(
            f"None of the {sum(s['recorded'] for s in scans)} recorded frames could be taken. "
            "See the warnings of each file."
        )
    if not table["used"].any():
        reasons = table["reason"].value_counts()
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise InputError(
            f"None of the {len(table)} pictures can be used ({told}), "
            f"{table['file'].iloc[0]} first. If they are not blank, lower "
            "frames.blank_correlation and frames.blank_contrast."
        )
    return table, sources[0].nominal


def rejected_table(sources: Sequence[Source], scans: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per recorded frame that was refused (reason: blank, damaged, ...); same columns."""
    return _table(record for scan in scans for record in scan["records"] if not record["taken"])


def _table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    columns = [*FRAME_COLUMNS, *EXTRA_COLUMNS]
    rows = [{name: record.get(name) for name in columns} for record in records]
    table = pd.DataFrame(rows, columns=columns)
    table["frame"] = range(len(table))
    for name in ("time_s", "sharpness", "x_nominal_px", "y_nominal_px"):
        table[name] = table[name].astype("float64")
    table["shear"] = table["shear"].astype("float64").fillna(0.0)
    table["looks"] = table["looks"].astype("float64").fillna(1)
    for name in ("frame", "source_index", "row", "col", "looks"):
        table[name] = table[name].astype("int64")
    table["used"] = table["used"].astype(bool)
    return table


def _same_kind(sources: Sequence[Source], scans: Sequence[dict[str, Any]]) -> None:
    first = scans[0]["shape"], scans[0]["dtype"]
    for source, scan in zip(sources, scans, strict=True):
        if (scan["shape"], scan["dtype"]) != first:
            raise InputError(
                f"{source.files[0]} gives frames of {scan['shape']} px (height, width) "
                f"{scan['dtype']}, {sources[0].files[0]} of {first[0]} px {first[1]}. "
                "List only files of one kind in input.paths."
            )
