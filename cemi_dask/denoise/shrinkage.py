"""Sliding-window shrinkage of a picture's cosine or Fourier coefficients: the kernels.

A picture is cut into overlapping blocks; in each, coefficients that noise explains are
removed; the blocks are averaged again. A second pass replaces the yes-or-no decision by the
empirical Wiener filter, which takes the first pass for the truth. Blocks are handled one
row of blocks at a time, so that all intermediates stay in the processor's cache.

Sources: Yu and Sapiro 2011 (IPOL, DCT image denoising); Dabov et al. 2007 (BM3D), whose
weights 1 / sum(gain^2) and second, Wiener, stage are used here without block matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, irfft2, rfft2

from cemi_dask.denoise.noise import NoiseModel

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shrinkage:
    """How to shrink: block side, distance of blocks, and the two passes' strengths.

    `threshold_sigma`: coefficients below this many noise sigmas are dropped in the first
    pass. `wiener_noise`: fraction of the noise power the second pass's Wiener filter
    assumes (0: no second pass). `step_px` divides `block_px`.
    """

    block_px: int
    step_px: int
    threshold_sigma: float
    wiener_noise: float

    @property
    def reach_px(self) -> int:
        """How far a pixel's result depends on its surroundings: a block per pass."""
        return (self.block_px - 1) * (2 if self.wiener_noise > 0 else 1)


def shrink_cosine(picture: FloatArray, noise: NoiseModel, how: Shrinkage) -> FloatArray:
    """The denoised picture (y, x, float32) by shrinkage in sliding block cosine transforms."""
    return _shrink(picture, noise, how, _Cosine(how.block_px, how.step_px))


def shrink_fourier(picture: FloatArray, noise: NoiseModel, how: Shrinkage) -> FloatArray:
    """The denoised picture (y, x, float32) by shrinkage in windowed block Fourier transforms.

    A plane wave of any direction is one pair of Fourier coefficients but many cosine ones,
    which is why lamellae survive more noise here than with `shrink_cosine`.
    """
    return _shrink(picture, noise, how, _Fourier(how.block_px, how.step_px))


class _Transform(Protocol):
    """Blocks of one strip of a picture <-> their coefficients without the blocks' means."""

    window: FloatArray  # (n,), applied along y and x before and after

    def forward(self, strip: FloatArray) -> tuple[Array, FloatArray]:
        """Coefficients (m, n, k) and means (m,) of the m blocks of a strip (n, width)."""
        ...

    def backward(self, coefficients: Array, means: FloatArray, weights: FloatArray) -> FloatArray:
        """Weighted blocks, windowed again and summed where they overlap: (n, width)."""
        ...


class _Cosine:
    """Orthonormal DCT-II by products with its matrix; no window."""

    def __init__(self, block_px: int, step_px: int) -> None:
        self.step_px = step_px
        self.window = np.ones(block_px, np.float32)
        self.basis = dct(np.eye(block_px), axis=0, norm="ortho").astype(np.float32)
        self.basis_t = np.ascontiguousarray(self.basis.T)

    def forward(self, strip: FloatArray) -> tuple[Array, FloatArray]:
        n = len(self.basis)
        # Along y the transform is shared by all blocks that hold the column.
        blocks = np.ascontiguousarray(_blocks(self.basis @ strip, self.step_px))
        out = (blocks.reshape(-1, n) @ self.basis_t).reshape(n, -1, n).transpose(1, 0, 2)
        means = out[:, 0, 0] / np.float32(n)
        out[:, 0, 0] = 0
        return out, means

    def backward(self, coefficients: Array, means: FloatArray, weights: FloatArray) -> FloatArray:
        n = len(self.basis)
        weighted = coefficients * weights[:, None, None]
        weighted[:, 0, 0] = np.float32(n) * means * weights
        flat = np.ascontiguousarray(weighted.transpose(1, 0, 2)).reshape(-1, n)
        summed = _overlap_add((flat @ self.basis).reshape(n, -1, n), self.step_px)
        return self.basis_t @ summed


