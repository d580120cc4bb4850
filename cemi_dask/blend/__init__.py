"""Frames and their layout to one mosaic: subpixel shift, weights, the render kernel."""

from cemi_dask.blend.graph import blend
from cemi_dask.blend.methods import (
    BLENDERS,
    Average,
    Blender,
    Feather,
    First,
    Linear,
    Nearest,
    ShiftedFrame,
)
from cemi_dask.blend.render import render

__all__ = [
    "BLENDERS",
    "Average",
    "Blender",
    "Feather",
    "First",
    "Linear",
    "Nearest",
    "ShiftedFrame",
    "blend",
    "render",
]
