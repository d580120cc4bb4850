"""Plain value types for places: `Box`, `Layout`, `ChunkGrid`.

Arrays are (y, x), boxes are half-open, x points right and y down, and pixel (0, 0) has its
centre at the coordinate (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cemi_dask.display import Displayed
from cemi_dask.distortion import Bend, Distortion, Field
from cemi_dask.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

# A shear that moves a frame's first line against its last by less than this is taken as none:
# it is below what a displacement is measured to, and the frame stays a plain rectangle.
_LEAST_SHEAR_PX = 0.05


def line_offsets(shear: float, height: int) -> FloatArray | None:
    """How far right each of `height` lines lies (px, float64): shear * (y - (height - 1) / 2).

    The middle line stays where it is. None for a frame that is not sheared (under 0.05 px
    from its first line to its last).
    """
    if abs(shear) * (height - 1) < _LEAST_SHEAR_PX:
        return None
    return np.asarray(shear * (np.arange(height) - (height - 1) / 2), np.float64)


@dataclass(frozen=True)
class Box:
    """A half-open rectangle of whole pixels: rows y0..y1-1, columns x0..x1-1."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px; zero where the box is empty."""
        return max(0, self.y1 - self.y0), max(0, self.x1 - self.x0)

    @property
    def empty(self) -> bool:
        """True where the box holds no pixel."""
        return self.y1 <= self.y0 or self.x1 <= self.x0

    @property
    def area_px(self) -> int:
        """Number of pixels in the box."""
        height, width = self.shape
        return height * width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as (y, x) slices of an array whose pixel (0, 0) is the origin."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersect(self, other: Box) -> Box:
        """The part shared with `other` (empty where they do not touch)."""
        return Box(
            max(self.y0, other.y0),
            max(self.x0, other.x0),
            min(self.y1, other.y1),
            min(self.x1, other.x1),
        )

    def expand(self, halo_px: int) -> Box:
        """The box grown by `halo_px` on each side (it may then leave the image)."""
        return Box(self.y0 - halo_px, self.x0 - halo_px, self.y1 + halo_px, self.x1 + halo_px)

    def shift(self, dy: int, dx: int) -> Box:
        """The box moved by whole pixels."""
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def relative_to(self, origin: Box) -> Box:
        """The same place in the coordinates of `origin`'s first pixel."""
        return self.shift(-origin.y0, -origin.x0)


