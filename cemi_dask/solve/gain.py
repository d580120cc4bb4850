"""A gain and an offset per frame that make overlaps agree in grey level."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, vstack
from scipy.sparse.linalg import spsolve

from cemi_dask.solve.links import Flags, Floats, Links
from cemi_dask.solve.options import SolveOptions

_MEAN_SIGMA = 1.0  # grey levels (of 255) by which means of one overlap differ for other reasons
_STD_SIGMA = 1.5  # the same for standard deviations


def solve_gain(
    links: Links, accepted: Flags, n: int, options: SolveOptions
) -> tuple[Floats, Floats]:
    """Gain and offset (n) each, with corrected = gain * pixel + offset.

    Linear least squares over the accepted links: corrected means agree, and corrected
    standard deviations agree; gains are expected near 1 and offsets near 0, which keeps a
    long row from running away on a small common bias (shading). The mean gain is 1 and the
    mean offset 0. Grey levels are scaled so that the options mean levels of 255 whatever the
    pixel type.
    """
    live = [p for p, ok in zip(links.pairs, accepted, strict=True) if ok and p.grey is not None]
    if not options.gain or not live:
        return np.ones(n), np.zeros(n)
    grey = np.array([p.grey for p in live], float)
    unit = _unit(grey)
    grey = grey / unit
    i, j = np.array([p.i for p in live]), np.array([p.j for p in live])
    rows = np.arange(len(live))
    size = (len(live), n)
    gains_mean = csr_array((np.r_[grey[:, 0], -grey[:, 1]], (np.r_[rows, rows], np.r_[i, j])), size)
    gains_std = csr_array((np.r_[grey[:, 2], -grey[:, 3]], (np.r_[rows, rows], np.r_[i, j])), size)
    ones = np.ones(len(live))
    offsets = csr_array((np.r_[ones, -ones], (np.r_[rows, rows], np.r_[i, j])), size)
    # Unknowns: gain - 1 and offset / offset_sigma, so that both priors are plain ridges.
    design = vstack(
        [
            _beside(gains_mean * options.gain_sigma, offsets * options.offset_sigma) / _MEAN_SIGMA,
            _beside(gains_std * options.gain_sigma, offsets * 0.0) / _STD_SIGMA,
        ]
    )
    target = -np.r_[(grey[:, 0] - grey[:, 1]) / _MEAN_SIGMA, (grey[:, 2] - grey[:, 3]) / _STD_SIGMA]
    normal = (design.T @ design + eye_array(2 * n)).tocsc()
    found = spsolve(normal, design.T @ target)
    gain = 1 + options.gain_sigma * found[:n]
    offset = options.offset_sigma * unit * found[n:]
    # Agreement alone would like all gains small: the mosaic keeps the frames' mean levels.
    linked = np.unique(np.r_[i, j])
    mean_gain, mean_offset = gain[linked].mean(), offset[linked].mean()
    gain[linked] /= mean_gain
    offset[linked] = (offset[linked] - mean_offset) / mean_gain
    return gain, offset


def _beside(left: csr_array, right: csr_array) -> csr_array:
    return hstack([left, right], format="csr")


def _unit(grey: Floats) -> float:
    """Grey levels of the data per level of an 8-bit picture.

    8-bit data is taken as it is; brighter data (16 bit) or data in 0..1 by its mean.
    """
    mean = float(np.abs(grey[:, :2]).mean())
    return 1.0 if 2.0 <= mean <= 255.0 else max(mean, 1e-9) / 100.0
