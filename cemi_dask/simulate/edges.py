"""The profile across an edge: blurred by the microscope, or averaged over a square pixel."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cemi_dask.simulate.lattice import Float32


class Edge(Protocol):
    """Share of a region seen at a place `inside_px` from its edge (negative: outside).

    Farther than `reach_px` from the edge the share is 0 or 1.
    """

    @property
    def reach_px(self) -> float:
        """How far from the edge it still shows."""
        ...

    def __call__(
        self, inside_px: Float32, normal: tuple[Float32, Float32] | None = None
    ) -> Float32:
        """Values 0..1, float32; `normal` is the edge's unit normal (|y|, |x|), None: along x."""
        ...


class BlurredEdge:
    """Edge as seen through a Gaussian point-spread function of `sigma_px`.

    The normal distribution function comes from its tanh approximation (Page 1977; error below
    3e-4), which is smooth, so that the picture stays an analytic function of position.
    """

    def __init__(self, sigma_px: float) -> None:
        self.sigma_px = sigma_px
        self.reach_px = 4.0 * sigma_px
        self._scale = np.float32(1.0 / sigma_px)

    def __call__(
        self, inside_px: Float32, normal: tuple[Float32, Float32] | None = None
    ) -> Float32:
        """Share 0..1, float32; the normal does not matter."""
        x = np.clip(inside_px * self._scale, -6, 6)
        x *= np.float32(0.7978845608) * (1 + np.float32(0.044715) * x * x)
        np.tanh(x, out=x)
        x *= np.float32(0.5)
        x += np.float32(0.5)
        return x


class PixelEdge:
    """Exact area share of a unit square pixel inside a straight edge."""

    reach_px = 1.0

    def __call__(
        self, inside_px: Float32, normal: tuple[Float32, Float32] | None = None
    ) -> Float32:
        """Share 0..1, float32, of the pixel inside an edge with this normal."""
        if normal is None:
            return np.clip(inside_px + np.float32(0.5), 0, 1)
        # A square projected on the normal is a trapezoid; this is its cumulative area.
        low, high = np.minimum(*normal), np.maximum(*normal)
        away = np.abs(inside_px)
        ramp = np.float32(0.5) + away / high
        rest = np.maximum((low + high) / 2 - away, 0)
        bend = 1 - rest**2 / np.maximum(2 * low * high, np.float32(1e-6))
        share = np.where(away <= (high - low) / 2, ramp, bend)
        return np.asarray(np.where(inside_px < 0, 1 - share, share), np.float32)


def soft_min(a: Float32, b: Float32, *, width_px: float) -> Float32:
    """The smaller of two distances, rounded where they cross within about `width_px`."""
    return np.asarray((a + b - np.sqrt((a - b) ** 2 + np.float32(width_px**2))) / 2, np.float32)


def soft_max(a: Float32, b: Float32, *, width_px: float) -> Float32:
    """The larger of two distances, rounded where they cross within about `width_px`."""
    return -soft_min(-a, -b, width_px=width_px)
