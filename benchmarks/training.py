"""How close training from video comes to training from pairs with sharp pictures.

A small video ingot is simulated and run until its layout is solved. Two networks, with equal
first weights, steps and batches, are trained on its noisy frames: `video` on their overlaps
alone (what `denoise: {method: video}` does in a run), `pairs` against the noise-free picture at
each frame's true corner. PSNR is of frames of another specimen, with noise of their own, against
their noise-free pictures, beside the classical default and, where a Python with the package
bm3d is given (its licence forbids commercial use), BM3D. CPU seconds: of the whole training
(preparing frames and layout not counted), or of one frame denoised. `overlap` needs the frames
around a frame, so it is measured on those of the run, each against its own noise-free picture.

    python benchmarks/training.py --out /tmp/training --bm3d-python /path/to/python
    python benchmarks/training.py --out /tmp/training --only overlap
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.base import compute
from measure import peak_mib, show

from cemi_dask.denoise import Denoiser, Fourier, Network, Video, denoise
from cemi_dask.denoise.checkpoints import ModelCard, first_network
from cemi_dask.denoise.training.options import FitOptions, LossOptions
from cemi_dask.denoise.training.sources import AlignedPair, AlignedPairs, Augmentation
from cemi_dask.frameset import plane
from cemi_dask.learn.weights import save_weights
from cemi_dask.pipeline import parse_config, run
from cemi_dask.pipeline.video_data import SolvedRun, open_video
from cemi_dask.simulate import SimulateOptions, Specimen, simulate_videos

Frame = npt.NDArray[Any]
BM3D = """
import sys, time, numpy as np
from bm3d import bm3d
noisy = np.load(sys.argv[1])
begun = time.process_time()
clean = [255 * bm3d(picture / 255, float(sys.argv[3]) / 255) for picture in noisy]
print((time.process_time() - begun) / len(noisy))
np.save(sys.argv[2], np.clip(np.rint(clean), 0, 255).astype(np.uint8))
"""


def main() -> None:
    """Print one row per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for videos and weights")
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--frames-per-row", type=int, default=16)
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=Video().iterations)
    parser.add_argument("--random", action="store_true", help="start from random weights")
    parser.add_argument("--learning-rate", type=float, default=Video().learning_rate)
    parser.add_argument("--held-out", type=int, default=3, help="frames to judge by")
    parser.add_argument(
        "--only", nargs="+", choices=("overlap", "video", "pairs"), default=["video", "pairs"]
    )
    parser.add_argument("--bm3d-python", type=Path, help="a Python that can import bm3d")
    given = parser.parse_args()
    options = SimulateOptions(
        rows=given.rows,
        frames_per_row=given.frames_per_row,
        noise_sigma=given.noise,
        seed=given.seed,
    )
    solved = solve(options, given.out)
    method = Video(
        iterations=given.iterations,
        minutes=None,
        network="compact" if given.random else None,
        learning_rate=given.learning_rate,
    )
    clean, noisy = held_out(options, given.held_out)
    rows: list[list[Any]] = [["(noisy)", *quality(noisy, clean), 0.0]]
    rows.append(["fourier", *applied(Fourier(), noisy, clean)])
    if given.bm3d_python is not None:
        rows.append(["bm3d", *bm3d(given, noisy, clean)])
    for kind in given.only:
        if kind == "overlap":
            rows += overlap(solved, options, given.out / "videos")
        else:
            seconds, path = train(kind, method, solved, given.out, options)
            rows.append([kind, *applied(Network(model=str(path)), noisy, clean)[:2], seconds])
        show(["method", "PSNR dB", "least", "CPU s"], rows)
    print(f"{given.iterations} steps, sigma {given.noise:g}, peak memory {peak_mib():.0f} MiB")


def solve(options: SimulateOptions, out: Path) -> SolvedRun:
    """The run of a simulated ingot, solved; an earlier one in `out` is used again."""
    if not (out / "videos" / "truth.csv").exists():
        with dask.config.set(scheduler="synchronous"):
            simulate_videos(out / "videos", options)
    config = {
        "input": {"paths": [str(out / "videos" / "row_*")], "metadata": "none"},
        "cluster": {"workers": 1, "dashboard": None},
    }
    run(parse_config(config), out=out / "run", until="solve")
    return SolvedRun.of(out / "run")


def held_out(options: SimulateOptions, count: int) -> tuple[Frame, Frame]:
    """Noise-free and noisy frames (n, y, x) of a specimen that no network has seen."""
    scene = Specimen(seed=options.seed + 1000)
    microscope = options.resolved().microscope.model_copy(update={"vignetting": 0.0})
    clean, noisy = [], []
    for place in range(count):
        y, x = 500.3 + 900 * place, 20_000.7 + 35_000 * place
        rng = np.random.default_rng((options.seed, 99, place))
        picture = scene.image(y, x, options.frame_shape, psf_sigma_px=microscope.psf_sigma_px)
        clean.append(picture)
        noisy.append(microscope.expose(picture, gain=1.0, rng=rng))
    return np.stack(clean), np.stack(noisy)


