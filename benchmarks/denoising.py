"""What denoisers gain and cost on simulated low-definition frames of specimens held out.

PSNR against the noise-free frame, BCC error (dark-phase area by Bradley's threshold less the
truth's, percentage points; mean of its modulus), 10-90 % edge width relative to the truth's,
modulation of the lamellae that is left, area of made-up structure; CPU seconds for a frame.
Means over `--frames` frames. The strength of non-local means (and of BM3D, with
`--bm3d-python`) is tuned on frames of a training specimen first. `paper` has random weights:
its cost is measured, not its quality.

    python benchmarks/denoising.py --noise 25 --frames 4
    python benchmarks/denoising.py --bm3d-python BM3D_ENVIRONMENT/bin/python
    python benchmarks/denoising.py --device cuda --batch 8 --frames 64 --only network paper
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from measure import cpu_seconds, peak_mib, show

from cemi_dask.denoise import DENOISERS, Denoiser, Network, NonLocalMeans, Ruler
from cemi_dask.denoise.checkpoints import ModelCard
from cemi_dask.denoise.networks import PRESETS, build_network
from cemi_dask.learn.weights import save_weights
from cemi_dask.pipeline.evaluate_fields import Field, simulated_fields
from cemi_dask.segment import Bradley
from cemi_dask.torchlib import import_torch

Frame = npt.NDArray[Any]
TRAINING_SEED, HELD_OUT_SEED = 900, 0
FACTORS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
# Runs in an environment of its own: the package is for non-commercial use only.
BM3D = """
import sys, time, numpy as np
from bm3d import bm3d
noisy, sigma = np.load(sys.argv[1]), float(sys.argv[2])
start = time.process_time()
out = [255 * np.clip(bm3d(frame / 255, sigma / 255), 0, 1) for frame in noisy]
np.save(sys.argv[3], np.stack(out))
print((time.process_time() - start) / len(noisy))
"""


def main() -> None:
    """Print one row per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3, help="timed calls per method")
    parser.add_argument("--size", default="1024x690", help="WIDTHxHEIGHT, px")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="of the specimen")
    parser.add_argument("--only", nargs="*", default=[], help="labels that start so")
    parser.add_argument("--bm3d-python", help="Python that has the package bm3d")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=4, help="frames at once on a GPU")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    import_torch().set_num_threads(1)
    width, height = (int(part) for part in given.size.split("x"))
    shape = (height, width)
    fields = list(
        simulated_fields(given.frames, shape=shape, noise_sigma=given.noise, seed=given.seed)
    )
    if given.device == "cuda":
        show(["network", "batch", "frames/s", "of the peak"], gpu_rows(fields, given.batch))
        return
    training = list(
        simulated_fields(2, shape=(400, 512), noise_sigma=given.noise, seed=TRAINING_SEED)
    )
    rows: list[list[Any]] = [["(noisy)", *quality([f.noisy for f in fields], fields), 0.0]]
    with tempfile.TemporaryDirectory() as folder:
        for label, method in methods(Path(folder), training, given.noise).items():
            if given.only and not label.startswith(tuple(given.only)):
                continue
            seconds = cpu_seconds(lambda m=method: m(fields[0].noisy), repeat=given.repeat)
            untrained = label.startswith("paper")
            found = ["-"] * 5 if untrained else quality([method(f.noisy) for f in fields], fields)
            rows.append([label, *found, seconds])
        if given.bm3d_python:
            rows.append(bm3d_row(given.bm3d_python, training, fields, Path(folder)))
    head = ["method", "PSNR dB", "BCC error, points", "edge width ratio", "modulation left"]
    show([*head, "made up %", "CPU s a frame"], rows)
    print(f"{given.size} px, sigma {given.noise:g}, peak memory {peak_mib():.0f} MiB")


def methods(folder: Path, training: Sequence[Field], sigma: float) -> dict[str, Denoiser]:
    """Label -> denoiser: the classical ones, the shipped networks, the paper's."""
    found = {
        name: DENOISERS.parse(name)
        for name, cls in DENOISERS.classes().items()
        if cls.needs == "frame" and name != "network"
    }
    strength = tuned(
        training, lambda noisy, factor: [NonLocalMeans(strength=factor * sigma)(f) for f in noisy]
    )
    found[f"nlm, {strength:g} of sigma"] = NonLocalMeans(strength=strength * sigma)
    paper = paper_model(folder)
    backends = ("torch", "openvino") if find_spec("openvino") else ("torch",)
    for backend in backends:
        for precision in ("float32", "bfloat16"):
            options: Any = {"backend": backend, "precision": precision, "device": "cpu"}
            found[f"network compact, {backend} {precision}"] = Network(**options)
    for backend in backends:
        options = {"backend": backend, "model": str(paper), "device": "cpu"}
        found[f"paper, {backend} float32"] = Network(precision="float32", **options)
    return found


