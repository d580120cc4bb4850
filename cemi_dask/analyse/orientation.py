"""Which way lamellae run in a cell, and how much they agree."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cemi_dask.analyse.cell import Analyser, CellView, Measured
from cemi_dask.analyse.waves import find_waves


class Orientation(Analyser):
    """Mean axis of the lamellae of a cell, and its order parameter.

    Axes come from the strongest wave in patches of the local spectrum, area-weighted, as angles
    doubled (axial statistics; Mardia 1972, Fisher 1993). ``orientation_deg`` is the axis
    along the lamellae, 0 to 180 degrees from x towards y (clockwise on the screen);
    ``orientation_error_deg`` its circular standard error, sqrt(delta / n) / 2 with the
    dispersion delta. ``orientation_order`` is the length of the mean vector: 1 where all run
    alike, near 0 where no direction is preferred (about 1 / sqrt(n) for n patches at random).
    An axis is no number to be averaged along y, so it has no column in the profile. NaN
    without a lamellar patch. Needs the label ``lamellar``.
    """

    measures: ClassVar[tuple[str, ...]] = ("orientation_order",)
    extras: ClassVar[tuple[str, ...]] = ("orientation_deg", "orientation_error_deg")

    method: Literal["orientation"] = "orientation"
    patch_px: int = Field(default=128, ge=32, le=1024, description="Side of a patch, px.")
    min_period_px: float = Field(default=2.5, ge=2.0, description="Shortest period, px.")
    max_period_px: float = Field(default=40.0, gt=2.0, description="Longest period, px.")
    min_lamellar: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Least lamellar share of a patch."
    )

    def __call__(self, view: CellView) -> Measured:
        """Mean axis and order parameter with their errors."""
        patches = find_waves(
            view.grey,
            view.label("lamellar"),
            patch_px=self.patch_px,
            min_lamellar=self.min_lamellar,
            band_px=(self.min_period_px, self.max_period_px),
        )
        result = self.nothing()
        if not patches:
            return result
        share = np.array([p.area_px for p in patches], np.float64)
        share /= share.sum()
        doubled = np.exp(2j * np.array([p.wave.axis_rad for p in patches]))
        mean = complex(np.sum(share * doubled))
        result["orientation_order"] = abs(mean)
        result["orientation_deg"] = float(np.degrees(np.angle(mean)) / 2 % 180)
        n = float(1 / np.sum(share**2))
        if n > 1 and abs(mean) > 0:
            along = np.real(doubled * np.conj(mean) / abs(mean))
            spread = np.sum(share * (along - abs(mean)) ** 2)
            result["orientation_order_se"] = float(np.sqrt(spread / (n - 1)))
            second = float(np.sum(share * (2 * along**2 - 1)))
            delta = (1 - second) / (2 * abs(mean) ** 2)
            result["orientation_error_deg"] = float(np.degrees(np.sqrt(delta / n) / 2))
        return result
