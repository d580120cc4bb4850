"""The elastic option: a coarse mesh of displacements for every frame by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import block_diag, coo_array, csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import LinearOperator, cg

from cemi_dask.distortion import mesh_weights
from cemi_dask.errors import ResourceError
from cemi_dask.geometry import Layout
from cemi_dask.solve.links import Flags, Floats, Ints, Links
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.parts import PartShifts, robust_weight, told_of

_ROUNDS = 5  # of re-weighting
_STIFF = 4.0  # a mesh's second differences are this many times smaller than its nodes' moves
_PRECISE = 1e-6  # of the right side, at which conjugate gradients stop
_MOST_TURNS = 2000
_HELD_OUT = 4  # every so manyth part is left out to see whether meshes tell its place
_SEED = 0


@dataclass(frozen=True)
class Bending:
    """Frames with a mesh each: the layout, and by how much parts of overlaps then agree.

    `parts` is the number of parts; `before_px` and `after_px` are the median distances by which
    parts that took no part in the fit miss, without and with meshes (fitted to the others).
    """

    layout: Layout
    parts: int
    before_px: float
    after_px: float

    def facts(self) -> dict[str, Any]:
        """The same for run.json."""
        held_out = {"before_px": self.before_px, "after_px": self.after_px}
        most = float(np.abs(self.layout.bends).max(initial=0.0))
        return {"parts": self.parts, "held_out": held_out, "max_node_px": most}


def bend_frames(links: Links, accepted: Flags, layout: Layout, options: SolveOptions) -> Bending:
    """The layout with a mesh for every frame, from the parts of the links `accepted` (m).

    What a part shows in frame i at p lies in frame j at p - s, with s its measured shift, so the
    meshes must make up for what positions leave: u_j(p - s) - u_i(p) = s - (x_j - x_i). Cubic
    B-splines whose nodes are expected to stay (`elastic_px`) and to move alike (second
    differences are penalised: Eilers and Marx 1996) satisfy all parts best by least squares,
    re-weighted by Geman and McClure. Positions stay: meshes hold what they lack as well.

    Raises ResourceError where conjugate gradients do not converge.
    """
    parts = PartShifts.of(links, accepted, layout.shear, layout.frame_shape)
    if layout.distortion is not None:
        parts = parts.straight(told_of(layout.distortion))
    if not len(parts.link):
        return Bending(layout, 0, float("nan"), float("nan"))
    mesh = _Mesh.of(parts, links, layout, options)
    held = np.random.default_rng(_SEED).permutation(len(parts.link)) % _HELD_OUT == 0
    left = mesh.left(mesh.fitted(~held))[held]
    nodes = mesh.fitted(np.ones_like(held))
    bent = replace(layout, bends=nodes)
    before = np.linalg.norm(mesh.wanted[held], axis=1)
    after = np.linalg.norm(left, axis=1)
    return Bending(bent, len(parts.link), float(np.median(before)), float(np.median(after)))


@dataclass(frozen=True)
class _Mesh:
    """The least-squares problem: `change` (N, n K) takes the nodes of all meshes to what they
    change in each part's displacement, `wanted` (N, 2) px, known by `information` (N, 2, 2);
    `prior` (n K, n K) is the inverse covariance of the nodes along one axis."""

    change: csr_array
    wanted: Floats
    information: Floats
    prior: csr_array
    frames: int
    nodes: int

    @classmethod
    def of(cls, parts: PartShifts, links: Links, layout: Layout, options: SolveOptions) -> _Mesh:
        """From parts whose shifts are those of frames without the shared distortion."""
        n, k = len(layout), options.elastic_nodes
        i, j = links.i[parts.link], links.j[parts.link]
        place = np.stack([layout.x_px, layout.y_px], axis=1)
        middle = (layout.frame_shape[0] - 1) / 2
        ends = [
            _rows(at[:, 0] - layout.shear[f] * (at[:, 1] - middle), at[:, 1], f, layout, k)
            for at, f in ((parts.place, i), (parts.place - parts.shift, j))
        ]
        one = diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(k - 2, k))
        bent = kron(one.T @ one, eye_array(k)) + kron(eye_array(k), one.T @ one)
        stay = (eye_array(k * k) + _STIFF**2 * bent) / options.elastic_px**2
        return cls(
            csr_array(ends[1] - ends[0]),
            parts.shift - (place[j] - place[i]),
            parts.information,
            csr_array(kron(eye_array(n), stay)),
            n,
            k,
        )

    def left(self, nodes: Floats) -> Floats:
        """What meshes (n, k, k, 2) leave of the wanted changes (N, 2) px."""
        return np.asarray(self.wanted - self.change @ nodes.reshape(-1, 2))

    def fitted(self, used: Flags) -> Floats:
        """Meshes (n, k, k, 2) px that satisfy the parts `used` (N) best."""
        nodes = np.zeros((self.frames, self.nodes, self.nodes, 2))
        for turn in range(_ROUNDS):
            off = self.left(nodes)
            off = np.sqrt(np.einsum("na,nab,nb->n", off, self.information, off))
            weight = np.zeros(len(off))
            weight[used] = robust_weight(off[used], widening=max(1.0, 2.0 ** (3 - turn)))
            nodes = self._least_squares(weight, nodes)
        return nodes

    def _least_squares(self, weight: Floats, start: Floats) -> Floats:
        information = self.information * weight[:, None, None]

        def normal(flat: Floats) -> Floats:
            nodes = flat.reshape(-1, 2)
            pull = np.einsum("nab,nb->na", information, self.change @ nodes)
            return np.asarray((self.change.T @ pull + self.prior @ nodes).ravel())

        right = self.change.T @ np.einsum("nab,nb->na", information, self.wanted)
        size = right.size
        found, failed = cg(
            LinearOperator((size, size), normal, dtype=np.float64),
            right.ravel(),
            x0=start.ravel(),
            rtol=_PRECISE,
            maxiter=_MOST_TURNS,
            M=self._preconditioner(information),
        )
        if failed:
            raise ResourceError(
                f"The meshes of {self.frames} frames did not converge in {_MOST_TURNS} steps. "
                "Lower solve.elastic_px or solve.elastic_nodes, or turn solve.elastic off."
            )
        return np.asarray(found).reshape(start.shape)

    def _preconditioner(self, information: Floats) -> csr_array:
        """The inverse of each node's own 2 x 2 block."""
        square = self.change.multiply(self.change).T
        own = np.stack(
            [square @ information[:, a, b] for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))], axis=1
        ).reshape(-1, 2, 2)
        own += self.prior.diagonal()[:, None, None] * np.eye(2)
        return csr_array(block_diag(list(np.linalg.inv(own))))


def _rows(x: Floats, y: Floats, frame: Ints, layout: Layout, k: int) -> coo_array:
    """Weights (N, n k k) of the nodes of each part's frame at its place (N) px."""
    height, width = layout.frame_shape
    weights = mesh_weights(y, height, k)[:, :, None] * mesh_weights(x, width, k)[:, None, :]
    row, node = np.nonzero(weights.reshape(len(x), -1))
    columns = frame[row] * k * k + node
    values = weights.reshape(len(x), -1)[row, node]
    return coo_array((values, (row, columns)), shape=(len(x), len(layout) * k * k))
