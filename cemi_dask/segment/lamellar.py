"""Lamellar regions without training: local orientation coherence and periodicity.

Everything is summed as whole numbers, so that blocks agree with the whole picture bit for
bit; every measure is a ratio in which brightness, contrast and (for `coherence`) the
strength of the lamellae cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.errors import ConfigError
from cemi_dask.segment.labels import Labels, Segmenter, valid_pixels, whole_numbers

Map = npt.NDArray[np.float64]

# The kernel looks at lamellae of this period; pictures with coarser ones are binned first.
CANONICAL_PERIOD_PX = 5.4
BINOMIAL = np.array([1.0, 4.0, 6.0, 4.0, 1.0])  # sigma 1 px, whole numbers
CELL_PX = 4  # local averages are kept on a grid of this pitch
BOX_CELLS = 5  # three boxes of 5 cells: sigma 9.8 px
MAJORITY_CELLS = 5
SUPPORT_PX = 3  # how far smoothing and differences reach
REACH_PX = SUPPORT_PX + CELL_PX * (3 * (BOX_CELLS // 2) + MAJORITY_CELLS // 2 + 1)


class LamellarSegmenter(Segmenter):
    """What both segmenters share: the period they look for, in px or micrometres."""

    period_px: float = Field(
        default=CANONICAL_PERIOD_PX,
        ge=3.0,
        le=200.0,
        description="Typical period of the lamellae (one dark and one bright), px.",
    )
    period_um: float | None = Field(
        default=None, gt=0.0, description="The same in micrometres; goes before period_px."
    )

    @property
    def binning(self) -> int:
        """Side of the square of pixels that is averaged before anything else."""
        return max(1, round(self.period_px / CANONICAL_PERIOD_PX))

    @property
    def stride_px(self) -> int:
        """Local averages lie on a grid anchored at the mosaic's first pixel."""
        return CELL_PX * self.binning

    @property
    def halo_px(self) -> int:
        """Reach of smoothing, local averages and the majority filter."""
        return (REACH_PX + CELL_PX) * self.binning

    def at_scale(self, pixel_um: float | None) -> Self:
        """The method with its period in px. Raises ConfigError where the pixel size lacks."""
        if self.period_um is None:
            return self
        if pixel_um is None:
            raise ConfigError(
                f"{type(self).__name__}.period_um = {self.period_um} needs the pixel size. "
                "Give pixel_um, or state the period as period_px."
            )
        fields = {**self.model_dump(), "period_px": self.period_um / pixel_um, "period_um": None}
        return type(self)(**fields)

    def decide(self, texture: Texture) -> npt.NDArray[np.bool_]:
        """True for the cells of `texture` that look lamellar."""
        raise TypeError(f"{type(self).__name__} is a base class and decides nothing.")

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Label 1 where the picture (y, x) is lamellar."""
        valid = valid_pixels(grey)
        binned, inside = bin_pixels(whole_numbers(grey, valid), valid, self.binning)
        texture = measure_texture(binned, inside, small=grey.dtype == np.uint8)
        cells = majority(self.decide(texture), texture.weight > 0)
        side = self.stride_px
        height, width = grey.shape
        labels = np.repeat(np.repeat(cells, side, axis=0), side, axis=1)[:height, :width]
        return (labels & valid).astype(np.uint8)


class Coherence(LamellarSegmenter):
    """Regions of one orientation and one spatial frequency: lamellae, not scratches or noise.

    Orientation coherence is that of the structure tensor (differences of the picture
    smoothed with sigma 1 px, averaged with sigma 10 px, at a period of 5.4 px; Bigun and
    Granlund 1987): 1 for lines, 0 for isotropic texture. Periodicity is
    ``S1^2 / (S0 S2)`` with the local energies of the picture, its gradient and its
    Laplacian (the inverse square of Hjorth's complexity, Hjorth 1970): 1 for a single wave,
    1/2 for smoothed noise, 1/3 for a lone line. The mean wavelength must lie near the
    period looked for. All three are free of brightness and contrast.
    """

    method: Literal["coherence"] = "coherence"
    min_coherence: float = Field(
        default=0.25, ge=0.0, le=1.0, description="Least orientation coherence, 0..1."
    )
    min_periodicity: float = Field(
        default=0.55, ge=0.0, le=1.0, description="Least periodicity, 0..1."
    )
    period_tolerance: float = Field(
        default=1.75, gt=1.0, description="Largest ratio between the period found and period_px."
    )

    def decide(self, texture: Texture) -> npt.NDArray[np.bool_]:
        """True for cells that pass all three limits."""
        period = texture.period_px
        expected = self.period_px / self.binning
        return np.asarray(
            (texture.coherence >= self.min_coherence)
            & (texture.periodicity >= self.min_periodicity)
            & (period <= expected * self.period_tolerance)
            & (period >= expected / self.period_tolerance)
        )


class Bandpass(LamellarSegmenter):
    """Regions with strong contrast at the lamellae's scale, whatever its direction.

    Label 1 where the standard deviation of the smoothed picture is at least `min_contrast`
    of its mean and its mean wavelength lies near the period looked for. Simpler and coarser
    than `coherence`: it takes scratches and irregular eutectic for lamellae.
    """

    method: Literal["bandpass"] = "bandpass"
    min_contrast: float = Field(
        default=0.03, gt=0.0, description="Least standard deviation relative to the mean."
    )
    period_tolerance: float = Field(
        default=1.5, gt=1.0, description="Largest ratio between the period found and period_px."
    )

    def decide(self, texture: Texture) -> npt.NDArray[np.bool_]:
        """True for cells that pass both limits."""
        expected = self.period_px / self.binning
        return np.asarray(
            (texture.contrast >= self.min_contrast)
            & (texture.period_px <= expected * self.period_tolerance)
            & (texture.period_px >= expected / self.period_tolerance)
        )


@dataclass(frozen=True)
class Texture:
    """Local measures of a picture on a grid of cells (4 px), NaN where no data support them.

    `coherence`, `periodicity` 0..1, `period_px` mean wavelength, `contrast` standard deviation
    of the smoothed picture over its mean, `weight` the (weighted) number of valid pixels.
    """

    coherence: Map
    periodicity: Map
    period_px: Map
    contrast: Map
    weight: Map


def bin_pixels(
    numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], binning: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Means of `binning` x `binning` pixels rounded to whole numbers, and where all are valid.

    Padded with pixels that are not valid to a multiple of a cell.
    """
    side = CELL_PX * binning
    height, width = numbers.shape
    pad = ((0, -height % side), (0, -width % side))
    if any(extra for _, extra in pad):
        numbers, valid = np.pad(numbers, pad), np.pad(valid, pad)
    if binning == 1:
        return numbers, valid
    shape = (numbers.shape[0] // binning, binning, numbers.shape[1] // binning, binning)
    total = numbers.reshape(shape).sum(axis=(1, 3), dtype=np.float64)
    return np.rint(total / binning**2), np.asarray(valid.reshape(shape).all(axis=(1, 3)))


def measure_texture(
    numbers: npt.NDArray[Any], valid: npt.NDArray[np.bool_], *, small: bool
) -> Texture:
    """Local texture of whole-number grey levels (y, x), sides a multiple of a cell.

    `small` says that no number exceeds 255: then float32 holds the smoothed picture, which
    is 256 times as large, exactly. Larger numbers are rounded back to their own scale.
    """
    numbers = numbers.astype(np.float32 if small else np.float64)
    smooth = np.asarray(cv2.sepFilter2D(numbers, -1, BINOMIAL, BINOMIAL))
    if not small:
        smooth = np.rint(smooth / BINOMIAL.sum() ** 2)
    reach = 2 * SUPPORT_PX + 1
    inside = cv2.erode(
        valid.astype(np.uint8),
        np.ones((reach, reach), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return _ratios(*_local_sums(smooth, np.asarray(inside)))


def _local_sums(smooth: npt.NDArray[Any], inside: npt.NDArray[Any]) -> tuple[Map, ...]:
    """Locally weighted sums: 1, I, I^2, gx^2-gy^2, 2 gx gy, gx^2+gy^2, |forward|^2, Laplacian^2."""
    mask = inside.astype(smooth.dtype)
    gx = cv2.filter2D(smooth, -1, np.array([[-1.0, 0.0, 1.0]])) * mask
    gy = cv2.filter2D(smooth, -1, np.array([[-1.0], [0.0], [1.0]])) * mask
    fx = cv2.filter2D(smooth, -1, np.array([[0.0, -1.0, 1.0]])) * mask
    fy = cv2.filter2D(smooth, -1, np.array([[0.0], [-1.0], [1.0]])) * mask
    cross = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    laplacian = cv2.filter2D(smooth, -1, cross) * mask
    value = smooth * mask
    return (
        _average(mask.astype(np.float64)),
        _average(value.astype(np.float64)),
        _average(_product(value, value)),
        _average(_product(gx, gx) - _product(gy, gy)),
        _average(2.0 * _product(gx, gy)),
        _average(_product(gx, gx) + _product(gy, gy)),
        _average(_product(fx, fx) + _product(fy, fy)),
        _average(_product(laplacian, laplacian)),
    )


def _product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Map:
    return np.asarray(cv2.multiply(a, b, dtype=cv2.CV_64F))


def _average(field: Map) -> Map:
    """Sums over cells, then three box sums; exact for whole numbers (mean of 16 = sum / 16)."""
    height, width = field.shape
    cells = cv2.resize(field, (width // CELL_PX, height // CELL_PX), interpolation=cv2.INTER_AREA)
    size = (BOX_CELLS, BOX_CELLS)
    for _ in range(3):
        cells = cv2.boxFilter(
            cells, cv2.CV_64F, size, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
    return np.asarray(cells)


def _ratios(*sums: Map) -> Texture:
    weight, value, square, real, imaginary, trace, gradient, laplacian = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(weight > 0, weight, np.nan)
        mean = value / weight
        # Sums are exact, so the difference can only be a rounding error below zero.
        variance = np.maximum(square - value * mean, 0.0)
        some = np.where(gradient > 0, gradient, np.nan)
        return Texture(
            coherence=np.sqrt(real * real + imaginary * imaginary) / trace,
            periodicity=some * some / (variance * laplacian),
            period_px=2.0 * np.pi * np.sqrt(variance / some),
            contrast=np.sqrt(variance / weight) / mean,
            weight=np.nan_to_num(weight),
        )


def majority(cells: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Cells where at least half of the known cells in 5 x 5 around are set."""
    votes, voters = (_count_around(field) for field in (cells & known, known))
    return np.asarray(known & (2 * votes >= np.maximum(voters, 1)))


def _count_around(field: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    size = (MAJORITY_CELLS, MAJORITY_CELLS)
    return np.asarray(
        cv2.boxFilter(
            field.astype(np.uint8),
            cv2.CV_32S,
            size,
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
    )
