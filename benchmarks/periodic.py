"""Overlaps that hold nothing but straight lamellae, blank tiles, tiles astray: what goes wrong.

Takes simulated tiles (those of benchmarks/stitching.py, from the same `--out`), fills a part of
all overlaps along x and y with one plane wave of lamellae of its own direction each, makes tiles
blank and moves stage positions, registers and solves, and compares every accepted pair and every
position with the truth.

    python benchmarks/periodic.py --out DIR --rows 18 --cols 24 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
from measure import show
from stitching import simulated

from cemi_dask.frameset import Frames
from cemi_dask.register import register
from cemi_dask.solve import pairs_table, solve

PERIOD_PX = 5.4
AMPLITUDE, LEVEL = 45.0, 120.0  # grey levels of the lamellae
BEYOND_PX = 30  # how far lamellae go on beyond an overlap
ASTRAY_PX = 60
HEADER = ["seed", "bare", "ok pairs", "beyond 1 px", "worst px", "waves used", "worst wave px"]
HEADER += ["textured", "rms px", "max px", "apart", "blank marked"]


def main() -> None:
    """Measure each seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tiles")
    parser.add_argument("--rows", type=int, default=18)
    parser.add_argument("--cols", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--bare", type=float, default=0.2, help="part of all overlaps")
    parser.add_argument("--blank", type=float, default=0.1, help="part of all tiles")
    parser.add_argument("--astray", type=float, default=0.05, help="part of all tiles")
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of what is painted")
    given = parser.parse_args()
    tiles = simulated(argparse.Namespace(**vars(given) | {"seed": 0, "hd": False}))
    table = pd.read_csv(tiles.nominal)
    assert tiles.truth is not None
    truth = tiles.truth[["x_px", "y_px"]].to_numpy(float)
    files = [str(tiles.nominal.parent / file) for file in table["file"]]
    show(HEADER, [measured(table, truth, files, seed, given) for seed in given.seeds])


def measured(
    table: pd.DataFrame,
    truth: npt.NDArray[np.float64],
    files: list[str],
    seed: int,
    given: argparse.Namespace,
) -> list[float]:
    """A row of the table."""
    rng = np.random.default_rng(seed)
    n = len(files)
    order = rng.permutation(n)
    blank = order[: round(given.blank * n)]
    astray = order[len(blank) :][: round(given.astray * n)]
    places = np.arange(n).reshape(given.rows, given.cols)
    direct = [*zip(places[:, :-1].ravel(), places[:, 1:].ravel(), strict=True)]
    direct += [*zip(places[:-1].ravel(), places[1:].ravel(), strict=True)]
    bare = [direct[k] for k in rng.permutation(len(direct))[: round(given.bare * len(direct))]]
    pictures = np.stack([cv2.imread(file, cv2.IMREAD_UNCHANGED) for file in files])
    paint(pictures, truth, bare, given.noise, rng)
    noise = given.noise * rng.standard_normal((len(blank), *pictures.shape[1:]), np.float32)
    pictures[blank] = np.clip(np.rint(LEVEL + noise), 0, 255).astype(np.uint8)
    nominal = table[["x_px", "y_px"]].to_numpy(float)
    nominal[astray] += rng.choice([-ASTRAY_PX, ASTRAY_PX], (len(astray), 2))
    frames = Frames.from_array(pictures, x_nominal_px=nominal[:, 0], y_nominal_px=nominal[:, 1])
    with dask.config.set(scheduler="sync"):
        graph = register(frames)
    layout = solve(graph)
    pairs = pairs_table(graph, layout)
    miss = pairs[["dx_px", "dy_px"]].to_numpy() - (truth[pairs["j"]] - truth[pairs["i"]])
    off = np.abs(miss).max(axis=1)
    ok = (pairs["status"] == "ok").to_numpy()
    # Of an ambiguous pair of waves the solver uses what the frames around it tell.
    wave = (pairs["status"] == "ambiguous").to_numpy() & np.isfinite(off)
    textured = np.setdiff1d(order, blank)
    linked = textured[layout.component[textured] == layout.component[textured].min()]
    place = np.stack([layout.x_px, layout.y_px], axis=1)[linked] - truth[linked]
    place = np.linalg.norm(place - place.mean(axis=0), axis=1)
    marked = int((layout.component[blank] != layout.component[linked[0]]).sum())
    return [
        seed,
        len(bare),
        int(ok.sum()),
        int((off[ok] > 1).sum()),
        float(off[ok].max()),
        int(wave.sum()),
        float(off[wave].max(initial=0.0)),
        len(textured),
        float(np.sqrt(np.mean(place**2))),
        float(place.max()),
        len(textured) - len(linked),
        marked / max(1, len(blank)),
    ]


def paint(
    pictures: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.float64],
    pairs: list[tuple[int, int]],
    noise_sigma: float,
    rng: np.random.Generator,
) -> None:
    """Lamellae of one direction, with fresh noise in every tile, over each overlap of `pairs`."""
    h, w = pictures.shape[1:]
    for i, j in pairs:
        low = np.maximum(truth[i], truth[j]) - BEYOND_PX
        high = np.minimum(truth[i], truth[j]) + np.array([w, h]) + BEYOND_PX
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        near = (np.abs(truth - (low + high) / 2) < 2 * np.array([w, h])).all(axis=1)
        for k in np.flatnonzero(near):
            x0, y0 = np.maximum(np.ceil(low - truth[k]), 0).astype(int)
            x1, y1 = np.minimum(np.floor(high - truth[k]) + 1, (w, h)).astype(int)
            if x0 >= x1 or y0 >= y1:
                continue
            ys, xs = np.mgrid[y0:y1, x0:x1]
            across = np.cos(angle) * (xs + truth[k, 0]) + np.sin(angle) * (ys + truth[k, 1])
            wave = LEVEL + AMPLITUDE * np.cos(2 * np.pi * across / PERIOD_PX + phase)
            wave += noise_sigma * rng.standard_normal(wave.shape)
            pictures[k, y0:y1, x0:x1] = np.clip(np.rint(wave), 0, 255)


if __name__ == "__main__":
    main()
