"""Which exponent of spectral whitening finds displacements most surely.

Neighbouring tiles, simulated with low-definition, strong and high-definition noise, and denoised,
are searched over all displacements, the hardest case. A pair is right within 1 px of the truth.
With `--real` folders of tiles are measured as well; there a pair is right within 3 px of the layout
that all accepted pairs of the default agree on.

    python benchmarks/whitening.py
    python benchmarks/whitening.py --real FOLDER...
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from measure import show

from cemi_dask import open_frames
from cemi_dask.denoise import Denoiser, Fourier
from cemi_dask.frames import InputOptions
from cemi_dask.frameset import plane
from cemi_dask.register import RegisterOptions, measure_pair, register
from cemi_dask.simulate import SimulateOptions, simulate_tiles
from cemi_dask.solve import pairs_table, solve

EXPONENTS = (0.0, 0.3, 0.5, 0.65, 0.8, 0.9, 1.0)
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any], tuple[float, float]]


def main() -> None:
    """Print one row per kind of frames: pairs found right and, in brackets, wrongly accepted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--cols", type=int, default=5)
    parser.add_argument("--real", nargs="*", default=[], help="folders of tiles")
    given = parser.parse_args()
    rows: list[list[Any]] = []
    for noise, denoiser in ((5.0, None), (25.0, None), (25.0, Fourier()), (70.0, None)):
        label = f"sigma {noise:g}{', denoised' if denoiser else ''}"
        rows.append([label, *found(list(simulated(given, noise, denoiser)), 1.0)])
    for folder in given.real:
        rows.append([Path(folder).name, *found(list(recorded(folder)), 3.0)])
    show(["frames", "pairs", *(f"{e:g}" for e in EXPONENTS)], rows)


def simulated(given: argparse.Namespace, noise: float, denoiser: Denoiser | None) -> Iterator[Pair]:
    """Neighbouring tiles of a simulated ingot and their true displacement."""
    options = SimulateOptions(rows=given.rows, frames_per_row=given.cols, noise_sigma=noise, seed=4)
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="synchronous"):
        made = simulate_tiles(Path(name), options)
        truth = made.table("truth")[["x_px", "y_px"]].to_numpy()
        frames = open_frames([str(Path(name) / "tiles")])
        pictures = np.concatenate([np.asarray(block.compute()) for block in frames.delayed()])
    if denoiser is not None:
        pictures = np.stack([denoiser(picture) for picture in pictures])
    for i in range(len(pictures)):
        for j in (i + 1, i + given.cols):
            if j < len(pictures) and (j > i + 1 or j % given.cols):
                step = truth[j] - truth[i]
                yield pictures[i], pictures[j], (float(step[0]), float(step[1]))


def recorded(folder: str) -> Iterator[Pair]:
    """Tiles that overlap by the layout solved, where loops confirm it."""
    with dask.config.set(scheduler="synchronous"):
        frames = open_frames(InputOptions(paths=(folder,), metadata="none"))
        graph = register(frames)
        pictures = [plane(np.asarray(block.compute())) for block in frames.delayed()]
    layout = solve(graph)
    table = pairs_table(graph, layout)
    for pair in table[table["status"] == "ok"].itertuples():
        i, j = int(pair.i), int(pair.j)
        step = layout.x_px[j] - layout.x_px[i], layout.y_px[j] - layout.y_px[i]
        yield pictures[i], pictures[j], (float(step[0]), float(step[1]))


def found(pairs: list[Pair], limit_px: float) -> list[Any]:
    """How many pairs there are, and for each exponent those right (and wrongly accepted)."""
    out: list[Any] = [len(pairs)]
    for exponent in EXPONENTS:
        right = wrong = 0
        for fixed, moving, (dx, dy) in pairs:
            shift = measure_pair(fixed, moving, None, RegisterOptions(whitening=exponent))
            if shift.status != "ok":
                continue
            best = shift.peaks[0]
            near = max(abs(best.dx_px - dx), abs(best.dy_px - dy)) <= limit_px
            right, wrong = right + near, wrong + (not near)
        out.append(f"{right}" + (f" ({wrong})" if wrong else ""))
    return out


if __name__ == "__main__":
    main()
