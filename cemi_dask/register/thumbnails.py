"""Which frames may overlap, and about where, from small pictures of them: the coarse kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from cemi_dask.register.correlate import find_peaks
from cemi_dask.register.prepare import Image

_HIGHPASS = 0.2  # of a thumbnail's height: the box over which shading is averaged away
_SMOOTH_PX = 0.75  # Gaussian that keeps a shift of half a thumbnail pixel from hiding a match
_WHITENING = 0.8
_BLUR = 0.03  # of the spectrum: the scale on which its modulus is taken for whitening
_BATCH = 32  # pairs transformed together: their surfaces stay in the processor's cache
_RIVAL = 0.75  # of the best peak: what a pair's other peaks need to be reported
_RADIUS_PX = 3  # of a peak: nothing else is sought that near
_STILL_PX = 2  # displacements up to here are left out: dirt on the detector does not move
_LEAST_SIDE_PX = 6  # of an overlap, in thumbnail pixels


@dataclass(frozen=True)
class Candidate:
    """Two frames that may overlap: place of the second in the first's list, displacement
    of frame `j` against frame `i` in px of whole frames, and significance (best first)."""

    i: int
    j: int
    dx_px: tuple[float, ...]
    dy_px: tuple[float, ...]
    significance: tuple[float, ...]


def reduction(shape: tuple[int, int], width_px: int) -> int:
    """The factor by which frames of `shape` are averaged to be about `width_px` wide."""
    return max(1, round(shape[1] / width_px))


def thumbnail(picture: npt.NDArray[Any], factor: int) -> Image:
    """The picture (y, x) averaged over factor x factor px, without shading, whitened.

    Whitening divides the spectrum by its own smoothed modulus (to the power 0.8): lamellae
    of one period and the slow contrast of phases would else outweigh all that tells places
    apart. A Gaussian of 0.75 px ends it, so that thumbnails sampled half a pixel apart still
    agree. A flat picture gives zeros.
    """
    h, w = picture.shape[0] // factor, picture.shape[1] // factor
    cut = picture[: h * factor, : w * factor].astype(np.float32)
    small = cv2.resize(cut, (w, h), interpolation=cv2.INTER_AREA)
    side = max(3, round(_HIGHPASS * h)) | 1
    small = small - cv2.blur(small, (side, side), borderType=cv2.BORDER_REFLECT)
    # Mirrored, the picture has no border that would leave a cross in its spectrum.
    pad_y, pad_x = h // 2, w // 2
    wide = cv2.copyMakeBorder(small, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_REFLECT)
    spectrum = scipy.fft.rfft2(wide, workers=1)
    modulus = np.abs(spectrum).astype(np.float32)
    sigma = (_BLUR * wide.shape[0], _BLUR * wide.shape[1])
    modulus = np.fft.ifftshift(
        cv2.GaussianBlur(np.fft.fftshift(modulus, axes=0), (0, 0), sigma[1], sigmaY=sigma[0]),
        axes=0,
    )
    top = float(modulus.max(initial=0.0))
    if top <= 1e-6:
        return np.zeros((h, w), np.float32)
    fy = np.fft.fftfreq(wide.shape[0])[:, None]
    fx = np.fft.rfftfreq(wide.shape[1])[None, :]
    low = np.exp(-2 * (np.pi * _SMOOTH_PX) ** 2 * (fy**2 + fx**2))
    spectrum *= low / np.maximum(modulus, 1e-4 * top) ** _WHITENING
    flat = scipy.fft.irfft2(spectrum, wide.shape, workers=1)
    flat = flat[pad_y : pad_y + h, pad_x : pad_x + w]
    flat = flat - flat.mean()
    return np.asarray(flat / max(float(flat.std()), 1e-12), np.float32)


@dataclass(frozen=True)
class Stack:
    """Thumbnails (n) of one shape made ready for matching.

    `spectra` (n, Y, X/2 + 1), zero-padded so that no two displacements fall together;
    `power` (n, Y * (X/2 + 1)), each summing to 1; `weight` (n, Y, X): the root of
    1 / energy inside the overlap, per displacement; 0 where the overlap is too small.
    """

    spectra: npt.NDArray[np.complex64]
    power: Image
    weight: Image


@dataclass(frozen=True)
class Lags:
    """The displacements of thumbnails of `shape` in the order of a transform of `size`.

    `wide_enough` (Y, X) is the root of the overlap's pixels, 0 where it is below the least
    and where nothing has moved: what is fixed on the screen agrees there in all pairs.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    wide_enough: Image

    @classmethod
    def of(cls, shape: tuple[int, int], *, min_overlap: float) -> Lags:
        """Lags for thumbnails (y, x) that share at least `min_overlap` of their area."""
        h, w = shape
        size = (
            scipy.fft.next_fast_len(2 * h - 1, True),
            scipy.fft.next_fast_len(2 * w - 1, True),
        )
        side_y = np.maximum(0, h - np.abs(_lags(size[0])))
        side_x = np.maximum(0, w - np.abs(_lags(size[1])))
        area = (side_y[:, None] * side_x[None, :]).astype(np.float32)
        area[side_y < min(_LEAST_SIDE_PX, h)] = 0
        area[:, side_x < min(_LEAST_SIDE_PX, w)] = 0
        area[area < min_overlap * h * w] = 0
        still_y, still_x = (np.abs(_lags(length)) <= _STILL_PX for length in size)
        area[np.ix_(still_y, still_x)] = 0
        return cls(shape, size, np.sqrt(area))

    def stack(self, thumbnails: Sequence[Image]) -> Stack:
        """Spectra, powers and weights of thumbnails."""
        pictures = np.stack(thumbnails)
        spectra = scipy.fft.rfft2(pictures, self.size, workers=1).astype(np.complex64)
        power = (spectra.real**2 + spectra.imag**2).reshape(len(pictures), -1)
        power /= np.maximum(power.sum(axis=1, keepdims=True), 1e-12)
        return Stack(spectra, power, np.stack([self._weight(p) for p in pictures]))

    def _weight(self, picture: Image) -> Image:
        """1 / root of the energy that a fixed picture has inside the overlap, (Y, X)."""
        h, w = self.shape
        total = np.zeros((h + 1, w + 1))
        np.cumsum(np.cumsum(picture.astype(np.float64) ** 2, axis=0), axis=1, out=total[1:, 1:])
        lag_y, lag_x = _lags(self.size[0]), _lags(self.size[1])
        y0, y1 = np.clip(lag_y, 0, h), np.clip(h + lag_y, 0, h)
        x0, x1 = np.clip(lag_x, 0, w), np.clip(w + lag_x, 0, w)
        energy = (
            total[np.ix_(y1, x1)]
            - total[np.ix_(y0, x1)]
            - total[np.ix_(y1, x0)]
            + total[np.ix_(y0, x0)]
        )
        # A part without texture agrees with everything and nothing.
        enough = (self.wide_enough > 0) & (energy > 1e-3 * self.wide_enough**2)
        return np.where(enough, 1 / np.sqrt(np.maximum(energy, 1e-9)), 0).astype(np.float32)


