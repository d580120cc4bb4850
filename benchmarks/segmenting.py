"""How well lamellar regions are found: the classical segmenter and the shipped network.

IoU, boundary F1 (3 px), error of the lamellar fraction over a picture (percentage points, mean
of its modulus) and of a profile of an ingot (cells of 508 x 413 px averaged along y: rms of the
columns of cells, percentage points), CPU seconds per Mpx with one thread. Specimens are held out:
no weights were trained on their seeds. Where the period differs from picture to picture, the
classical segmenter is told the true one, which the network is not.

    python benchmarks/segmenting.py
    python benchmarks/segmenting.py --model mine.safetensors --only network --pictures 8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pandas as pd
from measure import peak_mib, show

from cemi_dask.pipeline.evaluate_segment import HELD_OUT_SEED, Judged, judge, simulated_pictures
from cemi_dask.segment import Bandpass, Coherence, Network, Segmenter
from cemi_dask.simulate import Gradient, Microscope, Specimen
from cemi_dask.simulate.labelled import random_specimen
from cemi_dask.torchlib import import_torch

CELL = (413, 508)
LD, HD = 25.0, 5.0


def main() -> None:
    """Print one row per set of pictures and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=12, help="of each set")
    parser.add_argument("--profile", default="3x12", help="ROWSxCOLS cells of the profile")
    parser.add_argument("--model", default="compact", help="name or file of the network")
    parser.add_argument("--only", nargs="*", default=[], help="methods that start so")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    import_torch().set_num_threads(1)
    methods: dict[str, Callable[[float], Segmenter]] = {
        "coherence": lambda period: Coherence(period_px=period),
        "bandpass": lambda period: Bandpass(period_px=period),
        "network": lambda _: Network(model=given.model, device="cpu"),
    }
    chosen = {k: m for k, m in methods.items() if not given.only or k.startswith(tuple(given.only))}
    for make in chosen.values():
        make(5.4)(np.ones((64, 64), np.uint8))  # what is imported and read once does not count
    rows: list[list[Any]] = []
    for name, pictures in sets(given.pictures, given.seed):
        found = pd.DataFrame(
            [
                {"method": label, **judge(make(period), picture)[0]}
                for picture, period in pictures
                for label, make in chosen.items()
            ]
        )
        found["fraction_error_points"] = found["fraction_error_points"].abs()
        for label, each in found.groupby("method", sort=False):
            means = each.drop(columns="method")
            columns = ["boundary_f1", "fraction_error_points", "cpu_s_per_mpx"]
            rows.append(
                [name, label, means["iou"].mean(), means["iou"].min(), *means[columns].mean()]
            )
    head = ["pictures", "method", "IoU", "least", "boundary F1", "fraction, points"]
    show([*head, "CPU s a Mpx"], rows)
    print()
    show(["ingot", "method", "IoU", "profile rms, points", "CPU s a Mpx"], profiles(chosen, given))
    print(f"{given.pictures} pictures a set, seed {given.seed}, peak memory {peak_mib():.0f} MiB")


def sets(count: int, seed: int) -> Iterator[tuple[str, list[tuple[Judged, float]]]]:
    """(name, pictures with their period in px)."""
    for name, noise in (("HD", HD), ("LD", LD)):
        shape = (690, 1024)
        ingot = simulated_pictures(count, shape=shape, noise_sigma=noise, seed=seed)
        yield f"ingot, {name}", [(picture, 5.4) for picture in ingot]
    for low, high in ((3.0, 5.0), (5.0, 9.0), (9.0, 20.0)):
        for name, noise in (("HD", HD), ("LD", LD)):
            pictures = [random_picture((low, high), noise, seed, k) for k in range(count)]
            yield f"period {low:g}-{high:g} px, {name}", pictures


def random_picture(
    periods_px: tuple[float, float], noise: float, seed: int, number: int
) -> tuple[Judged, float]:
    """A picture of a random specimen, 690 x 690 px, and its period in px."""
    rng = np.random.default_rng((HELD_OUT_SEED, seed, number))
    specimen = random_specimen(rng, periods_px=periods_px)
    y, x = (float(place) for place in rng.uniform(0, 5000, 2))
    return seen(specimen, noise, (y, x), (690, 690), rng), float(specimen.period_px.middle)


def seen(
    specimen: Specimen,
    noise: float,
    corner: tuple[float, float],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Judged:
    """What the microscope shows of a window, and the truth."""
    microscope = Microscope(noise_sigma=noise, vignetting=0.0)
    clean = specimen.image(*corner, shape, psf_sigma_px=microscope.psf_sigma_px)
    grey = np.maximum(microscope.expose(clean, gain=1.0, rng=rng), 1)
    truth = specimen.truth_at(*corner, shape)["lamellar"].astype(np.uint8)
    return Judged("", grey, truth)


def profiles(methods: dict[str, Callable[[float], Segmenter]], given: Any) -> Iterator[list[Any]]:
    """A row for each noise and method on an ingot with a strong gradient; see `main`."""
    rows, cols = (int(part) for part in given.profile.split("x"))
    shape = (rows * CELL[0], cols * CELL[1])
    specimen = Specimen(
        width_px=shape[1],
        height_px=shape[0],
        seed=HELD_OUT_SEED + given.seed + 1,
        lamellar_fraction=Gradient(left=0.95, middle=0.8, right=0.5),
    )
    for name, noise in (("HD", HD), ("LD", LD)):
        picture = seen(specimen, noise, (0.0, 0.0), shape, np.random.default_rng(given.seed))
        for label, make in methods.items():
            told, found = judge(make(5.4), picture)
            ours, true = (
                labels.reshape(shape[0], cols, CELL[1]).mean((0, 2))
                for labels in (found.astype(float), picture.truth.astype(float))
            )
            error = 100 * float(np.sqrt(np.mean((ours - true) ** 2)))
            yield [name, label, told["iou"], error, told["cpu_s_per_mpx"]]


if __name__ == "__main__":
    main()
