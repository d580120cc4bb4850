"""Grey levels of two phases from places where the picture is flat, away from phase borders.

Lamellae of two or three pixels are blurred throughout: the histogram's dark mode lies up to
a third of the contrast too high. What is flat over a few pixels shows the phase's own
level. Such places are rare, so every cell gives what it has and neighbours pool it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

NAN = float("nan")
Picture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """What counts as a plateau: even over a window of `size_px`.

    `even`: all but flat, whatever the noise; else as even as noise and blur let it be.
    `least_share`: the share of the area that they must have to be believed. Thin lamellae
    alone still show some small ones, where they swell or noise makes them look even; their
    levels lie between the phases'.
    """

    size_px: int
    even: bool
    least_share: float

    @property
    def name(self) -> str:
        """Its name in the table of cells."""
        return f"{'even' if self.even else ''}{self.size_px}"


# In order of preference. Even places show the levels to 0.3 % of the contrast, others to 2 %, but
# noise leaves none, and denoising very few.
KINDS = (Kind(5, True, 2.5e-4), Kind(3, True, 2.5e-4), Kind(5, False, 0.0), Kind(3, False, 2.5e-4))
MIN_PX = 1000
FLAT_PX = 9  # what is dark and flat over this many pixels is no fine eutectic
RIM_PX = 5  # around it, where the window no longer fits
# Fourth differences along both axes: passes what is finer than lamellae, that is, noise.
FOURTH_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
# How uneven a dark patch may be besides noise: lamellae, however blurred, are above 0.25, what
# denoising or shading leaves in an empty patch is below 0.1.
PATCH_SHARE = 0.15
# How much unevenness a plateau may have besides noise. Less finds only the over- and
# undershoot of denoised lamellae; with this much, both levels come out a little too near each
# other, by shares that cancel in the fraction.
SHARE_OF_CONTRAST = 0.06
EVEN_SHARE = 0.015  # the same of an even plateau, noise included
# A window of a plateau whose noise happens to be small is taken; one of blurred lamellae
# whose signal the noise happens to hide is much rarer.
NOISE_FACTOR = 0.7
PATCH_NOISE = 1.1
OUTER_SHARE = 0.2  # of the contrast: how far from the extremes a plateau's level may be


@dataclass(frozen=True)
class Plateau:
    """Pixels of one phase whose neighbourhood is flat: how many, and their median grey level.

    `local`: how much brighter the picture is there than in the cell on average (`Tone`).
    """

    count: int
    level: float
    local: float = 0.0

    def above(self, base: float) -> Plateau:
        """The same with its level raised by `base`."""
        return replace(self, level=self.level + base)


@dataclass(frozen=True)
class Plateaus:
    """What a cell knows about its phases' levels, in grey levels.

    `dark`, `bright`: one `Plateau` per kind in `KINDS`; `noise` the standard deviation
    of the noise; `mean`, `count` of the valid pixels outside dark flat patches; `flat` the
    dark flat patches themselves, `flat_mean`, `flat_count` with a rim around them, `patch`
    (y, x) True there. A cell without contrast is one patch, dark or bright, of no plateau.
    """

    dark: tuple[Plateau, ...]
    bright: tuple[Plateau, ...]
    noise: float
    mean: float
    count: int
    flat: Plateau
    flat_mean: float
    flat_count: int
    patch: npt.NDArray[np.bool_]


def find_plateaus(
    grey: npt.NDArray[Any], valid: npt.NDArray[np.bool_], local: Picture
) -> Plateaus | None:
    """The plateaus of a cell (y, x); None where it holds too little data.

    `local` (y, x): how much brighter a place is than the cell on average, grey levels.
    """
    inside = cv2.erode(valid.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    if np.count_nonzero(inside) < MIN_PX:
        return None
    # Levels are kept relative to the median, so that squares lose nothing in float32.
    base = float(np.median(grey[inside]))
    picture = np.where(valid, grey - base, 0).astype(np.float32)
    noise = noise_sigma(picture, inside)
    smooth, _ = _local_moments(picture, 3)
    found = _split(smooth, inside, noise)
    if found is None:
        return _without_contrast(picture, valid, base=base, noise=noise)
    core = _dark_patches(picture, inside, noise=noise, split=found)
    # The window's half width back to the patch's border, and a rim beyond it.
    reach = np.ones((FLAT_PX + 2 * RIM_PX, FLAT_PX + 2 * RIM_PX), np.uint8)
    patch = valid & (cv2.dilate(core.astype(np.uint8), reach) > 0)
    # Empty patches widen the range of grey levels: phases are told apart without them.
    split = _split(smooth, inside & ~patch, noise) or found
    pairs = [
        _plateaus(picture, inside & ~patch, local, kind=kind, noise=noise, split=split)
        for kind in KINDS
    ]
    mean_rest, count_rest = _mean(picture, valid & ~patch)
    mean_patch, count_patch = _mean(picture, patch)
    return Plateaus(
        dark=tuple(dark.above(base) for dark, _ in pairs),
        bright=tuple(bright.above(base) for _, bright in pairs),
        noise=noise,
        mean=base + mean_rest,
        count=count_rest,
        flat=_summary(picture[core], local[core]).above(base),
        flat_mean=base + mean_patch,
        flat_count=count_patch,
        patch=patch,
    )


def _without_contrast(
    picture: Picture, valid: npt.NDArray[np.bool_], *, base: float, noise: float
) -> Plateaus:
    mean, count = _mean(picture, valid)
    none = (Plateau(0, NAN),) * len(KINDS)
    return Plateaus(
        dark=none,
        bright=none,
        noise=noise,
        mean=NAN,
        count=0,
        flat=Plateau(0, base + mean),
        flat_mean=base + mean,
        flat_count=count,
        patch=valid,
    )


def _split(
    smooth: Picture, where: npt.NDArray[np.bool_], noise: float
) -> tuple[float, float] | None:
    """(lowest, highest) grey level of a smoothed picture; None where noise explains them."""
    if np.count_nonzero(where) < MIN_PX:
        return None
    low, high = np.percentile(smooth[where], (1, 99))
    # Noise alone spans 4.65 standard deviations of the means, that is 1.55 of its own.
    return (float(low), float(high)) if high - low > 2.0 * noise else None


def _dark_patches(
    picture: Picture, inside: npt.NDArray[np.bool_], *, noise: float, split: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    """Centres of windows that are dark and, but for noise, far more even than lamellae."""
    low, high = split
    mean, variance = _local_moments(picture, FLAT_PX)
    even = (PATCH_NOISE * noise) ** 2 + (PATCH_SHARE * (high - low)) ** 2
    return inside & (variance < np.float32(even)) & (mean < np.float32((low + high) / 2))


def _mean(picture: Picture, where: npt.NDArray[np.bool_]) -> tuple[float, int]:
    count = int(np.count_nonzero(where))
    return (float(picture[where].mean(dtype=np.float64)) if count else NAN), count


def noise_sigma(picture: Picture, inside: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of white noise in a picture (y, x), from its finest detail.

    The median of absolute fourth differences along both axes (after Immerkaer 1996, whose
    second differences still see lamellae of five pixels that run diagonally).
    """
    rough = cv2.sepFilter2D(picture, -1, FOURTH_DIFFERENCE, FOURTH_DIFFERENCE)
    gain = float(np.sum(FOURTH_DIFFERENCE**2))
    return float(1.4826 * np.median(np.abs(rough[inside])) / gain)


