"""`Distortion`, the smooth field by which all frames are bent alike, and `Bend`, that of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from cemi_dask.errors import InputError

Floats = npt.NDArray[np.float64]

# Exponents (of u, of v) of the field's terms: u and v are -1..1 from side to side of a frame.
EXPONENTS = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
# Terms that overlaps can tell. What is linear scales, turns or shears the whole mosaic: frames
# agree with each other as well as before.
TOLD = tuple(k for k, (a, b) in enumerate(EXPONENTS) if a + b > 1)

_TURNS = 12  # of the fixed-point iteration: each leaves a few percent of the miss


class Field(ABC):
    """How far each pixel of a frame lies from where an even scan has it, in px: `at`.

    The inverse of a field is computed at `fit[0]` nodes along each axis, and a polynomial of
    degree `fit[1]` put through them.
    """

    frame_shape: tuple[int, int]
    fit: ClassVar[tuple[int, int]]

    @abstractmethod
    def at(self, x: Floats | float, y: Floats | float) -> Floats:
        """The field (..., 2) px, x then y, at frame coordinates of any one shape."""

    @property
    def max_px(self) -> float:
        """The largest displacement in the frame, along either axis, to a percent."""
        return float(np.abs(self._on_frame()).max())

    def _on_frame(self) -> Floats:
        height, width = self.frame_shape
        y, x = np.meshgrid(np.linspace(0, height - 1, 33), np.linspace(0, width - 1, 33))
        return self.at(x, y)

    def sources(
        self, x: Floats, y: Floats, *, shear: float = 0.0
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where a straight picture is read, line by line and then column by column.

        `x` (w) and `y` (h) are the columns and rows wanted, in px from the frame's corner. The
        first result (H, w) tells for each of the frame's H lines the x at which the line is
        read for those columns; the second (h, w) the y at which column x of what comes out is
        read for the rows (two passes: Catmull and Smith 1980). `shear` (px in x per px in y)
        is undone as well.
        """
        height = self.frame_shape[0]
        lines = np.arange(height, dtype=np.float64)
        along_x = self._on_grid(x, lines, lambda p, q: self._inverse(p, q, shear, on_line=True)[0])
        along_y = self._on_grid(x, y, lambda p, q: self._inverse(p, q, shear, on_line=False)[1])
        return along_x, along_y

    def meets(
        self, x: Floats, y: Floats, *, step: tuple[float, float], shear: tuple[float, float]
    ) -> tuple[Floats, Floats, Floats]:
        """Where another frame, bent alike, is read to show what columns `x` (w), rows `y` (h) do.

        It lies `step` (x, y) px further on; `shear` are those of this frame and the other. The
        first two results are as of `sources`, the third (h, w) the columns at which the other
        frame shows these pixels, as the second is their rows.
        """
        middle = (self.frame_shape[0] - 1) / 2

        def there(p: Floats, q: Floats, on_line: bool) -> tuple[Floats, Floats]:
            row = q + step[1] if on_line else q  # of this frame
            at_x, at_y = p - step[0], row - step[1]
            for _ in range(_TURNS):
                away = self.at(p, row) - self.at(at_x, at_y)
                if on_line:
                    row = q + step[1] - away[..., 1]
                at_y = q if on_line else row - step[1] + away[..., 1]
                slant = shear[0] * (row - middle) - shear[1] * (at_y - middle)
                at_x = p - step[0] + slant + away[..., 0]
            return at_x, at_y

        lines = np.arange(self.frame_shape[0], dtype=np.float64)
        return (
            self._on_grid(x, lines, lambda p, q: there(p, q, True)[0]),
            self._on_grid(x, y, lambda p, q: there(p, q, False)[1]),
            self._on_grid(x, y, lambda p, q: there(p, q, False)[0]),
        )

    def _inverse(
        self, x: Floats, y: Floats, shear: float, *, on_line: bool
    ) -> tuple[Floats, Floats]:
        """Frame coordinates of what lies at (x, y); with `on_line` the line y is given instead."""
        middle = (self.frame_shape[0] - 1) / 2
        at_x, at_y = x, y
        for _ in range(_TURNS):
            field = self.at(at_x, at_y)
            if not on_line:
                at_y = y - field[..., 1]
            at_x = x - shear * (at_y - middle) - field[..., 0]
        return at_x, at_y

    def _on_grid(self, x: Floats, y: Floats, value: Callable[[Floats, Floats], Floats]) -> Floats:
        return on_grid(x, y, value, fit=self.fit)


