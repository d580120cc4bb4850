"""Make the pictures of README and docs from the run folder of the demo.

make demo && python docs/make_images.py demo/run
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from cemi_dask.analyse import Cells
from cemi_dask.report.style import png_bytes
from cemi_dask.store import read_table

IMAGES = Path(__file__).with_name("images")
PANEL_PX = 224
GAP_PX = 6
MEASURES = ("bcc_fraction", "lamellar_fraction", "lamella_width_um")


def main(run: Path) -> None:
    """Write docs/images/demo_maps.png, demo_detail.png, demo_hardness.png and layout.png."""
    figures = run / "figures"
    names = ("denoising-raw", "denoising-denoised", "detail-A-segmented")
    raw, clean, labelled = (cv2.imread(str(figures / f"{name}.png")) for name in names)
    gap = np.full((PANEL_PX, GAP_PX, 3), 255, np.uint8)
    corner = np.s_[:PANEL_PX, :PANEL_PX]
    # The segmented detail is another place; two textures meet at its right.
    last = labelled[:PANEL_PX, -PANEL_PX:]
    pictures = {
        "demo_maps": maps(run),
        "demo_detail": np.hstack([raw[corner], gap, clean[corner], gap, last]),
        "demo_hardness": shrunk(figures / "hardness.png", 1200),
        "layout": shrunk(figures / "placement.png", 1200),  # what `Layout.plot` draws
    }
    IMAGES.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        cv2.imwrite(str(IMAGES / f"{name}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def maps(run: Path) -> np.ndarray:
    """The three measures of the paper as maps, 1440 px wide."""
    figure = Cells(read_table(run / "tables", "cells")).plot(measures=MEASURES)
    return cv2.imdecode(np.frombuffer(png_bytes(figure, dpi=200), np.uint8), cv2.IMREAD_COLOR)


def shrunk(file: Path, wide: int) -> np.ndarray:
    """A figure of the report, `wide` px wide."""
    figure = cv2.imread(str(file))
    height, width = figure.shape[:2]
    return cv2.resize(figure, (wide, round(height * wide / width)), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
