"""Noisy pictures from clean ones: what a fast scan does to a picture, as seeded functions.

`MicroscopeNoise` is the noise of the reference microscope, physically exact. `PaperDegradation`
is the second-order degradation by which the paper made its synthetic training data. Both take
a clean picture (y, x), float32 grey levels 0..1, and give a noisy one of the same shape,
rounded to 256 levels; all that is random comes from the generator that they are handed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Float32 = npt.NDArray[np.float32]
Rng = np.random.Generator
Range = tuple[float, float]
MID_LEVEL = 128.0  # where a noise sigma is stated
KERNEL_PX = 21
NO_BLUR_PX = 0.05  # a narrower Gaussian changes nothing
MIN_SIDE_PX = 4


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScanArtefacts(_Options):
    """What a scanned, recorded picture shows beside noise; each is off where its range is zero.

    Ranges are uniform, drawn for each picture.
    """

    line_jitter_px: Range = Field(
        default=(0.0, 0.0), description="Shift of each line along x (standard deviation)."
    )
    gain_drift: Range = Field(
        default=(0.0, 0.0),
        description="Relative change of brightness from top to bottom (at most).",
    )
    row_sigma: Range = Field(
        default=(0.0, 0.0), description="Noise that all pixels of a line share, of 255."
    )
    jpeg_quality: tuple[int, int] | None = Field(
        default=None, description="Quality 1..100 of a JPEG round trip, as of a codec; null: none."
    )

    def before_noise(self, clean: Float32, rng: Rng) -> Float32:
        """The picture as scanned: lines that jitter, a gain that drifts."""
        picture = clean
        if self.line_jitter_px[1]:
            sigma = rng.uniform(*self.line_jitter_px)
            picture = shift_lines(picture, sigma * rng.standard_normal(len(picture)))
        if self.gain_drift[1]:
            change = rng.uniform(*self.gain_drift)
            start, end = change * rng.uniform(-1, 1), change * rng.uniform(-1, 1)
            picture = picture * (
                1 + np.linspace(start, end, len(picture), dtype=np.float32)[:, None]
            )
        return picture

    def after_noise(self, noisy: Float32, rng: Rng) -> Float32:
        """The picture as recorded: noise of whole lines, a codec; rounded to 256 levels."""
        picture = noisy
        if self.row_sigma[1]:
            sigma = np.float32(rng.uniform(*self.row_sigma) / 255)
            picture = picture + sigma * rng.standard_normal((len(picture), 1), np.float32)
        grey = np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)
        if self.jpeg_quality is not None:
            low, high = self.jpeg_quality
            quality = int(rng.integers(low, high + 1))
            packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            grey = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)
        return grey.astype(np.float32) / np.float32(255)


class MicroscopeNoise(_Options):
    """Poisson (electron counts) plus Gaussian (read-out) noise, clipped and rounded to 8 bit.

    The same law as the simulated microscope's: the variance is sigma^2 at mid grey, of which
    a share grows in proportion to the grey level. Ranges are uniform, drawn for each picture.
    """

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
    line_correlation: Range = Field(
        default=(0.0, 0.0),
        description="Correlation of the noise of neighbouring pixels of a line, as detectors and "
        "amplifiers of fast scans leave it (0.2 to 0.3 in real ones); below 0 counts as none.",
    )
    scan: ScanArtefacts = ScanArtefacts()

    def __call__(self, clean: Float32, rng: Rng) -> Float32:
        """The noisy picture."""
        sigma, share = rng.uniform(*self.sigma), rng.uniform(*self.poisson_share)
        seen = self.scan.before_noise(_blurred(clean, rng.uniform(*self.psf_sigma_px)), rng)
        light = 255 * np.maximum(seen, 0)
        noise = np.float32(sigma * np.sqrt(1 - share)) * rng.standard_normal(
            clean.shape, np.float32
        )
        counted = share * sigma**2
        if counted > 0:
            grey_per_electron = np.float32(counted / MID_LEVEL)
            counts = rng.poisson(light / grey_per_electron).astype(np.float32)
            noise += counts * grey_per_electron - light
        correlation = rng.uniform(*self.line_correlation)
        noisy = light + (along_lines(noise, correlation) if correlation > 0 else noise)
        return self.scan.after_noise(noisy / np.float32(255), rng)


def along_lines(noise: Float32, correlation: float) -> Float32:
    """White noise (y, x) made into noise whose neighbours along a line correlate so.

    A first-order autoregression, the response of a detector that decays exponentially; the
    variance stays.
    """
    from scipy.signal import lfilter  # takes half a second, which only training is to spend

    gain = np.sqrt(1 - correlation**2)
    return np.asarray(lfilter([gain], [1.0, -correlation], noise, axis=1), np.float32)


class DegradationRound(_Options):
    """One round of blur, change of size and noise; a chance of 0 leaves a step out."""

    blur_chance: float = Field(default=1.0, ge=0, le=1, description="Chance of a blur.")
    blur_sigma_px: Range = Field(default=(0.2, 3.0), description="Gaussian of 21 x 21 px.")
    isotropic_chance: float = Field(
        default=0.5, ge=0, le=1, description="Chance that it is the same in all directions."
    )
    resize: Range = Field(default=(0.15, 1.5), description="Factor of the size.")
    smaller_chance: float = Field(
        default=0.7, ge=0, le=1, description="Chance of a factor below 1."
    )
    larger_chance: float = Field(default=0.2, ge=0, le=1, description="Chance of one above 1.")
    gaussian_chance: float = Field(
        default=0.5, ge=0, le=1, description="Chance of Gaussian noise, which has one sigma."
    )
    poisson_chance: float = Field(
        default=0.5, ge=0, le=1, description="Chance of Poisson noise; never both."
    )
    sigma: Range = Field(default=(1.0, 30.0), description="Of the Gaussian noise, of 255.")
    poisson_scale: Range = Field(
        default=(0.05, 3.0), description="Factor of the Poisson noise of 256 counts at white."
    )

    def __call__(self, picture: Float32, rng: Rng) -> Float32:
        """The picture blurred, changed in size, and noisy."""
        if rng.random() < self.blur_chance:
            picture = self._blur(picture, rng)
        return self._noise(self._resize(picture, rng), rng)

    def _blur(self, picture: Float32, rng: Rng) -> Float32:
        wide, narrow = rng.uniform(*self.blur_sigma_px, 2)
        angle = rng.uniform(0, np.pi)
        if rng.random() < self.isotropic_chance:
            narrow = wide
        kernel = gaussian_kernel(wide, narrow, angle)
        return np.asarray(cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT_101))

    def _resize(self, picture: Float32, rng: Rng) -> Float32:
        low, high = self.resize
        way, below, above = rng.random(), rng.uniform(low, 1), rng.uniform(1, max(1, high))
        if way < self.smaller_chance:
            factor = below
        elif way < self.smaller_chance + self.larger_chance:
            factor = above
        else:
            return picture
        height, width = (max(MIN_SIDE_PX, round(factor * side)) for side in picture.shape)
        return resized(picture, (height, width), rng)

    def _noise(self, picture: Float32, rng: Rng) -> Float32:
        kind = rng.random()
        if kind < self.gaussian_chance:
            sigma = np.float32(rng.uniform(*self.sigma) / 255)
            noise = sigma * rng.standard_normal(picture.shape, np.float32)
        elif kind < self.gaussian_chance + self.poisson_chance:
            scale = np.float32(rng.uniform(*self.poisson_scale))
            counts = rng.poisson(256 * np.clip(picture, 0, 1)).astype(np.float32)
            noise = scale * (counts / np.float32(256) - np.clip(picture, 0, 1))
        else:
            return picture
        return np.clip(picture + noise, 0, 1)


class SecondRound(DegradationRound):
    """The same once more, milder."""

    blur_chance: float = Field(default=0.8, ge=0, le=1, description="Chance of a blur.")
    blur_sigma_px: Range = Field(default=(0.2, 1.5), description="Gaussian of 21 x 21 px.")
    resize: Range = Field(default=(0.3, 1.2), description="Factor of the size.")
    smaller_chance: float = Field(
        default=0.4, ge=0, le=1, description="Chance of a factor below 1."
    )
    larger_chance: float = Field(default=0.3, ge=0, le=1, description="Chance of one above 1.")
    sigma: Range = Field(default=(1.0, 25.0), description="Of the Gaussian noise, of 255.")
    poisson_scale: Range = Field(
        default=(0.05, 2.5), description="Factor of the Poisson noise of 256 counts at white."
    )


class PaperDegradation(_Options):
    """Two rounds of blur, change of size and noise, then back to the size of the start.

    The second-order degradation of Real-ESRGAN (Wang et al. 2021) as Lang et al. use it, at
    scale 1, without sharpened targets. Ranges are uniform, drawn for each picture.
    """

    method: Literal["paper"] = "paper"
    first: DegradationRound = DegradationRound()
    second: SecondRound = SecondRound()
    scan: ScanArtefacts = ScanArtefacts()

    def __call__(self, clean: Float32, rng: Rng) -> Float32:
        """The degraded picture."""
        seen = self.scan.before_noise(clean, rng)
        noisy = self.second(self.first(seen, rng), rng)
        return self.scan.after_noise(resized(noisy, clean.shape, rng), rng)


Degradation = Annotated[PaperDegradation | MicroscopeNoise, Field(discriminator="method")]


def gaussian_kernel(wide_px: float, narrow_px: float, angle: float) -> Float32:
    """A Gaussian of 21 x 21 px of two standard deviations, the first along `angle`; sum 1."""
    reach = KERNEL_PX // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / wide_px) ** 2 + (across / narrow_px) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def resized(picture: Float32, shape: tuple[int, ...], rng: Rng) -> Float32:
    """`picture` at another size, by area, bilinear or bicubic interpolation at random."""
    way = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
    if picture.shape == shape:
        return picture
    sized = cv2.resize(picture, (shape[1], shape[0]), interpolation=way)
    return np.clip(np.asarray(sized, np.float32), 0, 1)


def shift_lines(picture: Float32, shifts_px: npt.NDArray[np.float64]) -> Float32:
    """Each line of `picture` moved along x by its own shift, with linear interpolation."""
    last = picture.shape[1] - 1
    x = np.clip(np.arange(last + 1) - shifts_px[:, None], 0, last)
    left = np.minimum(x.astype(np.intp), last - 1)
    share = (x - left).astype(np.float32)
    here = np.take_along_axis(picture, left, 1)
    return here + share * (np.take_along_axis(picture, left + 1, 1) - here)


def _blurred(picture: Float32, sigma_px: float) -> Float32:
    if sigma_px < NO_BLUR_PX:
        return picture
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.float32)