class _Fourier:
    """Real FFT under a sine window, which is its own synthesis window."""

    def __init__(self, block_px: int, step_px: int) -> None:
        self.step_px = step_px
        ramp = (np.arange(block_px) + 0.5) / block_px
        # Normalised so that white noise has its own variance in every coefficient.
        self.window = (np.sqrt(2.0) * np.sin(np.pi * ramp)).astype(np.float32)
        self.window_2d = np.outer(self.window, self.window)

    def forward(self, strip: FloatArray) -> tuple[Array, FloatArray]:
        blocks = _blocks(strip, self.step_px).transpose(1, 0, 2)
        # Under the window a block's mean would leak into its neighbours in frequency.
        means = blocks.mean((1, 2))
        return rfft2((blocks - means[:, None, None]) * self.window_2d, norm="ortho"), means

    def backward(self, coefficients: Array, means: FloatArray, weights: FloatArray) -> FloatArray:
        n = len(self.window)
        blocks = irfft2(coefficients, s=(n, n), norm="ortho", overwrite_x=True)
        blocks += means[:, None, None] * self.window_2d
        blocks *= self.window_2d
        blocks *= weights[:, None, None]
        return _overlap_add(blocks.transpose(1, 0, 2), self.step_px)


def _shrink(
    picture: FloatArray, noise: NoiseModel, how: Shrinkage, transform: _Transform
) -> FloatArray:
    """Both passes over one picture."""
    picture = np.asarray(picture, np.float32)
    pilot = _one_pass(picture, None, noise, how, transform)
    if how.wiener_noise <= 0:
        return pilot
    return _one_pass(picture, pilot, noise, how, transform)


def _one_pass(
    picture: FloatArray,
    pilot: FloatArray | None,
    noise: NoiseModel,
    how: Shrinkage,
    transform: _Transform,
) -> FloatArray:
    """Hard thresholding, or with a `pilot` the empirical Wiener filter, in every block."""
    n, step = how.block_px, how.step_px
    padded, margin = _pad(picture, n, step), n - step
    guide = None if pilot is None else _pad(pilot, n, step)
    total, norm = np.zeros_like(padded), np.zeros_like(padded)
    window_power = transform.window**2
    for y in range(0, len(padded) - n + 1, step):
        strip = slice(y, y + n)
        coefficients, means = transform.forward(padded[strip])
        variance = noise.variance(means)[:, None, None]
        if guide is None:
            kept = _power(coefficients) > np.float32(how.threshold_sigma**2) * variance
            gain = kept.astype(np.float32)
        else:
            gain = _power(transform.forward(guide[strip])[0])
            gain /= gain + np.float32(how.wiener_noise) * variance + np.float32(1e-30)
        weights = 1 / (1 + np.einsum("mij,mij->m", gain, gain))
        coefficients *= gain
        total[strip] += transform.backward(coefficients, means, weights)
        along_x = _overlap_add((weights[:, None] * window_power)[None], step)
        norm[strip] += window_power[:, None] * along_x
    total /= norm
    height, width = picture.shape
    return total[margin : margin + height, margin : margin + width]


def _power(coefficients: Array) -> FloatArray:
    """Squared magnitude of real or complex coefficients."""
    if np.iscomplexobj(coefficients):
        squared: FloatArray = coefficients.real**2 + coefficients.imag**2
        return squared
    return coefficients * coefficients


def _pad(picture: FloatArray, block_px: int, step_px: int) -> FloatArray:
    """The picture mirrored at its borders, so that each pixel lies in equally many blocks."""
    margin = block_px - step_px
    after = [margin + -(size + margin) % step_px for size in picture.shape]
    return np.pad(picture, [(margin, extra) for extra in after], mode="symmetric")


def _blocks(strip: FloatArray, step_px: int) -> FloatArray:
    """View (n, m, n) of the m square blocks, `step_px` apart, of a strip (n, width)."""
    windows = np.lib.stride_tricks.sliding_window_view(strip, len(strip), axis=1)
    return windows[:, ::step_px]


def _overlap_add(blocks: FloatArray, step_px: int) -> FloatArray:
    """Sum (h, width) of blocks (h, m, n) laid `step_px` apart; `step_px` divides n."""
    height, count, n = blocks.shape
    layers = n // step_px
    cut = blocks.reshape(height, count, layers, step_px)
    out = np.zeros((height, count + layers - 1, step_px), np.float32)
    for layer in range(layers):
        out[:, layer : layer + count] += cut[:, :, layer]
    return out.reshape(height, -1)