@dataclass(frozen=True)
class Distortion(Field):
    """How far each pixel of a frame lies from where an even scan has it, the same in all frames.

    Pixel (x, y) of a frame shows what lies at (x + fx, y + fy), in px from the frame's corner,
    shear not counted. fx is the sum of ``x_px[k] * u**a * v**b`` over `EXPONENTS`, fy that of
    `y_px`, with u and v from -1 to 1 between the centres of the outermost pixels of a frame of
    `frame_shape`. The pixel in the middle stays where it is.
    """

    # Off by less than 1e-4 px for fields of 10 px.
    fit: ClassVar[tuple[int, int]] = (24, 7)

    frame_shape: tuple[int, int]
    x_px: tuple[float, ...]
    y_px: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.x_px) != len(EXPONENTS) or len(self.y_px) != len(EXPONENTS):
            raise InputError(
                f"A distortion has {len(EXPONENTS)} terms along each axis, not {len(self.x_px)} "
                f"and {len(self.y_px)}."
            )
        if not np.isfinite([self.x_px, self.y_px]).all():
            raise InputError("A distortion must be finite.")

    def at(self, x: Floats | float, y: Floats | float) -> Floats:
        """The field (..., 2) px, x then y, at frame coordinates of any one shape."""
        return np.asarray(terms(x, y, self.frame_shape) @ np.array([self.x_px, self.y_px]).T)

    @property
    def corner_px(self) -> float:
        """The displacement of the corner that is displaced most."""
        return float(np.linalg.norm(self._on_frame()[[0, 0, -1, -1], [0, -1, 0, -1]], axis=1).max())

    def to_json(self) -> dict[str, Any]:
        """Plain dict that survives JSON exactly."""
        return {
            "frame_shape": list(self.frame_shape),
            "x_px": list(self.x_px),
            "y_px": list(self.y_px),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Distortion:
        """The inverse of `to_json`."""
        height, width = value["frame_shape"]
        return cls((height, width), tuple(value["x_px"]), tuple(value["y_px"]))


@dataclass(frozen=True)
class Bend(Field):
    """The field of one frame: what it shares with the others, and a coarse mesh of its own.

    `nodes` (rows, cols, 2) are coefficients in px, x then y, of uniform cubic B-splines whose
    mesh spans the frame of `frame_shape` in rows - 3 by cols - 3 cells; `shared` comes on top.
    Beyond the frame's sides the mesh keeps the value at the side.
    """

    # Off by less than a hundredth of the mesh's displacements, at 4 to 8 nodes along an axis.
    fit: ClassVar[tuple[int, int]] = (40, 17)

    frame_shape: tuple[int, int]
    nodes: Floats
    shared: Distortion | None = None

    def at(self, x: Floats | float, y: Floats | float) -> Floats:
        """The field (..., 2) px, x then y, at frame coordinates of any one shape."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        height, width = self.frame_shape
        on_y = mesh_weights(y.ravel(), height, self.nodes.shape[0])
        on_x = mesh_weights(x.ravel(), width, self.nodes.shape[1])
        own = np.einsum("nr,rca,nc->na", on_y, self.nodes, on_x, optimize=True)
        out = np.asarray(own.reshape(*x.shape, 2), np.float64)
        return out if self.shared is None else out + self.shared.at(x, y)


def mesh_weights(at_px: Floats, length_px: int, nodes: int) -> Floats:
    """Weights (n, nodes) of uniform cubic B-splines at places (n) along a side of `length_px`."""
    cells = nodes - 3
    u = np.clip(at_px / max(length_px - 1, 1), 0.0, 1.0) * cells
    knots = np.arange(-3, cells + 4, dtype=np.float64)
    return np.asarray(BSpline.design_matrix(u, knots, 3).toarray())


def terms(x: Floats | float, y: Floats | float, frame_shape: tuple[int, int]) -> Floats:
    """The field's terms (..., 9) at frame coordinates in px; see `EXPONENTS`."""
    height, width = frame_shape
    u = 2 * np.asarray(x, np.float64) / max(width - 1, 1) - 1
    v = 2 * np.asarray(y, np.float64) / max(height - 1, 1) - 1
    return np.stack([u**a * v**b for a, b in EXPONENTS], axis=-1)


def on_grid(
    x: Floats, y: Floats, value: Callable[[Floats, Floats], Floats], *, fit: tuple[int, int]
) -> Floats:
    """A smooth function of (x, y) on the grid of columns `x` (w) and rows `y` (h), as (h, w).

    It is computed at Chebyshev nodes only (`fit[0]` along each axis), and a polynomial of degree
    `fit[1]` put through them by least squares: on a grid, a product of two small matrices.
    """
    cheb = np.polynomial.chebyshev
    node = np.cos(np.pi * (np.arange(fit[0]) + 0.5) / fit[0])
    (mid_x, half_x), (mid_y, half_y) = (
        ((c[0] + c[-1]) / 2, max((c[-1] - c[0]) / 2, 0.5)) for c in (x, y)
    )
    there = value(*np.meshgrid(mid_x + half_x * node, mid_y + half_y * node))
    inverse = np.linalg.pinv(cheb.chebvander(node, fit[1]))
    factors = inverse @ there @ inverse.T
    on_y, on_x = (
        cheb.chebvander((c - mid) / half, fit[1])
        for c, mid, half in ((y, mid_y, half_y), (x, mid_x, half_x))
    )
    return np.asarray(on_y @ factors @ on_x.T, np.float64)
