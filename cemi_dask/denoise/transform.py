"""Denoisers that shrink local transform coefficients: `Fourier` (the default) and `Dct`."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cemi_dask.denoise.method import Denoiser, FloatFrame, Frame
from cemi_dask.denoise.noise import NoiseModel, estimate_noise, estimate_noise_model
from cemi_dask.denoise.shrinkage import Shrinkage, shrink_cosine, shrink_fourier


class _Shrinking(Denoiser):
    """What both transforms share: the noise, the blocks and the strengths."""

    block_px: int = Field(default=32, ge=4, le=128, description="Side of the square blocks.")
    step_px: int = Field(
        default=8, ge=1, description="Distance of neighbouring blocks; divides block_px."
    )
    threshold_sigma: float = Field(
        default=2.4, gt=0, description="First pass: coefficients below this many sigmas are noise."
    )
    wiener_noise: float = Field(
        default=0.5,
        ge=0,
        le=2,
        description="Second pass: share of the noise power that the Wiener filter assumes. "
        "Less keeps more contrast and more noise; 0 leaves the second pass out.",
    )
    sigma: float | None = Field(
        default=None,
        ge=0,
        description="Noise in grey levels; estimated from each frame where not given.",
    )
    noise: Literal["constant", "grey"] = Field(
        default="grey",
        description="Estimated noise: one value per frame, or a line over grey level.",
    )

    @model_validator(mode="after")
    def _blocks_tile(self) -> Self:
        if self.block_px % self.step_px or self.step_px == self.block_px:
            raise ValueError(
                f"step_px={self.step_px} must divide block_px={self.block_px} and be smaller"
            )
        return self

    @property
    def halo_px(self) -> int:
        """Surroundings needed where `sigma` is given (else the whole frame sets the noise)."""
        return self._shrinkage.reach_px

    @property
    def _shrinkage(self) -> Shrinkage:
        return Shrinkage(self.block_px, self.step_px, self.threshold_sigma, self.wiener_noise)

    def _noise_of(self, frame: Frame) -> NoiseModel:
        if self.sigma is not None:
            return NoiseModel.constant(self.sigma)
        if self.noise == "constant":
            return NoiseModel.constant(estimate_noise(frame))
        return estimate_noise_model(frame)

    def clean(self, frame: Frame) -> Frame:
        """The shrunk picture, float32; `frame` itself where it holds no noise."""
        noise = self._noise_of(frame)
        if noise.mean_variance == 0:
            return frame
        return self._shrink(frame.astype(np.float32), noise)

    def _shrink(self, picture: FloatFrame, noise: NoiseModel) -> FloatFrame:
        raise TypeError(f"{type(self).__name__} names no transform.")


class Fourier(_Shrinking):
    """Shrinkage of windowed block Fourier coefficients, then an empirical Wiener filter.

    Lamellae are waves: within a block they gather in few Fourier coefficients that stand
    far above the noise, whatever their direction, and so keep their contrast.
    """

    method: Literal["fourier"] = "fourier"

    def _shrink(self, picture: FloatFrame, noise: NoiseModel) -> FloatFrame:
        return shrink_fourier(picture, noise, self._shrinkage)


class Dct(_Shrinking):
    """Shrinkage of sliding block cosine coefficients, then an empirical Wiener filter.

    Yu and Sapiro 2011 with a second pass. Sharper at lone edges than `fourier`, weaker on
    slanted lamellae.
    """

    method: Literal["dct"] = "dct"
    block_px: int = Field(default=24, ge=4, le=128, description="Side of the square blocks.")
    step_px: int = Field(
        default=4, ge=1, description="Distance of neighbouring blocks; divides block_px."
    )
    threshold_sigma: float = Field(
        default=2.7, gt=0, description="First pass: coefficients below this many sigmas are noise."
    )
    wiener_noise: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Second pass: share of the noise power that the Wiener filter assumes.",
    )

    def _shrink(self, picture: FloatFrame, noise: NoiseModel) -> FloatFrame:
        return shrink_cosine(picture, noise, self._shrinkage)
