"""First guess of how two pictures of one field lie: blocks are found again, and must agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BLOCK_PX = 128
SMOOTH_PX = 0.8  # whitening raises the noise of frequencies that carry no signal
AGREE_PX = 4.0  # drift makes places differ from the straight map
MAX_ROTATION_DEG, MAX_SCALE = 2.0, 0.03


@dataclass(frozen=True)
class Matches:
    """Blocks of the LD picture found in the HD picture.

    `places` (n, 2): block centres (y, x) in the LD picture, px; `shifts` (n, 2): displacement
    (dy, dx) to the HD picture, px; `agree` (n,): whether a block fits the common map.
    """

    places: Float64
    shifts: Float64
    agree: npt.NDArray[np.bool_]


def match_blocks(ld: Float32, hd: Float32, max_shift_px: int) -> Matches:
    """Displacements of the LD picture's blocks, and which of them fit one similarity.

    Each block of 128 px (in small pictures half their shorter side) is sought in the HD picture
    within `max_shift_px` by phase correlation (Kuglin and Hines 1975). Every two blocks give a
    rotation, scale and shift; the one that most blocks agree with to 4 px is taken (consensus
    as in Fischler and Bolles 1981, but all pairs are tried).
    """
    side = min(BLOCK_PX, min(ld.shape) // 2)
    tops, lefts = (_starts(size, side) for size in ld.shape)
    places, shifts = [], []
    for top in tops:
        for left in lefts:
            places.append((top + (side - 1) / 2, left + (side - 1) / 2))
            window = _window(hd, (top - max_shift_px, left - max_shift_px), side + 2 * max_shift_px)
            shifts.append(_find(ld[top : top + side, left : left + side], window, max_shift_px))
    where, found = np.array(places), np.array(shifts)
    return Matches(where, found, _agreeing(where, found))


def _starts(size: int, side: int) -> list[int]:
    """First pixels of at least three blocks that cover a side evenly."""
    return [round(p) for p in np.linspace(0, size - side, max(3, size // side))]


def _window(picture: Float32, corner: tuple[int, int], side: int) -> Float32:
    """A square part of a picture; what lies outside it is its mean."""
    part = np.full((side, side), picture.mean(dtype=np.float64), np.float32)
    (y, x), (h, w) = corner, picture.shape
    y0, y1, x0, x1 = max(0, y), min(h, y + side), max(0, x), min(w, x + side)
    if y0 < y1 and x0 < x1:
        part[y0 - y : y1 - y, x0 - x : x1 - x] = picture[y0:y1, x0:x1]
    return part


def _find(block: Float32, window: Float32, reach: int) -> tuple[float, float]:
    """Displacement (dy, dx) of a block within its window, whole px from -reach to reach."""
    size = scipy.fft.next_fast_len(window.shape[0], real=True)
    taper = np.hanning(block.shape[0] + 2)[1:-1].astype(np.float32)
    tapered = (block - block.mean()) * taper[:, None] * taper
    surface = whitened_correlation(tapered, window - window.mean(), (size, size))
    surface = surface[: 2 * reach + 1, : 2 * reach + 1]
    dy, dx = divmod(int(surface.argmax()), surface.shape[1])
    return dy - reach, dx - reach


def whitened_correlation(small: Float32, large: Float32, size: tuple[int, int]) -> Float32:
    """Smoothed phase correlation of the last two axes; its maximum is where `small` lies."""
    cross = scipy.fft.rfft2(large, size) * np.conj(scipy.fft.rfft2(small, size))
    cross /= np.maximum(np.abs(cross), 1e-6 * np.abs(cross).max(initial=1e-20))
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    cross *= np.exp(-2 * (np.pi * SMOOTH_PX) ** 2 * (fy**2 + fx**2)).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(cross, size), np.float32)


def _agreeing(places: Float64, shifts: Float64) -> npt.NDArray[np.bool_]:
    """Which displacements one rotation, scale and shift explains; the largest such set."""
    z = places[:, 1] + 1j * places[:, 0]
    target = z + shifts[:, 1] + 1j * shifts[:, 0]
    i, j = np.triu_indices(len(z), 1)
    far = np.abs(z[i] - z[j]) > np.ptp(z.real) / 3
    i, j = i[far], j[far]
    if not len(i):
        return np.zeros(len(z), bool)
    turn = (target[j] - target[i]) / (z[j] - z[i])
    likely = (np.abs(np.degrees(np.angle(turn))) <= MAX_ROTATION_DEG) & (
        np.abs(np.abs(turn) - 1) <= MAX_SCALE
    )
    turn, i = turn[likely], i[likely]
    if not len(i):
        return np.zeros(len(z), bool)
    misfit = np.abs(turn[:, None] * (z[None, :] - z[i, None]) + target[i, None] - target[None, :])
    close = misfit <= AGREE_PX
    # Among equally large sets the one that fits better.
    best = np.argmax(close.sum(1) - np.where(close, misfit, 0).sum(1) / (AGREE_PX * len(z) + 1))
    return np.asarray(close[best])
