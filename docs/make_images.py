"""Make the pictures of README and docs from the run folder of the demo.

make demo && python docs/make_images.py demo/run
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

IMAGES = Path(__file__).with_name("images")
PANEL_PX = 224
GAP_PX = 6


def main(run: Path) -> None:
    """Write docs/images/demo_maps.png, demo_detail.png and demo_hardness.png."""
    figures = run / "figures"
    maps = cv2.imread(str(figures / "maps.png"))
    height, width = maps.shape[:2]
    maps = cv2.resize(maps, (1440, round(height * 1440 / width)), interpolation=cv2.INTER_AREA)
    names = ("denoising-raw", "denoising-denoised", "detail-A-segmented")
    raw, clean, labelled = (cv2.imread(str(figures / f"{name}.png")) for name in names)
    gap = np.full((PANEL_PX, GAP_PX, 3), 255, np.uint8)
    corner = np.s_[:PANEL_PX, :PANEL_PX]
    # The segmented detail is another place; two textures meet at its right.
    last = labelled[:PANEL_PX, -PANEL_PX:]
    detail = np.hstack([raw[corner], gap, clean[corner], gap, last])
    hardness = cv2.imread(str(figures / "hardness.png"))
    wide = 1200
    hardness = cv2.resize(
        hardness,
        (wide, round(hardness.shape[0] * wide / hardness.shape[1])),
        None,
        0,
        0,
        cv2.INTER_AREA,
    )
    IMAGES.mkdir(exist_ok=True)
    pictures = {"demo_maps": maps, "demo_detail": detail, "demo_hardness": hardness}
    for name, picture in pictures.items():
        cv2.imwrite(str(IMAGES / f"{name}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