@dataclass(frozen=True)
class ChunkGrid:
    """A (y, x) image cut into blocks of `chunk_shape`; the last ones may be smaller."""

    shape: tuple[int, int]
    chunk_shape: tuple[int, int]

    @property
    def count(self) -> tuple[int, int]:
        """Number of blocks along (y, x)."""
        (h, w), (ch, cw) = self.shape, self.chunk_shape
        return -(-h // ch), -(-w // cw)

    def box(self, row: int, col: int) -> Box:
        """The box of block (row, col), clipped to the image."""
        (h, w), (ch, cw) = self.shape, self.chunk_shape
        return Box(row * ch, col * cw, min(h, (row + 1) * ch), min(w, (col + 1) * cw))

    def __iter__(self) -> Iterator[tuple[int, int, Box]]:
        """(row, col, box) of every block, row by row."""
        rows, cols = self.count
        for row in range(rows):
            for col in range(cols):
                yield row, col, self.box(row, col)

    @property
    def dask_chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The chunks of a dask array cut along this grid."""
        rows, cols = self.count
        heights = tuple(self.box(r, 0).shape[0] for r in range(rows))
        widths = tuple(self.box(0, c).shape[1] for c in range(cols))
        return heights, widths


@dataclass(frozen=True)
class Layout(Displayed):
    """Where every frame lies in the mosaic.

    `x_px`, `y_px` (n, float64) give the centre of each frame's pixel (0, 0) in mosaic
    pixels; `sigma_*_px` their standard deviations; `component` the number of the connected
    island a frame belongs to (0 is the largest); `gain`, `offset` its grey correction,
    ``corrected = gain * pixel + offset``. Frames with `used` False take no part in the mosaic.
    `shear` (px in x per px in y) tells how far lines are displaced that were scanned while the
    stage moved: pixel (x, y) of frame k lies at x_px[k] + x + shear[k] * (y - (h - 1) / 2),
    so that `x_px` is the place of the frame's middle line. `distortion` is the field by which
    all frames are bent alike, which comes on top; None for frames scanned evenly. `bends`
    (n, rows, cols, 2) are meshes by which each frame is bent by itself (see `Bend`), without
    nodes where frames are taken as they are.
    """

    x_px: FloatArray
    y_px: FloatArray
    frame_shape: tuple[int, int]
    sigma_x_px: FloatArray = field(default_factory=lambda: np.empty(0))
    sigma_y_px: FloatArray = field(default_factory=lambda: np.empty(0))
    component: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    gain: FloatArray = field(default_factory=lambda: np.empty(0))
    offset: FloatArray = field(default_factory=lambda: np.empty(0))
    used: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    shear: FloatArray = field(default_factory=lambda: np.empty(0))
    bends: FloatArray = field(default_factory=lambda: np.empty(0))
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        n = len(self.x_px)
        defaults: dict[str, npt.NDArray[np.generic]] = {
            "sigma_x_px": np.full(n, np.nan),
            "sigma_y_px": np.full(n, np.nan),
            "component": np.zeros(n, np.int64),
            "gain": np.ones(n),
            "offset": np.zeros(n),
            "used": np.ones(n, np.bool_),
            "shear": np.zeros(n),
            "bends": np.zeros((n, 0, 0, 2)),
        }
        for name, default in defaults.items():
            if n and not len(getattr(self, name)):
                object.__setattr__(self, name, default)
            if len(getattr(self, name)) != n:
                raise InputError(
                    f"Layout.{name} has {len(getattr(self, name))} entries for {n} frames."
                )
        if len(self.y_px) != n:
            raise InputError(f"Layout has {n} x positions and {len(self.y_px)} y positions.")
        if self.distortion is not None and self.distortion.frame_shape != self.frame_shape:
            raise InputError(
                f"Layout of frames of {self.frame_shape} px with the distortion of frames of "
                f"{self.distortion.frame_shape} px."
            )

    def __len__(self) -> int:
        return len(self.x_px)

    def plot(self, *, pixel_um: float | None = None) -> Figure:
        """A matplotlib figure: every used frame, coloured by the standard deviation of its place.

        Where frames form several islands, these too. Axes are in px without `pixel_um`. Raises
        InputError where no frame is used.
        """
        return self._figure(pixel_um=pixel_um)

    def field_of(self, index: int) -> Field | None:
        """By what one frame is bent: its own mesh, if it has one, or what all share."""
        if not self.bends[index].size:
            return self.distortion
        return Bend(self.frame_shape, self.bends[index], self.distortion)

    @property
    def left_px(self) -> FloatArray:
        """Where the line of each frame that lies farthest left begins (n); x_px without shear."""
        return np.asarray(self.x_px - self._reach_px, np.float64)

    @property
    def right_px(self) -> FloatArray:
        """Where the line of each frame that lies farthest right begins (n); x_px without shear."""
        return np.asarray(self.x_px + self._reach_px, np.float64)

    @property
    def _reach_px(self) -> FloatArray:
        """How far the outermost lines lie from the middle line (n)."""
        return np.asarray(np.abs(self.shear) * ((self.frame_shape[0] - 1) / 2), np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the mosaic in px that holds every line of every used frame."""
        if not self.used.any():
            raise InputError("Layout holds no used frame, so the mosaic has no size.")
        height, width = self.frame_shape
        bottom = int(np.ceil(self.y_px[self.used].max())) + height
        right = int(np.ceil(self.right_px[self.used].max())) + width
        return bottom, right

    def to_origin(self) -> Layout:
        """The same layout moved so that the used frames' lines start at (0, 0)."""
        if not self.used.any():
            return self
        x0, y0 = self.left_px[self.used].min(), self.y_px[self.used].min()
        return replace(self, x_px=self.x_px - x0, y_px=self.y_px - y0)

    def part(self, indices: npt.NDArray[np.int64]) -> Layout:
        """The layout of some frames only, in the given order."""
        shared = ("frame_shape", "distortion")
        arrays = (f.name for f in fields(self) if f.name not in shared)
        return replace(self, **{name: getattr(self, name)[indices] for name in arrays})

    def check_fits(self, count: int, frame_shape: tuple[int, int]) -> None:
        """Nothing, or InputError where this does not place `count` frames of `frame_shape`."""
        if count != len(self) or frame_shape != self.frame_shape:
            raise InputError(
                f"The layout places {len(self)} frames of {self.frame_shape} px, but there are "
                f"{count} frames of {frame_shape} px. Solve the layout of these frames."
            )
        for name in ("x_px", "y_px", "gain", "offset", "shear"):
            bad = np.flatnonzero(self.used & ~np.isfinite(getattr(self, name)))
            if bad.size:
                raise InputError(
                    f"Layout.{name} is not finite for the used frames {bad[:8].tolist()}. Mark "
                    "them as not used, or give them a place."
                )

    def frame_box(self, index: int) -> Box:
        """Smallest box of whole mosaic pixels that holds frame `index`, all its lines."""
        height, width = self.frame_shape
        left, right = float(self.left_px[index]), float(self.right_px[index])
        y = float(self.y_px[index])
        y0, x0 = int(np.floor(y)), int(np.floor(left))
        return Box(y0, x0, int(np.ceil(y)) + height, int(np.ceil(right)) + width)

    def frames_in(self, box: Box) -> npt.NDArray[np.int64]:
        """Indices, ascending, of the used frames whose `frame_box` touches `box`."""
        height, width = self.frame_shape
        hit = (
            self.used
            & (np.floor(self.left_px) < box.x1)
            & (np.ceil(self.right_px) + width > box.x0)
            & (np.floor(self.y_px) < box.y1)
            & (np.ceil(self.y_px) + height > box.y0)
        )
        return np.flatnonzero(hit).astype(np.int64)