def _local_moments(picture: Picture, size: int) -> tuple[Picture, Picture]:
    """Mean and variance in a square window around each pixel."""
    around = (size, size)
    mean = cv2.boxFilter(picture, cv2.CV_32F, around)
    square = cv2.boxFilter(picture * picture, cv2.CV_32F, around)
    return np.asarray(mean), np.asarray(square - mean * mean)


def _limit(noise: float, kind: Kind, contrast: float) -> np.float32:
    """Largest variance in a window of a plateau: noise and a little unevenness."""
    if kind.even:
        return np.float32((EVEN_SHARE * contrast) ** 2)
    from_noise = (NOISE_FACTOR * noise) ** 2 * (1 - 1 / kind.size_px**2)
    return np.float32(from_noise + (SHARE_OF_CONTRAST * contrast) ** 2)


def _plateaus(
    picture: Picture,
    allowed: npt.NDArray[np.bool_],
    local: Picture,
    *,
    kind: Kind,
    noise: float,
    split: tuple[float, float],
) -> tuple[Plateau, Plateau]:
    """(dark, bright) plateaus of one kind."""
    low, high = split
    mean, variance = _local_moments(picture, kind.size_px)
    flat = allowed & (variance < _limit(noise, kind, high - low))
    edge = OUTER_SHARE * (high - low)
    dark, bright = flat & (mean < low + edge), flat & (mean > high - edge)
    return _summary(mean[dark], local[dark]), _summary(mean[bright], local[bright])


def _summary(levels: Picture, local: Picture) -> Plateau:
    if not len(levels):
        return Plateau(0, NAN)
    return Plateau(len(levels), float(np.median(levels)), float(local.mean(dtype=np.float64)))
