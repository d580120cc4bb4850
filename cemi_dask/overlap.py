"""`PairShift` and `OverlapGraph`: which frames overlap, and by how much they are displaced.

A displacement (dx, dy) of pair (i, j) is the position of frame j minus the position of
frame i in px: the point p of frame j shows what the point p + d of frame i shows.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import networkx as nx
import numpy as np
import numpy.typing as npt

from cemi_dask.display import Displayed
from cemi_dask.errors import InputError
from cemi_dask.geometry import Box, Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

Status = Literal["ok", "ambiguous", "rejected", "empty"]
# Why a pair is not ok, see `PairShift`.
Reason = Literal[
    "",
    "no_texture",
    "no_overlap",
    "low_score",
    "not_significant",
    "unexplained",
    "lattice",
    "rival_peak",
    "contradicted",
]


@dataclass(frozen=True)
class Peak:
    """One candidate displacement: px, its score (normalised cross-correlation on the true
    overlap, -1..1) and the 2 x 2 covariance [xx, xy, yy] in px^2."""

    dx_px: float
    dy_px: float
    score: float
    cov_px2: tuple[float, float, float] = (1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Lattice:
    """Where the displacement of a pair can lie if the overlap is one wave of parallel lamellae.

    `wave_x`, `wave_y` in cycles per px: the wave vector k. (dx_px, dy_px) + m k / |k|^2, with
    any whole m, lies across the lamellae, good to `sigma_px`; along them nothing is known.
    """

    wave_x: float
    wave_y: float
    dx_px: float
    dy_px: float
    sigma_px: float


@dataclass(frozen=True)
class LocalShifts:
    """Displacements of the parts of an overlap, which tell how frames are bent.

    The parts are a grid (rows, columns) that fills `box` (y0, x0, y1, x1) of frame i, row by
    row. `packed` holds five little-endian float32 of each, in base64 (a tenth of what numbers
    take in JSON): dx_px, dy_px, and the information xx, xy, yy in them, px^-2.
    """

    box: tuple[int, int, int, int]
    grid: tuple[int, int]
    packed: str

    @classmethod
    def pack(
        cls, box: Box, grid: tuple[int, int], shift: Floats, information: Floats
    ) -> LocalShifts:
        """From shifts (m, 2) px and their information matrices (m, 2, 2)."""
        table = np.column_stack([shift, information.reshape(-1, 4)[:, [0, 1, 3]]])
        packed = b64encode(np.ascontiguousarray(table, "<f4").tobytes()).decode("ascii")
        return cls((box.y0, box.x0, box.y1, box.x1), grid, packed)

    @property
    def centres(self) -> Floats:
        """Where the parts lie in frame i: (m, 2) px, x then y."""
        y0, x0, y1, x1 = self.box
        y, x = (
            a + (b - a) * (np.arange(n) + 0.5) / n - 0.5
            for a, b, n in ((y0, y1, self.grid[0]), (x0, x1, self.grid[1]))
        )
        return np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=1)

    @property
    def values(self) -> Floats:
        """One row (dx, dy, xx, xy, yy) per part."""
        return np.frombuffer(b64decode(self.packed), "<f4").reshape(-1, 5).astype(np.float64)


@dataclass(frozen=True)
class PairShift:
    """What was measured between frames i < j.

    `peaks` holds the candidates, best first (empty for status ``empty``: no texture or no
    overlap). `status`: ok; ambiguous (several peaks that cannot be told apart); rejected
    (no peak passes, or the solver found it to be an outlier); empty.
    `lattice`: of an ambiguous pair whose overlap is one wave of lamellae. `reason` is empty for
    ok, else no_texture (one of the frames holds none); no_overlap (no displacement leaves
    `min_overlap`); low_score; not_significant (unrelated frames would agree as well); unexplained
    (most of the structure disagrees, and its parts lie all over); lattice (a high score, but so
    would any overlap of the same periodic texture have); rival_peak (another displacement fits
    about as well); contradicted (misses the solution).
    `grey` is (mean_i, mean_j, std_i, std_j) of both frames inside the overlap of the best
    peak, in grey levels of the raw frames, for gain solving. `local` holds the displacements
    of parts of the overlap at the best peak of a pair that is ok, as far as they were refined.
    """

    i: int
    j: int
    peaks: tuple[Peak, ...] = ()
    status: Status = "ok"
    grey: tuple[float, float, float, float] | None = None
    overlap_px: int = 0
    lattice: Lattice | None = None
    reason: Reason = ""
    local: LocalShifts | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dict that survives JSON exactly (floats as repr)."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PairShift:
        """The inverse of `to_json`."""
        peaks = tuple(Peak(**{**p, "cov_px2": tuple(p["cov_px2"])}) for p in value["peaks"])
        grey = tuple(value["grey"]) if value["grey"] is not None else None
        lattice = None if value["lattice"] is None else Lattice(**value["lattice"])
        local = value["local"]
        if local is not None:
            local = LocalShifts(tuple(local["box"]), tuple(local["grid"]), local["packed"])
        return cls(**{**value, "peaks": peaks, "grey": grey, "lattice": lattice, "local": local})


@dataclass(frozen=True)
class OverlapGraph(Displayed):
    """A networkx graph of frames (nodes 0..n-1) and measured pairs (edges).

    Each edge holds its `PairShift` under ``pair``. Nodes hold ``x_prior_px``, ``y_prior_px``
    and ``sigma_prior_px`` where a position is expected (NaN where not), in one common frame
    of reference, so that frames without a link can be placed, and ``shear`` (px in x per px
    in y, see `Layout`), with which the displacements are those of the frames' middle lines.
    """

    graph: nx.Graph
    frame_shape: tuple[int, int]
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def build(
        cls, n_frames: int, frame_shape: tuple[int, int], pairs: Iterable[PairShift]
    ) -> OverlapGraph:
        """A graph of `n_frames` nodes without priors or shear and one edge per pair."""
        graph = nx.Graph()
        graph.add_nodes_from(
            range(n_frames),
            x_prior_px=float("nan"),
            y_prior_px=float("nan"),
            sigma_prior_px=float("inf"),
            shear=0.0,
        )
        for pair in pairs:
            if not 0 <= pair.i < pair.j < n_frames:
                raise InputError(f"Pair ({pair.i}, {pair.j}) does not fit {n_frames} frames.")
            graph.add_edge(pair.i, pair.j, pair=pair)
        return cls(graph, frame_shape)

    def __len__(self) -> int:
        return int(self.graph.number_of_nodes())

    def pairs(self) -> Iterator[PairShift]:
        """Every measured pair, ordered by (i, j)."""
        found = (data["pair"] for _, _, data in self.graph.edges(data=True))
        return iter(sorted(found, key=lambda pair: (pair.i, pair.j)))

    def plot(self, *, layout: Layout | None = None, pixel_um: float | None = None) -> Figure:
        """A matplotlib figure: every measured pair as a line between its frames, by status.

        Frames lie where `layout` places them; without one it is solved, islands side by side.
        Axes are in px without `pixel_um`. Raises InputError where no pair has a displacement.
        """
        return self._figure(layout=layout, pixel_um=pixel_um)