def train(
    kind: str, method: Video, solved: SolvedRun, out: Path, options: SimulateOptions
) -> tuple[float, Path]:
    """(CPU seconds, weights file) of a training by `video` or `pairs`."""
    from cemi_dask.denoise.training.loop import fit

    source = open_video(solved, batch=method.batch, patch_px=method.patch_px, seed=method.seed)
    batches: Any = source.train
    held = [source.held(step) for step in range(4)]
    fitting: FitOptions = method.fit_options()
    if kind == "pairs":
        sharp = sharp_pairs(solved, options, out / "videos")
        batches = AlignedPairs(sharp, method.batch, method.patch_px, method.seed, Augmentation())
        fitting = fitting.model_copy(update={"loss": LossOptions(pixel="l1")})
    net, spec = first_network(method.network, method.start, seed=method.seed)
    card = ModelCard(name=kind, spec=spec, data="simulated", licence="BSD-3-Clause")
    folder = out / f"{kind}-{method.iterations}-{'random' if method.start is None else 'started'}"
    begun = time.process_time()
    fit(net, batches, fitting, folder=folder, card=card, validate=held)
    seconds = time.process_time() - begun
    save_weights(folder / "model.safetensors", net, card)
    return seconds, folder / "model.safetensors"


def sharp_pairs(solved: SolvedRun, options: SimulateOptions, videos: Path) -> Sequence[AlignedPair]:
    """The run's noisy frames with the noise-free picture at the true corner of each."""
    raw, truth = solved.frames(), pd.read_csv(videos / "truth.csv")
    truth = truth.set_index(["file", "source_index"])
    resolved = options.resolved()
    pairs = []
    for number, block in enumerate(raw.delayed()):
        row = raw.table.iloc[number]
        true = truth.loc[(Path(row["file"]).name, row["source_index"])]
        clean = resolved.specimen.image(
            float(true["y_px"]),
            float(true["x_px"]),
            raw.frame_shape,
            psf_sigma_px=resolved.microscope.psf_sigma_px,
        )
        (noisy,) = compute(block, scheduler="synchronous")
        recorded = plane(noisy).astype(np.float32) / 255
        # Gain, vignetting and its correction: the sharp picture has the recorded one's brightness.
        sharp = clean * np.float32(recorded.mean() / clean.mean())
        pairs.append(AlignedPair(recorded, sharp))
    return pairs


def overlap(solved: SolvedRun, options: SimulateOptions, videos: Path) -> list[list[Any]]:
    """The rows of the run's own frames: noisy, and averaged with those around them."""
    raw = solved.frames()
    truth = np.stack([255 * pair.target for pair in sharp_pairs(solved, options, videos)])
    averaged = denoise(raw, method="overlap", layout=solved.layout(raw.frame_shape))
    noisy = raw.data.compute(scheduler="synchronous")
    begun = time.process_time()
    found = averaged.data.compute(scheduler="synchronous")
    seconds = (time.process_time() - begun) / len(raw)
    return [
        ["(noisy, of the run)", *quality(noisy, truth), 0.0],
        ["overlap, of the run", *quality(found, truth), seconds],
    ]


def applied(method: Denoiser, noisy: Frame, clean: Frame) -> list[float]:
    """Mean and least PSNR of the frames denoised, and CPU seconds a frame."""
    method(noisy[0, :128, :128])  # loads weights
    begun = time.process_time()
    found = np.stack([method(frame) for frame in noisy])
    return [*quality(found, clean), (time.process_time() - begun) / len(noisy)]


def bm3d(given: argparse.Namespace, noisy: Frame, clean: Frame) -> list[float]:
    """The same of BM3D (Dabov et al. 2007, authors' package), told the true mean noise."""
    before, after = given.out / "noisy.npy", given.out / "bm3d.npy"
    np.save(before, noisy)
    command = [str(given.bm3d_python), "-c", BM3D, str(before), str(after), str(given.noise)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [*quality(np.load(after), clean), float(told)]


def quality(pictures: Frame, clean: Frame) -> list[float]:
    """Mean and least PSNR (dB, peak 255) of pictures (n, y, x)."""
    errors = ((pictures.astype(np.float64) - clean) ** 2).mean((1, 2))
    found = 10 * np.log10(255**2 / errors)
    return [float(found.mean()), float(found.min())]


if __name__ == "__main__":
    main()
