"""The measured pairs of a graph as arrays: `Links`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cemi_dask.overlap import OverlapGraph, PairShift

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_IN_PLAY = 0.6  # of the best score: a peak below that is no choice, however well it fits


@dataclass(frozen=True)
class Links:
    """m pairs with up to k peaks each.

    `i`, `j` (m); `shift` (m, k, 2) px, NaN where a pair has fewer peaks, or one whose score is
    far behind; `covariance` (m, k, 2, 2) px^2; `score` (m, k); `usable` (m): status ok or
    ambiguous; `sure` (m): status ok.
    """

    pairs: tuple[PairShift, ...]
    i: Ints
    j: Ints
    shift: Floats
    covariance: Floats
    score: Floats
    usable: Flags
    sure: Flags

    @classmethod
    def of(cls, graph: OverlapGraph) -> Links:
        """The links of `graph`, ordered by (i, j)."""
        pairs = tuple(graph.pairs())
        m = len(pairs)
        k = max((len(p.peaks) for p in pairs), default=0) or 1
        shift = np.full((m, k, 2), np.nan)
        covariance = np.tile(np.eye(2), (m, k, 1, 1))
        score = np.zeros((m, k))
        for r, pair in enumerate(pairs):
            for q, peak in enumerate(pair.peaks):
                if peak.score < _IN_PLAY * pair.peaks[0].score:
                    continue
                xx, xy, yy = peak.cov_px2
                shift[r, q] = peak.dx_px, peak.dy_px
                covariance[r, q] = (xx, xy), (xy, yy)
                score[r, q] = peak.score
        has = np.array([bool(p.peaks) for p in pairs], bool)
        status = np.array([p.status for p in pairs], object)
        return cls(
            pairs,
            np.array([p.i for p in pairs], np.int64),
            np.array([p.j for p in pairs], np.int64),
            shift,
            covariance,
            score,
            np.asarray(has & np.isin(status, ["ok", "ambiguous"]), bool),
            np.asarray(has & (status == "ok"), bool),
        )

    def __len__(self) -> int:
        return len(self.i)

    def misses(self, place: Floats) -> Floats:
        """How far each peak (m, k) is from the displacement of the positions (n, 2), px."""
        step = place[self.j] - place[self.i]
        return np.asarray(np.linalg.norm(self.shift - step[:, None, :], axis=2))

    def chosen(self, peak: Ints) -> tuple[Floats, Floats]:
        """Shift (m, 2) and covariance (m, 2, 2) of one peak per link."""
        r = np.arange(len(self))
        return self.shift[r, peak], self.covariance[r, peak]


@dataclass(frozen=True)
class Priors:
    """What the nodes know: expected positions (n, 2) px and their sigma (n) px, NaN and inf
    where unknown; which frames are used; their shear (n), px in x per px in y."""

    place: Floats
    sigma_px: Floats
    used: Flags
    shear: Floats

    @classmethod
    def of(cls, graph: OverlapGraph) -> Priors:
        """The node attributes of `graph`."""
        nodes = [graph.graph.nodes[k] for k in range(len(graph))]
        place = np.array([(n["x_prior_px"], n["y_prior_px"]) for n in nodes], float)
        sigma = np.array([n["sigma_prior_px"] for n in nodes], float)
        known = np.isfinite(place).all(axis=1)
        used = np.array([bool(n.get("used", True)) for n in nodes], bool)
        shear = np.array([n.get("shear", 0.0) for n in nodes], float)
        return cls(place, np.where(known, sigma, np.inf), used, shear)

    @property
    def known(self) -> Flags:
        """Where a position is expected."""
        return np.asarray(np.isfinite(self.place).all(axis=1), bool)
