"""What a labelling method is: a grey picture in, a label picture out, exact on any block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import InputError
from cemi_dask.geometry import Box
from cemi_dask.methods import Method

Labels = npt.NDArray[np.uint8]

# Float grey levels are rounded to this fraction of a grey level, so that sums over windows
# are sums of integers: exact, and therefore the same for every way of cutting the mosaic.
FLOAT_STEPS = 256


class Labeller(Method):
    """Base of methods that turn a grey picture (y, x) into labels (y, x), uint8.

    Label 1 is what the method looks for, 0 everything else and every pixel without data
    (0 in a mosaic of integers, NaN in one of floats). The labels of a block are exact when
    the method sees `halo_px` more pixels on each side, and when the block it is given
    starts at a multiple of `stride_px` in the mosaic.
    """

    @property
    def stride_px(self) -> int:
        """Blocks handed to the method must start at a multiple of this many pixels."""
        return 1

    def at_scale(self, pixel_um: float | None) -> Self:
        """The same method with every length in px; `pixel_um` is None where it is unknown."""
        return self

    @property
    def part_px(self) -> int:
        """Side of the parts in which a block is labelled.

        Larger parts spend less on halos, smaller ones take less memory: maps of 80 bytes per px.
        """
        return 1024

    def memory_bytes(self, shard_px: int) -> int:
        """Bytes that a worker needs beside its base while it labels a shard of so many px."""
        return 24 * shard_px

    def located(self, base: Path) -> Self:
        """The same method with relative paths among its fields started at `base`."""
        return self

    def fingerprint(self) -> str | None:
        """What the labels depend on besides the method's fields (a file's digest), or None."""
        return None

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Labels of a picture."""
        raise TypeError(f"{type(self).__name__} is a base class and labels nothing.")

    def label_part(self, grey: npt.NDArray[Any], wanted: Box) -> Labels:
        """Labels of the part `wanted` of a picture that shows it with the method's halo."""
        return self(grey)[wanted.slices]


class PhaseMethod(Labeller):
    """Base of methods that find phases: label 1 is BCC, 2 and more are further phases."""


class Segmenter(Labeller):
    """Base of methods that find lamellar regions: label 1 is lamellar."""


def valid_pixels(grey: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where a picture (y, x) holds data: non-zero integers, finite floats.

    Raises InputError for other than two dimensions or another type than unsigned integers
    of up to 16 bits and floats.
    """
    if grey.ndim != 2:
        raise InputError(f"Labelling needs a picture (y, x), not an array of shape {grey.shape}.")
    if grey.dtype in (np.uint8, np.uint16):
        return grey != 0
    if grey.dtype.kind == "f":
        return np.isfinite(grey)
    raise InputError(
        f"Labelling needs grey levels of type uint8, uint16 or float, not {grey.dtype}. "
        "Convert the picture first."
    )


def whole_numbers(grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Grey levels as whole numbers, 0 where not valid.

    Integers stay as they are; floats become float64 holding multiples of 1/256 grey level.
    """
    if grey.dtype.kind != "f":
        return grey
    filled = np.where(valid, grey, 0).astype(np.float64)
    return np.rint(filled * FLOAT_STEPS)
