"""`Frames`: a lazy stack of frames and a table that says where each came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.delayed import Delayed

from cemi_dask.contract import CONTRACT
from cemi_dask.errors import InputError

# What `x_nominal_px`, `y_nominal_px` mean. stage: one common origin for all frames;
# grid: as stage, but the pitch is only a guess (col and row are what is known);
# row: tracked along each row, so only differences inside one row mean something;
# none: nothing is known.
Nominal = Literal["stage", "grid", "row", "none"]

# The contract of tables/frames.csv comes first; the columns after it are ours.
FRAME_COLUMNS = CONTRACT["frames"]
EXTRA_COLUMNS = ("col", "x_nominal_px", "y_nominal_px", "shear", "looks", "reason")


@dataclass(frozen=True)
class Frames:
    """Frames of one specimen, all of one shape.

    `data` is a dask array (n, y, x), one frame per chunk along the first axis; `table` has
    n rows with `FRAME_COLUMNS` and `EXTRA_COLUMNS` (frame: 0..n-1; row, col: place in the
    scan, col may be -1; positions in px, NaN where unknown; shear: px in x per px in y, see
    `Layout`; looks: how many recorded pictures were averaged; reason: empty, or why a frame
    is not used). `pixel_um` is None where no source states a pixel size.
    """

    data: da.Array
    table: pd.DataFrame
    nominal: Nominal = "none"
    pixel_um: float | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise InputError(f"Frames need an array (n, y, x), not one of shape {self.data.shape}.")
        if len(self.table) != self.data.shape[0]:
            raise InputError(
                f"Frames hold {self.data.shape[0]} pictures but a table of {len(self.table)} rows."
            )
        missing = [c for c in (*FRAME_COLUMNS, *EXTRA_COLUMNS) if c not in self.table.columns]
        if missing:
            raise InputError(f"The frames table lacks the columns {missing}.")
        if any(size != 1 for size in self.data.chunks[0]):
            object.__setattr__(self, "data", self.data.rechunk({0: 1, 1: -1, 2: -1}))

    @classmethod
    def from_array(
        cls,
        array: da.Array | npt.NDArray[Any],
        *,
        x_nominal_px: Sequence[float] | npt.NDArray[Any] | None = None,
        y_nominal_px: Sequence[float] | npt.NDArray[Any] | None = None,
        row: Sequence[int] | npt.NDArray[Any] | None = None,
        nominal: Nominal | None = None,
        pixel_um: float | None = None,
    ) -> Frames:
        """Frames from an array (n, y, x) in memory or in dask, with optional positions in px."""
        lazy = array if isinstance(array, da.Array) else da.from_array(array, chunks=(1, -1, -1))
        n = lazy.shape[0]
        known = x_nominal_px is not None and y_nominal_px is not None
        table = pd.DataFrame(
            {
                "frame": np.arange(n),
                "file": "array",
                "source_index": np.arange(n),
                "row": np.zeros(n, np.int64) if row is None else np.asarray(row),
                "time_s": np.nan,
                "sharpness": np.nan,
                "used": True,
                "col": -1,
                "x_nominal_px": np.nan if x_nominal_px is None else np.asarray(x_nominal_px, float),
                "y_nominal_px": np.nan if y_nominal_px is None else np.asarray(y_nominal_px, float),
                "shear": 0.0,
                "looks": 1,
                "reason": "",
            }
        )
        return cls(lazy, table, nominal or ("stage" if known else "none"), pixel_um)

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(height, width) of every frame in px."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Grey-level type of the frames."""
        return self.data.dtype

    def delayed(self) -> list[Delayed]:
        """One lazy block (1, y, x) per frame: what stages give to their tasks; see `plane`.

        Build the list once and index it; the frames are shared, not copied.
        """
        graph = self.data.__dask_graph__()
        name = self.data.name
        return [Delayed((name, i, 0, 0), graph, layer=name) for i in range(len(self))]

    def with_data(self, data: da.Array) -> Frames:
        """The same frames with other pixels (a denoised stack, say)."""
        return replace(self, data=data)


def plane(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The (y, x) picture of a block that `Frames.delayed` gave to a task."""
    return block[0] if block.ndim == 3 else block