def _lags(length: int) -> npt.NDArray[np.int64]:
    """The displacement that each place of a transform of `length` stands for."""
    return np.rint(np.fft.fftfreq(length, 1 / length)).astype(np.int64)


def match_thumbnails(
    first: Stack,
    second: Stack,
    pairs: npt.NDArray[np.int64],
    lags: Lags,
    *,
    least: float,
    peaks: int,
) -> list[Candidate]:
    """Pairs (p, 2) of places in `first` and `second` that agree somewhere, with where.

    The normalised cross-correlation on the true overlap at every displacement, times the
    root of (overlap / correlation area): a significance in standard deviations of unrelated
    thumbnails (Bartlett 1935), so that narrow overlaps compete fairly with wide ones.
    Displacements are in thumbnail pixels, subpixel; best pairs' significance is >= `least`.
    """
    found = []
    size = first.power.shape[1]
    for start in range(0, len(pairs), _BATCH):
        part = pairs[start : start + _BATCH]
        a, b = part[:, 0], part[:, 1]
        cross = first.spectra[a] * second.spectra[b].conj()
        surfaces = scipy.fft.irfft2(cross, lags.size, workers=1, overwrite_x=True)
        area = size * np.einsum("pk,pk->p", first.power[a], second.power[b])
        for surface, i, j, extent in zip(surfaces, a, b, area, strict=True):
            surface *= first.weight[i]
            surface *= _turned(second.weight[j])
            surface *= lags.wide_enough
            surface /= np.float32(np.sqrt(max(1.0, float(extent))))
            if float(surface.max()) >= least:
                found.append(_candidate(surface, (int(i), int(j)), lags, peaks))
    return found


def _turned(weight: Image) -> Image:
    """The weight at opposite displacements: the moving picture's part of the overlap."""
    return np.roll(weight[::-1, ::-1], (1, 1), axis=(0, 1))


def _candidate(surface: Image, ids: tuple[int, int], lags: Lags, peaks: int) -> Candidate:
    centred = np.ascontiguousarray(np.fft.fftshift(surface))
    zero_y, zero_x = lags.size[0] // 2, lags.size[1] // 2
    best = find_peaks(centred, peaks, radius_px=_RADIUS_PX)
    kept = [p for p in best if p[2] >= _RIVAL * best[0][2]]
    return Candidate(
        *ids,
        tuple(x - zero_x for x, _, _ in kept),
        tuple(y - zero_y for _, y, _ in kept),
        tuple(height for _, _, height in kept),
    )
