"""Mosaics as layers of napari: a lazy pyramid of the picture, and one of each label.

napari finds `napari_reader` by the manifest ``cemi_dask/napari.yaml``; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cemi_dask.errors import StoreError
from cemi_dask.store.mosaic import Mosaic, open_mosaic

# (levels, keyword arguments, kind) as npe2 and `napari.layers.Layer.create` take it.
Layer = tuple[list[Any], dict[str, Any], str]
_LABEL_OPACITY = 0.35


def napari_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Layer]] | None:
    """`napari_layers` for the folder of a mosaic; None for what it cannot open."""
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    try:
        open_mosaic(path)
    except StoreError:
        return None
    return napari_layers


def napari_layers(path: str | Path | list[str]) -> list[Layer]:
    """The layers of the mosaic at `path`: its picture, then its labels, all lazy, in um.

    Each is a list of dask arrays (y, x), largest first, of which napari reads the parts that
    are on the screen. The picture is shown between the grey levels that the mosaic names. In
    px where the pixel size is unknown. StoreError for anything that is no 2-D OME-Zarr image.
    """
    mosaic = open_mosaic(path[0] if isinstance(path, list) else path)
    place: dict[str, Any] = {"multiscale": True}
    if mosaic.pixel_um:
        place |= {"scale": (mosaic.pixel_um, mosaic.pixel_um), "units": ("um", "um")}
    shown: dict[str, Any] = {"name": mosaic.path.name.partition(".")[0], "colormap": "gray"}
    if mosaic.window:
        shown["contrast_limits"] = mosaic.window
    layers: list[Layer] = [(list(mosaic.levels), {**place, **shown}, "image")]
    for name in mosaic.labels:
        told = {**place, "name": name, "opacity": _LABEL_OPACITY}
        layers.append((_label_levels(mosaic, name), told, "labels"))
    return layers


def _label_levels(mosaic: Mosaic, name: str) -> list[Any]:
    """As many levels of a label as it has: a run that was stopped leaves fewer."""
    levels: list[Any] = []
    while len(levels) < len(mosaic.levels):
        try:
            levels.append(mosaic.label(name, len(levels)))
        except StoreError:
            if not levels:
                raise
            break
    return levels
