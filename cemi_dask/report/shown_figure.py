"""A figure that notebooks show. Imports matplotlib: import this module only to draw."""

from __future__ import annotations

from matplotlib.figure import Figure

from cemi_dask.report.style import drawing, png_bytes

DPI = 110.0


class ShownFigure(Figure):
    """Shown as PNG where it ends a notebook's cell: without pyplot, matplotlib asks no notebook."""

    def _repr_png_(self) -> bytes:
        with drawing():
            return png_bytes(self, DPI)
