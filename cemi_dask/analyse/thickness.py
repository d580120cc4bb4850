"""How thick each phase is in a period of lamellae, from the mean profile or from grey levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NAN = float("nan")
DUTIES = np.linspace(0.06, 0.94, 177)
BLURS = np.linspace(0.0, 0.35, 71)  # sigma over the period
LEAST_HARMONICS = 3  # contrast, blur and thickness are three unknowns


def dark_share(
    harmonics: Floats, variance: Floats, *, blur: float | None = None
) -> tuple[float, float]:
    """(share of the dark phase in a period, its standard error) from cosine amplitudes.

    A blurred two-level wave, bright around the phase 0, has the amplitudes
    ``2 C / (pi k) sin(pi k b) exp(-2 (pi k s)^2)`` with the contrast C, the bright share b and
    the blur s (sigma over the period, pixels included). C is solved for, b and s are searched,
    and the error is that of the likelihood over both; `blur` states s where it is known. NaN with
    fewer than three harmonics (two, where s is known): the unknowns cannot be told apart then.
    """
    if len(harmonics) < LEAST_HARMONICS - (blur is not None):
        return NAN, NAN
    blurs = BLURS if blur is None else np.array([blur])
    k = np.arange(1, len(harmonics) + 1)
    shape = np.sin(np.pi * k * DUTIES[:, None, None]) / k
    shape = shape * np.exp(-2 * (np.pi * k * blurs[:, None]) ** 2)
    weight = 1.0 / variance
    along = np.sum(shape * harmonics * weight, axis=-1)
    length = np.sum(shape * shape * weight, axis=-1)
    chi = np.sum(harmonics**2 * weight) - np.where(along > 0, along**2 / length, 0.0)
    likelihood = np.exp(-0.5 * (chi - chi.min()))
    likelihood /= likelihood.sum()
    by_duty = likelihood.sum(axis=1)
    bright = float(np.sum(by_duty * DUTIES))
    spread = float(np.sqrt(np.sum(by_duty * (DUTIES - bright) ** 2)))
    return 1.0 - bright, max(spread, float(DUTIES[1] - DUTIES[0]) / 2)


def combined(
    profile: tuple[Floats, Floats], levels: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """(share, standard error) of two estimates each with an error, NaN where neither is known."""
    weights = [
        np.where(np.isfinite(v) & np.isfinite(e), 1.0 / np.square(e), 0.0)
        for v, e in (profile, levels)
    ]
    total = weights[0] + weights[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (
            weights[0] * np.nan_to_num(profile[0]) + weights[1] * np.nan_to_num(levels[0])
        ) / total
        return np.where(total > 0, mean, NAN), np.where(total > 0, 1 / np.sqrt(total), NAN)
