"""Frames and their layout to one mosaic: subpixel shift, weights, cuts, the render kernel."""

from cemi_dask.blend.graph import blend
from cemi_dask.blend.means import Average, Feather, Linear
from cemi_dask.blend.method import Blender, ShiftedFrame
from cemi_dask.blend.methods import BLENDERS
from cemi_dask.blend.multiband import Multiband
from cemi_dask.blend.render import render
from cemi_dask.blend.seam import Seam
from cemi_dask.blend.single import First, Nearest

__all__ = [
    "BLENDERS",
    "Average",
    "Blender",
    "Feather",
    "First",
    "Linear",
    "Multiband",
    "Nearest",
    "Seam",
    "ShiftedFrame",
    "blend",
    "render",
]
