"""What the classical denoisers gain and cost on simulated low-definition frames.

PSNR against the noise-free frame; the share of the lamellae's modulation that is left
(regression of high-passed grey levels on the truth, lamellar regions only; 1 is ideal) and
what is left of the noise there; CPU seconds for a frame. Medians over `--frames` frames of
different places.

    python benchmarks/denoising.py --noise 25 --frames 3
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from measure import cpu_seconds, peak_mib, show

from cemi_dask.denoise import DENOISERS
from cemi_dask.simulate import Specimen

Frame = npt.NDArray[Any]


def main() -> None:
    """Print one row per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=25.0, help="sigma of 255 grey levels")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="timed calls per frame")
    parser.add_argument("--size", default="1024x690", help="WIDTHxHEIGHT, px")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(part) for part in given.size.split("x"))
    scenes = [scene(place, (height, width), given.noise) for place in range(given.frames)]
    rows: list[list[Any]] = [["(noisy)", *quality([(s["noisy"], s) for s in scenes]), 0.0]]
    for name, cls in DENOISERS.classes().items():
        if cls.trains:  # see benchmarks/training.py
            continue
        method = DENOISERS.parse(name)
        seconds = cpu_seconds(lambda m=method: m(scenes[0]["noisy"]), repeat=given.repeat)
        rows.append([name, *quality([(method(s["noisy"]), s) for s in scenes]), seconds])
    show(["method", "PSNR dB", "modulation left", "noise left, grey levels", "CPU s a frame"], rows)
    print(f"{given.size} px, sigma {given.noise:g}, peak memory {peak_mib():.0f} MiB")


def scene(place: int, shape: tuple[int, int], sigma: float) -> dict[str, Frame]:
    """Noise-free and noisy frame of one place of the specimen, and where it is lamellar."""
    y, x = 500 + 900 * place, 20_000 + 35_000 * place
    specimen = Specimen(seed=1)
    clean = specimen.image(y, x, shape, psf_sigma_px=0.6)
    noise = np.random.default_rng(place).normal(0, sigma, shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    return {"clean": clean, "noisy": noisy, "lamellar": specimen.truth_at(y, x, shape)["lamellar"]}


def quality(results: list[tuple[Frame, dict[str, Frame]]]) -> list[float]:
    """Median (PSNR in dB, modulation left, noise left in grey levels)."""
    return [statistics.median(column) for column in zip(*map(one_quality, results), strict=True)]


def one_quality(result: tuple[Frame, dict[str, Frame]]) -> tuple[float, float, float]:
    """PSNR, modulation left, noise left of one picture."""
    picture, truth = result[0].astype(np.float32), result[1]
    error = float(np.mean((picture - truth["clean"]) ** 2))
    fine = [a - cv2.GaussianBlur(a, (0, 0), 4) for a in (picture, truth["clean"])]
    a, b = (f[truth["lamellar"]] for f in fine)
    kept = float((a * b).sum() / (b * b).sum())
    return 10 * np.log10(255**2 / error), kept, float(np.std(a - kept * b))


if __name__ == "__main__":
    main()
