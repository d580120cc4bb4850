"""`solve`: from the overlap graph to a position for every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cemi_dask.errors import InputError
from cemi_dask.geometry import Layout
from cemi_dask.overlap import OverlapGraph
from cemi_dask.solve.adjust import Adjustment, adjust
from cemi_dask.solve.calibrate import Calibration, calibrate, refit, straightened
from cemi_dask.solve.elastic import Bending, bend_frames
from cemi_dask.solve.gain import solve_gain
from cemi_dask.solve.lattices import Waves, join_islands, with_waves, without_waves
from cemi_dask.solve.links import Floats, Links, Priors
from cemi_dask.solve.options import SolveOptions
from cemi_dask.solve.place import Expected, place_islands
from cemi_dask.solve.robust import judge, robust_positions


@dataclass(frozen=True)
class Solution:
    """A layout, and what the elastic option found (None where it is off)."""

    layout: Layout
    bending: Bending | None = None


def solve(
    graph: OverlapGraph,
    *,
    options: SolveOptions | None = None,
    calibration: Calibration | None = None,
) -> Layout:
    """The layout (positions, sigma, component, gain, offset, shear per frame) of an overlap graph.

    Robust first: links that contradict the others lose their weight or swap to another of
    their peaks; then plain weighted least squares over what holds, without priors, so that
    stage errors cannot bend the mosaic. Islands are placed by the nodes' expected positions.
    Sigmas are against the centre of a frame's island, plus the prior's where it was placed.
    The frames' shear is known, not solved for: displacements are those of the middle lines.
    The scan distortion that `calibrate` finds (`calibration`, where that is done already) is
    solved for together with the positions over the links that hold, if it is kept.

    With `options.elastic` every frame is bent by a mesh of its own (see `bend_frames`).

    Raises DisconnectedError for islands without any expected position, InputError for a
    graph without frames.
    """
    return solution(graph, options=options, calibration=calibration).layout


def solution(
    graph: OverlapGraph,
    *,
    options: SolveOptions | None = None,
    calibration: Calibration | None = None,
) -> Solution:
    """As `solve`, with what was found on the way."""
    options = options or SolveOptions()
    n = len(graph)
    if not n:
        raise InputError("The overlap graph holds no frames.")
    links, priors = Links.of(graph), Priors.of(graph)
    if calibration is None:
        calibration = calibrate(graph, options=options)
    field = calibration.field if calibration.kept else None
    seen = straightened(links, priors.shear, field)
    plain = without_waves(seen)
    start = robust_positions(plain, priors, options)
    start = np.where(np.isfinite(start), start, 0.0)
    if field is not None:
        field = refit(links, judge(plain, start, options).accepted, priors.shear, field)
        seen = straightened(links, priors.shear, field)
    found = _adjusted(seen, start, priors, options)
    place, sigma = place_islands(found, priors, graph.frame_shape, options)
    gain, offset = solve_gain(links, found.choice.accepted, n, options)
    layout = Layout(
        x_px=place[:, 0],
        y_px=place[:, 1],
        frame_shape=graph.frame_shape,
        sigma_x_px=sigma[:, 0],
        sigma_y_px=sigma[:, 1],
        component=found.component,
        gain=gain,
        offset=offset,
        used=priors.used,
        shear=priors.shear,
        distortion=field,
    )
    if not options.elastic:
        return Solution(layout.to_origin())
    first_peak = found.choice.accepted & (found.choice.peak == 0)
    bending = bend_frames(links, first_peak, layout, options)
    return Solution(bending.layout.to_origin(), bending)


def _adjusted(links: Links, start: Floats, priors: Priors, options: SolveOptions) -> Adjustment:
    """Least squares from `start` over what holds, then with waves that tie islands to the rest."""
    found = adjust(without_waves(links), start, priors.used, options)
    if not len(Waves.among(links)):
        return found
    place, island = join_islands(found, links, Expected.of(found, priors))
    whole = with_waves(links, place, found.sigma_px, island)
    return adjust(whole, place, priors.used, options)
