"""`calibrate`: one scan-distortion field for all frames, kept only where it is real."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cemi_dask.distortion import Distortion
from cemi_dask.overlap import OverlapGraph, PairShift
from cemi_dask.solve.links import Flags, Floats, Ints, Links, Priors
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.parts import (
    PartShifts,
    as_distortion,
    field_change,
    fit_field,
    robust_weight,
    told_of,
    usual,
)
from cemi_dask.solve.system import solve_positions

_LEAST_LINKS = 8  # fewer cannot be halved and compared
_MOST_LINKS = 3000  # tell a field to a hundredth px many times over
_LEAST_PX = 0.05  # a field that moves nothing by more is none, as with shear
_MOST = 0.03  # of the frame's smaller side: no scan is bent by more
_WORSE = 1.5  # times the usual miss of a link that a field may leave
_ROUNDS = 6
_LEAST_GAIN = 0.05  # of the held-out misfit: less is not worth bending pictures
_LEAST_SIGMAS = 4.0  # by which the gain must exceed its standard error
_TAIL = 3.0  # standard deviations at which a part's misfit levels off
_GRID = 4  # places across an overlap at which a field is averaged


@dataclass(frozen=True)
class Calibration:
    """What the overlaps say of a distortion shared by all frames.

    `field` is the best one (None where too few overlaps were measured in parts), `kept`
    whether it is to be applied and `reason` why (not); `links` are those it rests on.
    `held_out_gain` is the part of the misfit within overlaps that a field fitted to the other
    half of the links takes away, `gain_sigma` its standard error; NaN where not compared.
    """

    field: Distortion | None
    kept: bool
    reason: str
    links: int = 0
    held_out_gain: float = float("nan")
    gain_sigma: float = float("nan")

    def facts(self, applied: Distortion | None) -> dict[str, Any]:
        """The same for run.json, as plain JSON values.

        Keys: kept, reason, links, held_out_gain and held_out_gain_sigma (None where nothing was
        compared), corner_px and max_px (what the field moves; None without one) and field, the
        `applied` one, which the layout holds (None without).
        """
        found = applied or self.field
        compared = bool(np.isfinite(self.held_out_gain))
        return {
            "kept": self.kept,
            "reason": self.reason,
            "links": self.links,
            "held_out_gain": self.held_out_gain if compared else None,
            "held_out_gain_sigma": self.gain_sigma if compared else None,
            "corner_px": None if found is None else found.corner_px,
            "max_px": None if found is None else found.max_px,
            "field": None if applied is None else applied.to_json(),
        }


def calibrate(graph: OverlapGraph, *, options: SolveOptions | None = None) -> Calibration:
    """The scan distortion that displacements within the overlaps show, and whether it is kept.

    Every link is taken by itself: only how displacements change across its overlap counts
    here. Links are halved at random (seeded) and a field fitted to each half; it has to
    explain the other half. The verdict is that of `options.distortion`: off never, on
    always (where there is a field), auto where both halves say so together, no more is moved
    than a scan may be bent, and loops of overlaps do not close worse.
    """
    options = options or SolveOptions()
    if options.distortion == "off":
        return Calibration(None, False, "solve.distortion is off")
    links, shear = Links.of(graph), Priors.of(graph).shear
    parts = PartShifts.of(links, _drawn(links.sure), shear, graph.frame_shape).apart()
    count = parts.links
    if count < _LEAST_LINKS:
        return Calibration(None, False, f"only {count} overlaps were measured in parts", count)
    field, _ = fit_field(parts, *_apart(parts))
    found = as_distortion(field, graph.frame_shape)
    gain, sigma = _held_out(parts)
    if options.distortion == "on":
        kept, reason = True, "solve.distortion is on"
    elif not gain > max(_LEAST_GAIN, _LEAST_SIGMAS * sigma):
        kept, reason = False, "held-out overlaps do not agree better with it"
    else:
        kept, reason = _plausible(found, links, shear)
    return Calibration(found, kept, reason, count, gain, sigma)


def _plausible(found: Distortion, links: Links, shear: Floats) -> tuple[bool, str]:
    """Whether a field that explains held-out overlaps is one of the scan, and why (not)."""
    if found.max_px < _LEAST_PX:
        return False, f"it moves no pixel by more than {_LEAST_PX:g} px"
    if found.max_px > _MOST * min(found.frame_shape):
        return False, f"it is larger than {100 * _MOST:g} % of a frame"
    before, after = (_closure_px(k, len(shear)) for k in (links, straightened(links, shear, found)))
    if after > _WORSE * before + _LEAST_PX:
        return False, f"loops of overlaps miss by {after:.2f} px with it, {before:.2f} without"
    return True, "held-out overlaps agree better with it"


def _closure_px(links: Links, n: int) -> float:
    """By how much sure links usually miss positions (of `n` frames) that suit most of them."""
    sure = np.flatnonzero(links.sure)
    ends, shift = (links.i[sure], links.j[sure]), links.shift[sure, 0]
    place, miss = np.zeros((n, 2)), np.zeros(len(sure))
    weight = np.ones(len(sure))
    for _ in range(_ROUNDS):
        place = solve_positions(place, ends, shift, weight[:, None, None] * np.eye(2))
        miss = np.linalg.norm(place[ends[1]] - place[ends[0]] - shift, axis=1)
        weight = robust_weight(miss) + 1e-3  # every frame stays linked
    return float(np.median(miss))


def _drawn(links: Flags) -> Flags:
    """`_MOST_LINKS` of the links (m) at random (seeded), or all if they are fewer."""
    out = np.zeros_like(links)
    out[np.random.default_rng(0).permutation(np.flatnonzero(links))[:_MOST_LINKS]] = True
    return out


def _apart(parts: PartShifts) -> tuple[tuple[Ints, Ints], int]:
    """Ends that give every link two frames of its own, and their number."""
    first = 2 * np.arange(parts.links)
    return (first, first + 1), 2 * parts.links


def _held_out(parts: PartShifts) -> tuple[float, float]:
    """Gain (part of the misfit) on held-out links by a fitted field, and its standard error."""
    half = np.random.default_rng(0).permutation(parts.links) % 2 == 0
    plain, bent = np.zeros(parts.links), np.zeros(parts.links)
    for side in (half, ~half):
        held = parts.only(~side)
        field, _ = fit_field(parts.only(side), *_apart(parts))
        without, scale = _misfits(held, None)
        within, _ = _misfits(held.straight(field), scale)
        plain += without
        bent += within
    total = float(plain.sum())
    spread = float(np.std(plain - bent, ddof=1)) * np.sqrt(parts.links)
    return float((plain - bent).sum()) / total, float(spread / total)


def _misfits(parts: PartShifts, scale: float | None) -> tuple[Floats, float]:
    """Misfit (m) of each link's parts to their own mean, and the scale it is counted in.

    Squares of misses in units of `scale`, or of the usual miss, which level off (Geman and
    McClure): a part on a wrong lamella counts as one that is `_TAIL` off.
    """
    centre, _ = parts.centres(np.ones(len(parts.link)))
    for _ in range(3):
        off = parts.misses(centre)
        centre, _ = parts.centres(robust_weight(off))
    off = parts.misses(centre)
    scale = usual(off) if scale is None else scale
    square = (off / scale) ** 2
    return parts.sums(square / (1 + square / _TAIL**2)), scale


def refit(links: Links, used: Flags, shear: Floats, field: Distortion) -> Distortion:
    """The field solved for together with the positions, over the links `used` (m) alone.

    `field` is what it is where these hold no parts.
    """
    parts = PartShifts.of(links, _drawn(used), shear, field.frame_shape)
    if not len(parts.link):
        return field
    found, _ = fit_field(parts, (links.i, links.j), len(shear))
    return as_distortion(found, field.frame_shape)


def straightened(links: Links, shear: Floats, field: Distortion | None) -> Links:
    """The links with displacements as frames without the distortion `field` would show them.

    The best peak becomes the weighted mean of its parts, each without the field, with the
    covariance in which they scatter; where there are no parts, and for other peaks, the
    field's mean over the overlap is taken off.
    """
    if field is None or not len(links):
        return links
    change = _mean_change(links, shear, field)
    shift = links.shift - change
    covariance = links.covariance.copy()
    parts = PartShifts.of(links, links.sure, shear, field.frame_shape).straight(told_of(field))
    centre, _ = parts.centres(np.ones(len(parts.link)))
    for _ in range(3):
        weight = robust_weight(parts.misses(centre))
        centre, information = parts.centres(weight)
    known = np.isfinite(centre[:, 0])
    scale = usual(parts.misses(centre))
    shift[known, 0] = centre[known]
    covariance[known, 0] = scale**2 * np.linalg.inv(information[known])
    pairs = tuple(_moved(p, change[r, 0]) for r, p in enumerate(links.pairs))
    return replace(links, pairs=pairs, shift=shift, covariance=covariance)


def _moved(pair: PairShift, change: Floats) -> PairShift:
    """A pair whose lattice, if it has one, is as frames that `change` (2) less apart show it."""
    if pair.lattice is None:
        return pair
    x, y = pair.lattice.dx_px - float(change[0]), pair.lattice.dy_px - float(change[1])
    return replace(pair, lattice=replace(pair.lattice, dx_px=x, dy_px=y))


def _mean_change(links: Links, shear: Floats, field: Distortion) -> Floats:
    """What the field adds to every peak's displacement (m, k, 2) px, over the whole overlap."""
    height, width = field.frame_shape
    share = (np.arange(_GRID) + 0.5) / _GRID
    step = np.nan_to_num(links.shift)
    total = np.zeros_like(step)
    ends = [np.repeat(shear[e], step.shape[1]) for e in (links.i, links.j)]
    for row in share:
        for column in share:
            place = np.stack(
                [
                    np.maximum(step[..., k], 0) + at * (size - np.abs(step[..., k])) - 0.5
                    for k, (at, size) in enumerate(((column, width), (row, height)))
                ],
                axis=-1,
            )
            flat = place.reshape(-1, 2), step.reshape(-1, 2)
            change = field_change(*flat, (ends[0], ends[1]), field.frame_shape)
            total += (change @ told_of(field).T).reshape(step.shape)
    return total / _GRID**2
