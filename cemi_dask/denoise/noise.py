"""How noisy a frame is, from the frame alone, in grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from cemi_dask.denoise.method import FloatFrame, Frame, check_frame
from cemi_dask.errors import InputError

# Blocks of 16 px and their DCT rows and columns 11..15: waves of at least 0.49 cycles per px,
# so lamellae down to a period of 2.1 px leave no trace there.
BLOCK_PX = 16
FIRST_HIGH = 11
BLOCKS_PER_BIN = 64  # x 25 coefficients: a bin's standard deviation is good to about 2 %
MAX_BINS = 12
MAD_TO_SIGMA = 1.4826  # of a normal distribution

# A fit of variance on grey level is not followed further than this from the mean variance.
MIN_VARIANCE, MAX_VARIANCE = 0.25, 4.0


@dataclass(frozen=True)
class NoiseModel:
    """Noise variance as a function of grey level, ``variance = slope * grey + offset``.

    slope in grey levels, offset in grey levels^2; the variance is kept within a quarter and
    four times `mean_variance`, the variance of the frame as a whole.
    """

    slope: float
    offset: float
    mean_variance: float

    @classmethod
    def constant(cls, sigma: float) -> NoiseModel:
        """The same standard deviation `sigma` (grey levels) at every grey level."""
        return cls(0.0, sigma * sigma, sigma * sigma)

    def scaled(self, gain: float, offset: float) -> NoiseModel:
        """The noise of ``gain * frame + offset``."""
        slope, square = gain * self.slope, gain * gain
        return NoiseModel(slope, square * self.offset - slope * offset, square * self.mean_variance)

    def variance(self, grey: FloatFrame) -> FloatFrame:
        """Noise variance (grey levels^2, float32) at each of the levels `grey`."""
        fitted = np.float32(self.slope) * grey + np.float32(self.offset)
        low, high = MIN_VARIANCE * self.mean_variance, MAX_VARIANCE * self.mean_variance
        return np.clip(fitted, np.float32(low), np.float32(high))


def estimate_noise(frame: Frame) -> float:
    """Standard deviation of the noise of a frame (y, x), in grey levels; 0 where it has none.

    Median absolute value of the highest-frequency block DCT coefficients (Donoho and
    Johnstone 1994, with a DCT in place of the wavelet): structure of a period above 2.1 px
    does not reach them. Noise is taken to be white; where neighbouring pixels share noise,
    the value is too small. Raises InputError for a frame below 16 x 16 px.
    """
    means, high = _blocks(frame)
    return _sigma(high[_textured(means, high)])


def estimate_noise_model(frame: Frame) -> NoiseModel:
    """Noise variance against grey level of a frame (y, x): the Poisson-Gaussian model.

    Block means are split into bins of equal population, each bin's variance comes as in
    `estimate_noise`, and a line is fitted (Foi et al. 2008, with block DCT). A slope below
    zero, which no detector has, is read as zero. Raises InputError below 16 x 16 px.
    """
    means, high = _blocks(frame)
    known = _textured(means, high)
    means, high = means[known], high[known]
    sigma = _sigma(high)
    bins = min(MAX_BINS, len(means) // BLOCKS_PER_BIN)
    if bins < 2:
        return NoiseModel.constant(sigma)
    parts = np.array_split(np.argsort(means, kind="stable"), bins)
    grey = np.array([means[part].mean() for part in parts], np.float64)
    variance = np.array([_sigma(high[part]) ** 2 for part in parts], np.float64)
    spread = grey - grey.mean()
    if not spread.any():
        return NoiseModel.constant(sigma)
    slope = max(0.0, float(spread @ (variance - variance.mean()) / (spread @ spread)))
    offset = float(variance.mean() - slope * grey.mean())
    return NoiseModel(slope, offset, sigma * sigma)


def _blocks(frame: Frame) -> tuple[FloatFrame, FloatFrame]:
    """Means (n,) and high-frequency DCT coefficients (n, 25) of a frame's 16 px blocks."""
    check_frame(frame)
    rows, cols = frame.shape[0] // BLOCK_PX, frame.shape[1] // BLOCK_PX
    if rows == 0 or cols == 0:
        raise InputError(
            f"Noise cannot be estimated from a frame of {frame.shape[0]} x {frame.shape[1]} px "
            f"(at least {BLOCK_PX} x {BLOCK_PX}). Give sigma instead."
        )
    whole = frame[: rows * BLOCK_PX, : cols * BLOCK_PX].astype(np.float32)
    blocks = whole.reshape(rows, BLOCK_PX, cols, BLOCK_PX).transpose(0, 2, 1, 3)
    basis = dct(np.eye(BLOCK_PX), axis=0, norm="ortho").astype(np.float32)[FIRST_HIGH:]
    high = basis @ blocks @ basis.T
    n = rows * cols
    return blocks.mean((2, 3)).reshape(n), high.reshape(n, -1)


def _textured(means: FloatFrame, high: FloatFrame) -> npt.NDArray[np.bool_]:
    """True for blocks that are not one single grey level (fill, clipped, beam off)."""
    alive: npt.NDArray[np.bool_] = np.abs(high).max(1) > 1e-5 * (np.abs(means) + 1e-20)
    return alive if alive.any() else np.ones_like(alive)


def _sigma(coefficients: FloatFrame) -> float:
    """Robust standard deviation of zero-mean coefficients."""
    return MAD_TO_SIGMA * float(np.median(np.abs(coefficients)))
