"""Noisy pictures from clean ones: what a fast scan does to a picture, as seeded functions.

`MicroscopeNoise` is the noise of the reference microscope, physically exact.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator
Range = tuple[float, float]
MID_LEVEL = 128.0  # where a noise sigma is stated


class MicroscopeNoise(BaseModel):
    """Poisson (electron counts) plus Gaussian (read-out) noise, clipped and rounded to 8 bit.

    The same law as the simulated microscope's: the variance is sigma^2 at mid grey, of which
    a share grows in proportion to the grey level. Ranges are uniform, drawn for each picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["microscope"] = "microscope"
    sigma: Range = Field(default=(2.0, 60.0), description="Noise at mid grey, of 255.")
    poisson_share: Range = Field(
        default=(0.0, 1.0), description="Share of the variance that comes from counts."
    )
    psf_sigma_px: Range = Field(
        default=(0.0, 0.0),
        description="Blur of the noisy picture beyond that of the target; above 0, the network "
        "learns to sharpen as well.",
    )

    def __call__(self, clean: Float32, rng: Rng) -> Float32:
        """A noisy picture from a clean one (y, x), float32 grey levels 0..1 both."""
        sigma, share = rng.uniform(*self.sigma), rng.uniform(*self.poisson_share)
        blur = rng.uniform(*self.psf_sigma_px)
        grey = 255 * (cv2.GaussianBlur(clean, (0, 0), blur) if blur > 0.05 else clean)
        counted = share * sigma**2
        if counted > 0:
            grey_per_electron = np.float32(counted / MID_LEVEL)
            grey = rng.poisson(grey / grey_per_electron).astype(np.float32) * grey_per_electron
        read = np.float32(sigma * np.sqrt(1 - share))
        noisy = grey + read * rng.standard_normal(clean.shape, np.float32)
        return np.asarray(np.clip(np.rint(noisy), 0, 255) / np.float32(255), np.float32)
