"""The local displacements of all links as arrays: `PartShifts`, and the field fitted to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cemi_dask.distortion import EXPONENTS, TOLD, Distortion, terms
from cemi_dask.solve.links import Flags, Floats, Ints, Links
from cemi_dask.solve.system import factor, normal_matrix, right_side

_FLOOR_PX = 0.02  # of a part: what the scan does within it, and from one frame to the next
_ROUNDS = 12
_TAIL = 3.0  # standard deviations from which on a part's miss loses its weight
# Directions of the field that overlaps show by less than this part are not told: what parts
# have in common beside the field would be taken for a much larger one.
_SHOWN = 0.05


@dataclass(frozen=True)
class PartShifts:
    """N parts of the overlaps of m links, ordered by link.

    `link` (N): the links' rows; `place` (N, 2) px in frame i; `shift` (N, 2) px;
    `information` (N, 2, 2) px^-2; `change` (N, 7): by how much each told term of the field is
    larger where the part lies in frame j than where it lies in frame i. A part is displaced by
    the frames' own displacement plus `change` times the field's coefficients, so these enter
    linearly.
    """

    links: int
    link: Ints
    place: Floats
    shift: Floats
    information: Floats
    change: Floats

    @classmethod
    def of(
        cls, links: Links, used: Flags, shear: Floats, frame_shape: tuple[int, int]
    ) -> PartShifts:
        """The parts of links `used` (m); `shear` (n) of the frames, px in x per px in y."""
        held = (int(r) for r in np.flatnonzero(used & links.sure))
        rows = [r for r in held if links.pairs[r].local is not None]
        local = [p for r in rows if (p := links.pairs[r].local) is not None]
        link = np.repeat(np.array(rows, np.int64), [p.grid[0] * p.grid[1] for p in local])
        values = np.concatenate([np.zeros((0, 5)), *(p.values for p in local)])
        place = np.concatenate([np.zeros((0, 2)), *(p.centres for p in local)])
        shift, (xx, xy, yy) = values[:, :2], values[:, 2:].T
        information = np.stack([xx, xy, xy, yy], axis=-1).reshape(-1, 2, 2)
        ends = shear[links.i[link]], shear[links.j[link]]
        change = field_change(place, shift, ends, frame_shape)
        told = xx + yy > 0
        known = (a[told] for a in (link, place, shift, floored(information), change))
        return cls(len(links), *known)

    def only(self, links: Flags) -> PartShifts:
        """The parts of some links (m)."""
        keep = links[self.link]
        return PartShifts(
            self.links,
            self.link[keep],
            self.place[keep],
            self.shift[keep],
            self.information[keep],
            self.change[keep],
        )

    def apart(self) -> PartShifts:
        """The same, links without parts left out and the others numbered anew."""
        used, link = np.unique(self.link, return_inverse=True)
        return replace(self, links=len(used), link=link)

    def sums(self, values: Floats) -> Floats:
        """Sums (m, ...) over the parts of each link."""
        out = np.zeros((self.links, *values.shape[1:]))
        if len(values):
            first = np.flatnonzero(np.diff(self.link, prepend=-1))
            out[self.link[first]] = np.add.reduceat(values, first, axis=0)
        return out

    def straight(self, field: Floats) -> PartShifts:
        """The same with shifts as they were without the field (2, 7)."""
        return replace(self, shift=self.shift - self.change @ field.T)

    def misses(self, centre: Floats) -> Floats:
        """How far the parts (N) are from the shifts (m, 2) of their links, standard deviations."""
        off = self.shift - centre[self.link]
        return np.asarray(np.sqrt(np.einsum("na,nab,nb->n", off, self.information, off)))

    def centres(self, weight: Floats) -> tuple[Floats, Floats]:
        """Weighted mean shift (m, 2) of each link's parts, and its information (m, 2, 2).

        NaN and 0 where a link has none.
        """
        weighted = self.information * weight[:, None, None]
        total = self.sums(weighted)
        pull = self.sums(np.einsum("nab,nb->na", weighted, self.shift))
        mean = np.full((self.links, 2), np.nan)
        known = total[:, 0, 0] + total[:, 1, 1] > 0
        mean[known] = np.linalg.solve(total[known], pull[known][..., None])[..., 0]
        return mean, total


def floored(information: Floats) -> Floats:
    """Information matrices (N, 2, 2) with `_FLOOR_PX` added to the standard deviations."""
    # (C + f^2)^-1 = (1 + f^2 I)^-1 I, also where I is singular.
    raised = np.linalg.solve(np.eye(2) + _FLOOR_PX**2 * information, information)
    return np.asarray(raised, np.float64)


def field_change(
    place: Floats, shift: Floats, shear: tuple[Floats, Floats], frame_shape: tuple[int, int]
) -> Floats:
    """Told terms (N, 7) in frame j less those in frame i, for what lies at `place` in frame i.

    `place` and `shift` (N, 2) are px of rectified frames; the field is one of the frames as
    they were scanned, `shear` (N) away.
    """
    middle = (frame_shape[0] - 1) / 2
    first, second = (
        terms(at[:, 0] - s * (at[:, 1] - middle), at[:, 1], frame_shape)[:, TOLD]
        for at, s in ((place, shear[0]), (place - shift, shear[1]))
    )
    return np.asarray(second - first)


def as_distortion(field: Floats, frame_shape: tuple[int, int]) -> Distortion:
    """The `Distortion` of told coefficients (2, 7) px."""
    full = np.zeros((2, len(EXPONENTS)))
    full[:, TOLD] = field
    along_x, along_y = (tuple(map(float, row)) for row in full)
    return Distortion(frame_shape, along_x, along_y)


def told_of(field: Distortion) -> Floats:
    """The told coefficients (2, 7) px of a field; the inverse of `as_distortion`."""
    return np.array([field.x_px, field.y_px])[:, TOLD]


def fit_field(parts: PartShifts, ends: tuple[Ints, Ints], n: int) -> tuple[Floats, Floats]:
    """Coefficients (2, 7) px of the field that explains the parts best, and the weights (N).

    Positions of the `n` frames are solved for together with the field and eliminated (Schur
    complement): `ends` (m) are the frames of each link. Re-weighted by Geman and McClure, so
    that parts which lie on a wrong lamella do not count.
    """
    weight = np.ones(len(parts.link))
    field = np.zeros((2, parts.change.shape[1]))
    for turn in range(_ROUNDS):
        before = field
        field, place = _least_squares(parts, ends, n, weight)
        off = parts.straight(field).misses(place[ends[1]] - place[ends[0]])
        # From wide to narrow, or parts that the field moves far would be left out for it.
        weight = robust_weight(off, widening=max(1.0, 2.0 ** (4 - turn)))
        if turn > 4 and np.abs(field - before).max(initial=0.0) < 1e-5:
            break
    return field, weight


def robust_weight(off: Floats, *, widening: float = 1.0) -> Floats:
    """Weights (N) of parts that miss by `off` standard deviations, which may be misjudged."""
    return np.asarray((1 + (off / (widening * _TAIL * usual(off))) ** 2) ** -2.0)


def usual(off: Floats) -> float:
    """What misses `off` in stated standard deviations say of one of them."""
    # The median of the length of a 2-d normal vector is 1.177 of its standard deviations.
    return max(1e-6, float(np.median(off)) / 1.1774) if len(off) else 1.0


def _least_squares(
    parts: PartShifts, ends: tuple[Ints, Ints], n: int, weight: Floats
) -> tuple[Floats, Floats]:
    """Field (2, 7) and positions (n, 2) px by weighted linear least squares."""
    told = parts.change.shape[1]
    weighted = parts.information * weight[:, None, None]
    change = parts.change
    pull = np.einsum("nab,nb->na", weighted, parts.shift)
    normal = normal_matrix(n, ends, parts.sums(weighted))
    # Sums of products between a link's two displacements and the 2 x 7 coefficients.
    mixed = parts.sums(np.einsum("nab,nk->nabk", weighted, change)).reshape(-1, 2, 2 * told)
    border = np.stack([right_side(n, ends, mixed[:, :, k]) for k in range(2 * told)], axis=1)
    own = np.einsum("nab,nk,nl->akbl", weighted, change, change, optimize=True)
    own = own.reshape(2 * told, 2 * told)
    right = right_side(n, ends, parts.sums(pull))
    right_own = np.einsum("na,nk->ak", pull, change).ravel()
    inverse = factor(normal)
    behind = inverse.solve(border)
    seen = own - border.T @ behind
    values, vectors = np.linalg.eigh((seen + seen.T) / 2)
    most = np.einsum("naa->", weighted) / 2
    kept = values > _SHOWN**2 * most
    vectors = vectors[:, kept]
    target = right_own - behind.T @ right
    field = vectors @ ((vectors.T @ target) / values[kept])
    place = inverse.solve(right - border @ field)
    return field.reshape(2, told), place.reshape(n, 2)
