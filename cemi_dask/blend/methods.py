"""`BLENDERS`: how overlapping frames become one picture, by name."""

from __future__ import annotations

from cemi_dask.blend.means import Average, Feather, Linear
from cemi_dask.blend.method import Blender
from cemi_dask.blend.multiband import Multiband
from cemi_dask.blend.seam import Seam
from cemi_dask.blend.single import First, Nearest
from cemi_dask.methods import Registry

BLENDERS: Registry[Blender] = Registry(
    "blender",
    Blender,  # type: ignore[type-abstract]  # the registry only asks issubclass
    (Feather, Linear, Seam, Multiband, Average, Nearest, First),
)
