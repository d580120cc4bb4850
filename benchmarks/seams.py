"""What is left of gain drift and vignetting at the seams of a mosaic.

Simulated sharp (HD) tiles with vignetting and a gain that drifts from tile to tile (4 %) are
stitched; the scene's own grey levels are taken off the mosaic. The step at a seam is the difference
between the means of two strips, 20 px wide and 160 px long in the middle of an overlap, at 8 px
either side of the line halfway between two neighbours, where `nearest` changes frames.

    python benchmarks/seams.py --rows 5 --cols 6
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
from measure import show

from cemi_dask import open_mosaic
from cemi_dask.pipeline import parse_config, run
from cemi_dask.simulate import Microscope, SimulateOptions, simulate_tiles

STRIP_PX, GAP_PX, LENGTH_PX = 20, 8, 160


def main() -> None:
    """Print one row per blending method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--cols", type=int, default=6)
    parser.add_argument("--noise", type=float, default=5.0, help="sigma of 255 grey levels")
    parser.add_argument("--vignetting", type=float, default=0.08, help="part lost in corners")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--methods", nargs="+", default=["nearest", "seam", "feather"])
    given = parser.parse_args()
    options = SimulateOptions(
        rows=given.rows,
        frames_per_row=given.cols,
        noise_sigma=given.noise,
        seed=given.seed,
        microscope=Microscope(vignetting=given.vignetting),
    )
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with dask.config.set(scheduler="synchronous"):
            made = simulate_tiles(folder / "ingot", options)
        for corrected in (False, True):
            for method in given.methods:
                steps = measure(folder, options, made.table("truth"), method, corrected)
                label = f"{method}{'' if corrected else ', neither gain nor flat field'}"
                rows.append([label, len(steps), np.sqrt(np.mean(steps**2)), np.abs(steps).max()])
    show(["blending", "seams", "step rms, grey levels", "largest"], rows)
    microscope = options.resolved().microscope
    noise = given.noise * np.sqrt(2 / (STRIP_PX * LENGTH_PX))
    print(
        f"vignetting {microscope.vignetting:g}, gain drift {microscope.gain_drift:g}; noise alone "
        f"makes steps of {noise:.2f}"
    )


def measure(
    folder: Path, options: SimulateOptions, truth: pd.DataFrame, method: str, corrected: bool
) -> npt.NDArray[np.float64]:
    """The steps at all seams, in grey levels, of a mosaic stitched with `method`."""
    config: dict[str, Any] = {
        "input": {
            "paths": [str(folder / "ingot" / "tiles")],
            "pixel_um": options.specimen.pixel_um,
            "tiles": {"positions": str(folder / "ingot" / "positions.csv")},
        },
        "cluster": {"workers": 1, "dashboard": None},
        "blend": {"method": method},
    }
    if not corrected:
        config |= {"frames": {"flat_field": "none"}, "solve": {"gain": False}}
    out = folder / f"run-{corrected}"
    run(parse_config(config), out=out, until="blend")
    mosaic = np.asarray(open_mosaic(out / "mosaic.ome.zarr").levels[0], np.float64)
    found = pd.read_csv(out / "tables" / "positions.csv")
    place = found[["x_px", "y_px"]].to_numpy()
    x, y = np.median(truth[["x_px", "y_px"]].to_numpy() - place, axis=0)
    resolved = options.resolved()
    scene = resolved.specimen.image(
        float(y), float(x), mosaic.shape, psf_sigma_px=resolved.microscope.psf_sigma_px
    )
    return np.array([step(mosaic - scene, *ends) for ends in neighbours(place, options)])


def neighbours(
    place: npt.NDArray[np.float64], options: SimulateOptions
) -> list[tuple[tuple[float, float], bool]]:
    """((x, y) of the middle of every overlap of neighbours, whether they lie side by side)."""
    height, width = options.frame_shape
    cols = options.frames_per_row
    found = []
    for k in range(len(place)):
        for other, beside in ((k + 1, True), (k + cols, False)):
            if other < len(place) and (not beside or other % cols):
                middle = (place[k] + place[other] + (width, height)) / 2
                found.append(((float(middle[0]), float(middle[1])), beside))
    return found


def step(error: npt.NDArray[np.float64], middle: tuple[float, float], beside: bool) -> float:
    """Mean on the far side less mean on the near side of a seam through `middle` (x, y) px."""
    picture = error if beside else error.T
    across, along = (int(v) for v in (middle if beside else middle[::-1]))
    lines = picture[along - LENGTH_PX // 2 : along + LENGTH_PX // 2]
    near = lines[:, across - GAP_PX - STRIP_PX : across - GAP_PX]
    far = lines[:, across + GAP_PX : across + GAP_PX + STRIP_PX]
    return float(far.mean() - near.mean())


if __name__ == "__main__":
    main()
