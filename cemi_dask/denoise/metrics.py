"""How good a denoised picture is, against a reference of the same field on the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.edge_width import EdgeProfiles
from cemi_dask.denoise.made_up import MadeUp, find_made_up
from cemi_dask.denoise.noise import estimate_noise
from cemi_dask.denoise.wave_measures import WaveMeasures
from cemi_dask.errors import InputError

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SSIM_REACH_PX = 5  # half of the window of 11 px


@dataclass(frozen=True)
class Measures:
    """Measures of one picture against a reference, over pixels where both are known.

    psnr_db: 10 log10(range^2 / mean squared difference), dB. ssim: mean structural similarity,
    0..1 (Wang et al. 2004, Gaussian window of sigma 1.5 px). noise_levels: noise as estimated
    from the picture alone (`estimate_noise`), grey levels. residual_levels: standard deviation
    of the difference less the reference's own noise, grey levels. edge_width_px: 10-90 % width of
    isolated edges, px, and edge_width_ratio, its ratio to the reference's (`EdgeProfiles`).
    lamella_power, modulation, unexplained_pct: see `WaveMeasures`. made_up_pct, made_up_count,
    lost_pct: see `find_made_up`. NaN where a measure cannot be taken.
    """

    psnr_db: float
    ssim: float
    noise_levels: float
    residual_levels: float
    edge_width_px: float
    edge_width_ratio: float
    lamella_power: float
    modulation: float
    unexplained_pct: float
    made_up_pct: float
    made_up_count: int
    lost_pct: float


class Ruler:
    """Measures pictures of one field against one reference.

    `noisy` (y, x) is the picture that was denoised, `reference` (y, x) the truth, or a sharp
    picture brought onto its grid and to its grey levels (`Alignment`), NaN where unknown;
    `grey_range` the grey levels from black to white. `reference_sigma` is the reference's own
    noise in grey levels, estimated from it by default. Raises InputError for shapes that
    differ or a reference that is known nowhere.
    """

    def __init__(
        self,
        noisy: npt.NDArray[Any],
        reference: npt.NDArray[Any],
        *,
        grey_range: float = 255.0,
        reference_sigma: float | None = None,
    ) -> None:
        _check(noisy, reference)
        self.noisy = np.asarray(noisy, np.float32)
        self.valid: Mask = np.isfinite(reference)
        if not self.valid.any():
            raise InputError("The reference is known nowhere: all its pixels are NaN.")
        # Outside, the noisy picture stands in: nothing there enters a mean.
        self.reference = np.where(self.valid, reference, self.noisy).astype(np.float32)
        self.grey_range = grey_range
        box = _inner_box(self.valid)
        known = estimate_noise(self.reference[box]) if reference_sigma is None else reference_sigma
        self.reference_sigma = known
        self._box = box
        self._edges = EdgeProfiles.of(self.reference, self.valid)

    def filled(self, picture: npt.NDArray[Any]) -> Float32:
        """The picture (y, x), float32, with the reference's pixels where that is unknown."""
        _check(picture, self.reference)
        return np.where(self.valid, picture, self.reference).astype(np.float32)

    def measure(self, picture: npt.NDArray[Any]) -> Measures:
        """All measures of a picture (y, x). Raises InputError for another shape."""
        grey = self.filled(picture)
        difference = (grey - self.reference)[self.valid].astype(np.float64)
        mean_square = float(np.mean(difference**2))
        variance = float(np.var(difference)) - self.reference_sigma**2
        width = self._edges.width_px(grey)
        waves = WaveMeasures.of(grey[self._box], self.reference[self._box], self.reference_sigma)
        made_up: MadeUp = find_made_up(grey, self.noisy, self.reference, self.valid)
        return Measures(
            psnr_db=psnr_db(mean_square, self.grey_range),
            ssim=_ssim(grey, self.reference, self.valid, self.grey_range),
            noise_levels=estimate_noise(grey[self._box]),
            residual_levels=float(np.sqrt(max(0.0, variance))),
            edge_width_px=width,
            edge_width_ratio=width / self._edges.reference_px,
            lamella_power=waves.power,
            modulation=waves.modulation,
            unexplained_pct=waves.unexplained_pct,
            made_up_pct=made_up.made_up_pct,
            made_up_count=made_up.made_up_count,
            lost_pct=made_up.lost_pct,
        )


def psnr_db(mean_square: float, grey_range: float) -> float:
    """Peak signal-to-noise ratio (dB) of a mean squared difference; infinite for none."""
    return float("inf") if mean_square == 0 else float(10 * np.log10(grey_range**2 / mean_square))


def _ssim(a: Float32, b: Float32, valid: Mask, grey_range: float) -> float:
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, ssim = structural_similarity(a, b, data_range=grey_range, full=True, **options)
    side = 2 * _SSIM_REACH_PX + 1
    inner = cv2.erode(valid.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0) > 0
    return float(ssim[inner].mean()) if inner.any() else float("nan")


def _check(picture: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    if picture.shape != reference.shape or picture.ndim != 2:
        raise InputError(
            f"A picture of shape {picture.shape} cannot be measured against a reference of shape "
            f"{reference.shape}; both must be grey pictures of one shape. Align them first."
        )


def _inner_box(valid: Mask) -> tuple[slice, slice]:
    """The rows and columns that are valid to nine tenths: a rectangle with little unknown."""
    rows = np.flatnonzero(valid.mean(axis=1) > 0.9 * valid.mean(axis=1).max())
    cols = np.flatnonzero(valid[rows].mean(axis=0) > 0.9)
    if not len(cols):
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
