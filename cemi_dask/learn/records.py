"""What a training leaves to look at: CSV logs, TensorBoard where installed, sample pictures."""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


class Records:
    """The logs in `folder`: NAME.csv, one row per report, and TensorBoard's files in tensorboard/.

    Opened at a `step` (that of the checkpoint from which a training resumes), rows of later
    steps are dropped: they are about to be written again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self.folder = folder
        self._board: Any = None
        if importlib.util.find_spec("tensorboard"):
            board = importlib.import_module("torch.utils.tensorboard")
            self._board = board.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        for name in ("log", "validation"):
            _cut(folder / f"{name}.csv", step)

    def add(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row to NAME.csv, whose columns are those of its first row."""
        path = self.folder / f"{name}.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{name}/{key}", value, step)
            self._board.flush()

    def close(self) -> None:
        """Finish TensorBoard's files."""
        if self._board is not None:
            self._board.close()

    def samples(self, step: int, columns: list[npt.NDArray[Any]]) -> None:
        """Write samples/STEP.png: one row per picture, one column per array (n, y, x) in 0..1."""
        height, width = columns[0].shape[-2:]
        fitted = [_fit(column, height, width) for column in columns]
        sheet = np.concatenate([np.concatenate(list(column)) for column in fitted], axis=1)
        grey = np.clip(np.rint(255 * np.asarray(sheet, np.float32)), 0, 255).astype(np.uint8)
        path = self.folder / "samples" / f"{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())


def _fit(pictures: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Pictures (n, y, x) cut or padded with black to a size: targets may have another grid."""
    cut = pictures[:, :height, :width]
    more = [(0, 0), (0, height - cut.shape[1]), (0, width - cut.shape[2])]
    return np.pad(cut, more)


def _cut(path: Path, step: int) -> None:
    """Drop the rows of later steps from a log."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in lines[1:] if row.endswith("\n") and int(row.split(",")[0]) <= step]
    path.write_text("".join([*lines[:1], *kept]), encoding="utf-8")