def paper_model(folder: Path) -> Path:
    """A file of the paper's generator with random weights."""
    path = folder / "paper.safetensors"
    card = ModelCard(name="paper", spec=PRESETS["paper"], data="none", licence="none")
    save_weights(path, build_network(PRESETS["paper"], seed=0), card)
    return path


def tuned(
    training: Sequence[Field], denoised: Callable[[list[Frame], float], Sequence[Frame]]
) -> float:
    """The factor of the noise sigma with the least squared error on the training frames."""
    noisy = [field.noisy for field in training]
    error_of = {
        factor: np.mean(
            [
                np.mean((out.astype(np.float32) - field.reference) ** 2)
                for out, field in zip(denoised(noisy, factor), training, strict=True)
            ]
        )
        for factor in FACTORS
    }
    return min(error_of, key=lambda factor: error_of[factor])


def quality(pictures: Sequence[Frame], fields: Sequence[Field]) -> list[float]:
    """Means of (PSNR dB, |BCC error| points, edge ratio, modulation, made up %)."""
    return [float(np.nanmean(c)) for c in zip(*map(one_quality, pictures, fields), strict=True)]


def one_quality(picture: Frame, field: Field) -> tuple[float, ...]:
    """PSNR, BCC error, edge ratio, modulation, made-up area of one picture."""
    found = Ruler(field.noisy, field.reference, grey_range=255, reference_sigma=0.0).measure(
        picture
    )
    dark = [100 * float(Bradley()(p.astype(np.float32)).mean()) for p in (picture, field.reference)]
    return (
        found.psnr_db,
        abs(dark[0] - dark[1]),
        found.edge_width_ratio,
        found.modulation,
        found.made_up_pct,
    )


def bm3d_row(
    python: str, training: Sequence[Field], fields: Sequence[Field], folder: Path
) -> list[Any]:
    """BM3D's row, its sigma tuned on the training frames."""
    seconds = [0.0]

    def run(noisy: list[Frame], factor: float) -> Sequence[Frame]:
        given, made = folder / "noisy.npy", folder / "made.npy"
        np.save(given, np.stack(noisy))
        sigma = factor * float(np.mean([np.std(f.noisy - f.reference) for f in training]))
        told = subprocess.run(
            [python, "-c", BM3D, str(given), str(sigma), str(made)],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds[0] = float(told.stdout.split()[-1])
        return list(np.load(made))

    factor = tuned(training, run)
    pictures = run([field.noisy for field in fields], factor)
    return [f"bm3d, {factor:g} of sigma", *quality(pictures, fields), seconds[0]]


# ---------------------------------------------------------------- GPU


def gpu_rows(fields: Sequence[Field], batch: int) -> list[list[Any]]:
    """(network, batch, frames per second from host memory to host memory, share of the peak)."""
    torch = import_torch()
    stack = np.stack([field.noisy for field in fields])
    # Dense bf16 peak of the H100 and H200 (SXM), FLOP/s.
    peak = 989e12
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paper = paper_model(Path(folder))
        for label, model in (("compact", "compact"), ("paper", str(paper))):
            method = Network(model=model, device="cuda", batch=batch)
            method.clean_block(stack[:batch])  # loads, and finds its algorithms
            torch.cuda.synchronize()
            start = time.perf_counter()
            method.clean_block(stack)
            rate = len(stack) / (time.perf_counter() - start)
            flops = floating_point_operations(label, stack.shape[1:])
            rows.append([label, batch, rate, f"{rate * flops / peak:.0%}"])
    print(torch.cuda.get_device_name(0))
    return rows


def floating_point_operations(preset: str, shape: tuple[int, ...]) -> float:
    """Operations of one frame, counted on the CPU at a small size: all is convolution."""
    torch = import_torch()
    from torch.utils.flop_counter import FlopCounterMode

    small = torch.zeros(1, 1, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        build_network(PRESETS[preset], seed=0)(small)
    return float(counter.get_total_flops()) * shape[0] * shape[1] / (64 * 64)


if __name__ == "__main__":
    main()
