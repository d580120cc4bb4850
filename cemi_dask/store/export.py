"""`export_mosaic`: a mosaic or label as TIFF, OME-TIFF, Deep Zoom or PNG, in constant memory."""

from __future__ import annotations

from pathlib import Path

from cemi_dask.errors import ConfigError
from cemi_dask.store.arrays import Array
from cemi_dask.store.atomic import replacing
from cemi_dask.store.export_dzi import write_dzi
from cemi_dask.store.export_png import write_png
from cemi_dask.store.export_tiff import write_tiff
from cemi_dask.store.mosaic import level_arrays, open_mosaic
from cemi_dask.store.window import sampled_window

ENDINGS = {"tiff": ".tif", "ome-tiff": ".ome.tif", "dzi": ".dzi", "png": ".png"}
PNG_LONG_SIDE_PX = 16_384  # more than that few programs open


def export_mosaic(
    path: Path | str,
    target: Path | str,
    *,
    format: str = "ome-tiff",
    label: str | None = None,
    level: int | None = None,
    window: tuple[float, float] | None = None,
) -> Path:
    """The mosaic at `path` (or one of its labels) as the file `target`; that path.

    ``tiff`` and ``ome-tiff`` are tiled BigTIFF pyramids of the stored values from `level` on (by
    default 0); ``dzi`` is a Deep Zoom folder and ``png`` one picture of `level` (by default the
    finest of at most 16 384 px), both 8-bit grey between the grey levels of `window` (by default
    those that cut 0.5 % of the pixels at either side; 0 and 1 for labels). Read and written strip
    by strip: memory does not grow with the mosaic. ConfigError for options that do not fit,
    StoreError for what cannot be read or written.
    """
    mosaic = open_mosaic(path)
    levels = level_arrays(mosaic, label=label)
    target = Path(target)
    if format not in ENDINGS:
        raise ConfigError(f"There is no format {format!r}; take one of {list(ENDINGS)}.")
    first = _first_level(levels, level, format)
    if window is not None and not window[1] > window[0]:
        raise ConfigError(f"White at {window[1]} must be above black at {window[0]}.")
    if format in {"tiff", "ome-tiff"}:
        kept = levels[first:]
        pixel_um = None if mosaic.pixel_um is None else mosaic.pixel_um * 2**first
        name = label or target.name.removesuffix(ENDINGS[format])
        with replacing(target) as temporary:
            write_tiff(kept, temporary, pixel_um=pixel_um, ome=format == "ome-tiff", name=name)
        return target
    shown = window or ((0.0, 1.0) if label else sampled_window(levels[0]))
    if format == "dzi":
        if level not in {None, 0}:
            raise ConfigError("Deep Zoom holds all levels: leave --level out.")
        return write_dzi(levels, target, window=shown)
    with replacing(target) as temporary:
        write_png(levels[first], temporary, window=shown)
    return target


def _first_level(levels: tuple[Array, ...], level: int | None, format: str) -> int:
    if level is None:
        if format != "png":
            return 0
        fitting = [k for k, a in enumerate(levels) if max(a.shape) <= PNG_LONG_SIDE_PX]
        return fitting[0] if fitting else len(levels) - 1
    if not 0 <= level < len(levels):
        raise ConfigError(f"There is no level {level}; the mosaic has 0 to {len(levels) - 1}.")
    return level
