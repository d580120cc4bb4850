"""`cemi evaluate segment`: lamellar segmenters on pictures with known labels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask import simulate, store
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames.images import read_image
from cemi_dask.pipeline.evaluate import named_methods
from cemi_dask.pipeline.segment_data import pictures_by_stem
from cemi_dask.report.training_page import labelled_png
from cemi_dask.segment import SEGMENTERS, Segmenter
from cemi_dask.segment.training.patches import UNKNOWN
from cemi_dask.segment.training.scores import scores

HELD_OUT_SEED = 2_000_003  # of specimens that no shipped weights were trained on
Grey = npt.NDArray[Any]
Uint8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture (y, x) and where it is lamellar: 1, else 0, 255 where that is not known."""

    name: str
    grey: Grey
    truth: Uint8


def parse_segmenters(texts: Iterable[str]) -> dict[str, Segmenter]:
    """label -> segmenter from names or YAML mappings; without any, all with their defaults."""
    found = named_methods(list(texts) or list(SEGMENTERS.classes()), SEGMENTERS)
    return {label: method.located(Path.cwd()) for label, method in found.items()}


def judge(method: Segmenter, picture: Judged) -> tuple[dict[str, float], Uint8]:
    """(how well `method` does on a picture, its labels).

    iou, dice, boundary_f1; fraction_error_points, the lamellar share of the pixels whose truth
    is known less the true one, percentage points; cpu_s_per_mpx of this process.
    """
    start = time.process_time()
    found = method(picture.grey)
    spent = time.process_time() - start
    known = picture.truth != UNKNOWN
    error = found[known].mean() - (picture.truth[known] == 1).mean()
    told = asdict(scores([(found, picture.truth)], 1)) | {
        "fraction_error_points": 100 * float(error),
        "cpu_s_per_mpx": spent / (found.size / 1e6),
    }
    return told, found


def evaluate_segment(
    pictures: Iterable[Judged], methods: dict[str, Segmenter], out: Path
) -> pd.DataFrame:
    """One row per picture and method: picture, method, and what `judge` tells.

    Writes metrics.csv and overlays/NAME-METHOD.png (see the training's report) into `out`.
    """
    rows: list[dict[str, Any]] = []
    for picture in pictures:
        for label, method in methods.items():
            told, found = judge(method, picture)
            rows.append({"picture": picture.name, "method": label, **told})
            file = "".join(c if c.isalnum() else "-" for c in f"{picture.name}-{label}")
            with store.replacing(out / "overlays" / f"{file}.png") as temporary:
                temporary.write_bytes(labelled_png(picture.grey, picture.truth, found))
    if not rows:
        raise InputError("There is no picture to evaluate.")
    table = pd.DataFrame(rows)
    with store.replacing(out / "metrics.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def labelled_files(pictures: Path, masks: Path) -> Iterator[Judged]:
    """Two pictures, or two folders of pictures of equal names: any level but 0 is lamellar.

    Raises ConfigError where they do not pair.
    """
    if pictures.is_dir() != masks.is_dir():
        raise ConfigError(f"{pictures} and {masks} must both be pictures, or both folders.")
    ours = pictures_by_stem(pictures) if pictures.is_dir() else {pictures.stem: pictures}
    theirs = pictures_by_stem(masks) if masks.is_dir() else {pictures.stem: masks}
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise ConfigError(
            f"{pictures} and {masks} must hold pictures of equal names; without a partner: "
            f"{', '.join(alone[:8])}."
        )
    for name, path in ours.items():
        grey, mask = read_image(path), read_image(theirs[name])
        if grey.shape != mask.shape:
            raise InputError(f"{name}: the picture has {grey.shape} px and its mask {mask.shape}.")
        yield Judged(name, grey, (mask != 0).astype(np.uint8))


def simulated_pictures(
    count: int, *, shape: tuple[int, int], noise_sigma: float, seed: int
) -> Iterator[Judged]:
    """Pictures of the reference ingot that no shipped weights were trained on."""
    specimen = simulate.Specimen(seed=HELD_OUT_SEED + seed)
    microscope = simulate.Microscope(noise_sigma=noise_sigma, vignetting=0.0)
    for k in range(count):
        rng = np.random.default_rng((HELD_OUT_SEED, seed, k))
        y = float(rng.uniform(0, specimen.height_px - shape[0]))
        x = float(rng.uniform(0, specimen.width_px - shape[1]))
        clean = specimen.image(y, x, shape, psf_sigma_px=microscope.psf_sigma_px)
        grey = np.maximum(microscope.expose(clean, gain=1.0, rng=rng), 1)
        truth = specimen.truth_at(y, x, shape)["lamellar"].astype(np.uint8)
        yield Judged(f"simulated-{k}", grey, truth)
