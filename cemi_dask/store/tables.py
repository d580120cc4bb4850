"""Tables of a run: NAME.csv and NAME.parquet, with the columns that others rely on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cemi_dask.contract import CONTRACT
from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.store.atomic import replacing


def write_table(
    frame: pd.DataFrame,
    folder: Path | str,
    name: str,
    *,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write ``folder/name.csv`` and ``.parquet``, each whole or not at all; path of the CSV.

    Numbers are written with the shortest digits that read back exactly; NaN is an empty field.
    The index is not written. `columns` are those that must be there (by default the contract's).
    Raises ConfigError for a name without a contract or missing columns, StoreError when the
    disk refuses.
    """
    wanted = CONTRACT.get(name) if columns is None else tuple(columns)
    if wanted is None:
        raise ConfigError(
            f"No columns are agreed for a table {name!r}; known are {list(CONTRACT)}. "
            "Say which columns it must have."
        )
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise ConfigError(f"The table {name!r} lacks the columns {missing}.")
    base = Path(folder)
    with replacing(base / f"{name}.parquet") as temporary:
        frame.to_parquet(temporary, index=False)
    with replacing(base / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    return base / f"{name}.csv"


def read_table(folder: Path | str, name: str) -> pd.DataFrame:
    """The table `name` with its types, from Parquet if there, else from CSV.

    Raises StoreError where there is neither, or the file cannot be read.
    """
    base = Path(folder)
    for file in (base / f"{name}.parquet", base / f"{name}.csv"):
        if not file.is_file():
            continue
        try:
            if file.suffix == ".parquet":
                return pd.read_parquet(file)
            return pd.read_csv(file)
        except (OSError, ValueError) as error:
            raise StoreError(f"{file} cannot be read as a table: {error}") from error
    raise StoreError(f"There is no table {name!r} in {base}. Run the stage that writes it.")
