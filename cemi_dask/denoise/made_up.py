"""Structures that a denoised picture shows and the reference does not, or the other way."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FINE_PX, COARSE_PX = 0.8, 6.0  # Gaussians whose difference passes periods of about 3 to 24 px
WINDOW_PX = 4.0  # Gaussian over which energy is averaged
SIGMAS = 6.0
LEAST_PX = 16  # area of a place that counts


@dataclass(frozen=True)
class MadeUp:
    """Where a picture differs from the reference by more than the noise it was made from.

    made_up_pct, lost_pct: per cent of the known area that lies in places where the picture has
    more, or less, band-passed energy than the reference; made_up_count: number of the former.
    """

    made_up_pct: float
    made_up_count: int
    lost_pct: float


def find_made_up(picture: Float32, noisy: Float32, reference: Float32, valid: Mask) -> MadeUp:
    """Connected places where a picture (y, x) is further from the reference than noise explains.

    Differences to the reference are band-passed (Gaussians of 0.8 and 6 px) and their energy is
    averaged locally (Gaussian of 4 px). What noise explains is the same energy of the noisy
    picture itself: its mean plus six standard deviations, both robust (median, MAD) over the
    field. Leftover noise, which is a part of that, therefore never counts; a wave, a bridge
    between lamellae or a particle of the contrast of the specimen does. Weaker ones than the
    noise of the noisy picture are not told. Places below 16 px^2 are left out.
    """
    energies = {
        name: _energy(a, valid)
        for name, a in (
            ("error", picture - reference),
            ("noise", noisy - reference),
            ("picture", picture),
            ("reference", reference),
        )
    }
    noise = energies["noise"][valid]
    middle = float(np.median(noise))
    spread = 1.4826 * float(np.median(np.abs(noise - middle)))
    excess = valid & (energies["error"] > middle + SIGMAS * spread)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(excess.astype(np.uint8))
    gain = energies["picture"] - energies["reference"]
    more = np.bincount(labels.ravel(), np.where(excess, gain, 0).ravel(), count) > 0
    large = stats[:, cv2.CC_STAT_AREA] >= LEAST_PX
    large[0] = False  # the background
    area = stats[:, cv2.CC_STAT_AREA] * (100 / max(1, int(valid.sum())))
    return MadeUp(
        float(area[large & more].sum()), int((large & more).sum()), float(area[large & ~more].sum())
    )


def _energy(difference: Float32, valid: Mask) -> Float32:
    """Local mean square of a band-passed picture (y, x), grey levels^2."""
    inside = np.where(valid, difference, 0).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(inside, (0, 0), s) for s in (FINE_PX, COARSE_PX))
    square = np.where(valid, (fine - coarse) ** 2, 0)
    return np.asarray(cv2.GaussianBlur(square, (0, 0), WINDOW_PX), np.float32)
