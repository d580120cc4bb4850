"""`FigureFolder`: figures written as files and handed to the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cemi_dask import store
from cemi_dask.report.mosaic_figures import PIXELS_PER_INCH
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Picture
from cemi_dask.report.style import png_bytes, vector_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Every name the report gives to a figure; files of these names are replaced or removed.
OWN = (
    "overview",
    "detail-*",
    "maps",
    "profiles",
    "hardness",
    "hardness-profiles",
    "correlation",
    "placement",
    "residuals",
    "loops",
    "vectors",
    "links",
    "seams",
    "denoising-*",
    "frames",
    "flat-field",
)


class FigureFolder:
    """Writes each figure to ``figures/NAME.png``, drawings as vectors too, and returns it for the
    page."""

    def __init__(self, folder: Path, options: ReportOptions) -> None:
        self.folder = folder
        self.options = options
        with store.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for pattern in OWN:
                for kind in ("png", "pdf", "svg"):
                    for old in folder.glob(f"{pattern}.{kind}"):
                        old.unlink()

    def plot(self, name: str, figure: Figure, alt: str, caption: str) -> Picture:
        """A drawing: fine in the file, moderate in the page."""
        self._write(f"{name}.png", png_bytes(figure, self.options.figure_dpi))
        for kind in self.options.vector_formats:
            self._write(f"{name}.{kind}", vector_bytes(figure, kind))
        return Picture(png_bytes(figure, self.options.page_dpi), alt, caption)

    def pixels(self, name: str, figure: Figure, alt: str, caption: str) -> Picture:
        """A crop whose pixels must stay what they are, in the file and in the page."""
        png = png_bytes(figure, PIXELS_PER_INCH)
        self._write(f"{name}.png", png)
        width = round(float(figure.get_size_inches()[0]) * PIXELS_PER_INCH)
        return Picture(png, alt, caption, "pixels", width)

    def _write(self, name: str, data: bytes) -> None:
        with store.replacing(self.folder / name) as temporary:
            temporary.write_bytes(data)
