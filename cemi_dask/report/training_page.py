"""The report of a segmenter's training: curves, and held-out pictures with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cemi_dask import store
from cemi_dask.report.mosaic_figures import BCC_RGB, LAMELLAR_RGB, Picture, to_rgb
from cemi_dask.report.page import Number, Page, Section, Table, render
from cemi_dask.report.page import Picture as PagePicture
from cemi_dask.report.style import BLUE, GREEN, ORANGE, RED, drawing, png_bytes, stacked

Uint8 = npt.NDArray[np.uint8]

SIDE_PX = 640  # pictures are shown up to this size
UNKNOWN = 255
SCORES = {"iou": ("IoU", BLUE), "dice": ("Dice", GREEN), "boundary_f1": ("boundary F1", ORANGE)}


@dataclass(frozen=True)
class Example:
    """A held-out picture (y, x), its true and its found labels, and its scores by name."""

    name: str
    picture: Picture
    truth: Uint8
    found: Uint8
    scores: Mapping[str, float]


def write_training_page(
    path: Path,
    *,
    title: str,
    logs: Mapping[str, pd.DataFrame],
    examples: Sequence[Example],
    facts: Mapping[str, str],
) -> Path:
    """Write the page at `path`, and its figures as PNG in figures/ beside it; the path.

    `logs` holds the tables log and validation of the training, as far as there are any.
    """
    figures = path.parent / "figures"
    with drawing():
        curves = _curves(logs)
    pictures = [] if curves is None else [PagePicture(curves, "loss and scores", CURVES)]
    shown = [labelled_png(e.picture, e.truth, e.found) for e in examples]
    files = {example.name: png for example, png in zip(examples, shown, strict=True)}
    if curves is not None:
        files["curves"] = curves
    for name, png in files.items():
        with store.replacing(figures / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    sections = [
        Section("curves", "Course of the training", pictures=tuple(pictures)),
        Section(
            "pictures",
            "Held-out pictures",
            text=(LEGEND,),
            pictures=tuple(
                PagePicture(png, f"{e.name} with labels", _caption(e), "pixels", _width(e))
                for e, png in zip(examples, shown, strict=True)
            ),
            tables=(_table(examples),),
        ),
        Section("facts", "How it was trained", tables=(_facts(facts),)),
    ]
    numbers = [
        Number(f"Held out: mean {SCORES[key][0]}", f"{np.nanmean(values):.3f}")
        for key in SCORES
        if len(values := [e.scores[key] for e in examples if np.isfinite(e.scores[key])])
    ]
    page = Page(title, f"{len(examples)} held-out pictures", numbers, sections)
    store.write_text_atomic(path, render(page))
    return path


CURVES = "Above: what is minimised, mean of each epoch. Below: scores on the held-out pictures."
LEGEND = (
    "Orange line: border of the true labels; blue line: of those found. Filled red: found and not "
    "true; filled yellow: true and not found. Grey: not labelled."
)


def _curves(logs: Mapping[str, pd.DataFrame]) -> bytes | None:
    log, validation = logs.get("log"), logs.get("validation")
    if log is None or not len(log):
        return None
    figure, (upper, lower) = stacked([1.5, 1.8])
    upper.plot(log["step"], log["loss"], color=RED)
    upper.set_title("loss")
    upper.set_ylim(bottom=0)
    upper.grid(axis="y")
    if validation is not None:
        for key, (name, colour) in SCORES.items():
            if key in validation:
                lower.plot(validation["step"], validation[key], color=colour, label=name)
        lower.legend(loc="lower right", ncols=3)
    lower.set_title("held out")
    lower.set_xlabel("step")
    lower.set_ylim(0, 1.02)
    lower.grid(axis="y")
    return png_bytes(figure, 200)


def labelled_png(picture: Picture, truth: Uint8, found: Uint8) -> bytes:
    """A PNG of the picture beside itself with its true and its found labels; see `LEGEND`."""
    side = np.s_[:SIDE_PX, :SIDE_PX]
    rgb = to_rgb(np.asarray(picture[side], np.float32))
    over = rgb.copy()
    truth, found = truth[side], found[side]
    known = truth != UNKNOWN
    for where, colour in (
        (known & (found != truth) & (found != 0), (213, 94, 0)),
        (known & (found != truth) & (found == 0), (240, 228, 66)),
        (~known, (128, 128, 128)),
    ):
        over[where] = (0.6 * over[where] + 0.4 * np.array(colour)).astype(np.uint8)
    for labels, colour in ((truth, BCC_RGB), (found, LAMELLAR_RGB)):
        cross = np.ones((3, 3), np.uint8)
        over[cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, cross) > 0] = colour
    both = np.concatenate([rgb, np.full((rgb.shape[0], 8, 3), 255, np.uint8), over], axis=1)
    return bytes(cv2.imencode(".png", both[:, :, ::-1])[1].tobytes())


def _width(example: Example) -> int:
    return 2 * min(SIDE_PX, example.picture.shape[1]) + 8


def _caption(example: Example) -> str:
    told = [f"{SCORES[key][0]} {example.scores[key]:.3f}" for key in SCORES]
    return f"{example.name}: {', '.join(told)}."


def _table(examples: Sequence[Example]) -> Table:
    heads = tuple(name for name, _ in SCORES.values())
    rows = [(e.name, *(f"{e.scores[key]:.3f}" for key in SCORES)) for e in examples]
    return Table(("picture", *heads), rows, "Scores of each picture as a whole.", heads)


def _facts(facts: Mapping[str, str]) -> Table:
    return Table(("", ""), list(facts.items()))
