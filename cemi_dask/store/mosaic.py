"""The mosaic on disk: a sharded OME-Zarr image with labels beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.delayed import Delayed
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cemi_dask.compute import Compute, compute_items, named_task
from cemi_dask.display import Displayed
from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.geometry import Box, ChunkGrid
from cemi_dask.store import metadata
from cemi_dask.store.arrays import (
    Array,
    ArraySpec,
    Codec,
    check_shards,
    ensure_array,
    lazy_array,
    open_array,
    write_region,
)
from cemi_dask.store.atomic import delete_zarr, storing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOSAIC_TYPES = ("uint8", "uint16", "float32")
_LABEL_TYPES = ("uint8", "uint16", "uint32")
LABEL_CODEC: Codec = "zstd"  # labels are few large areas: much smaller than with lz4
_LONG_SIDE_PX = 1024  # the coarsest level is at most this long


class MosaicOptions(BaseModel):
    """How a mosaic is laid out on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_px: int = Field(default=4096, ge=16, description="Side of a shard: one file, one task.")
    chunk_px: int = Field(
        default=512, ge=16, description="Side of a chunk: the least that is read."
    )
    codec: Codec = Field(
        default="lz4", description="lz4 (blosc, bitshuffle), zstd (smaller) or none."
    )
    levels: int | None = Field(
        default=None, ge=1, description="Number of pyramid levels; by default down to 1024 px."
    )

    @model_validator(mode="after")
    def _shard_holds_whole_chunks(self) -> MosaicOptions:
        if self.shard_px % self.chunk_px:
            raise ValueError(f"shard_px {self.shard_px} is no multiple of chunk_px {self.chunk_px}")
        return self

    def shard_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shard (y, x) in px for an image: shrunk to whole chunks where the image is small."""
        chunk = self.chunk_px
        height, width = (min(self.shard_px, -(-n // chunk) * chunk) for n in shape)
        return height, width

    def level_count(self, shape: tuple[int, int]) -> int:
        """Number of levels for an image: as asked, or until the long side is <= 1024 px."""
        if self.levels is not None:
            return self.levels
        count, long_side = 1, max(shape)
        while long_side > _LONG_SIDE_PX:
            count, long_side = count + 1, -(-long_side // 2)
        return count


def fit_shard(shape: tuple[int, int], options: MosaicOptions) -> int:
    """Side in px of the blocks to cut a mosaic of `shape` into, so that each is one shard."""
    return max(options.shard_shape(shape))


class Legend(BaseModel):
    """What the values of a label image mean, and their colours (RGBA, 0..255)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    meaning: dict[int, str] = {}
    colors: dict[int, metadata.Colour] = {}


@dataclass(frozen=True)
class Mosaic(Displayed):
    """An opened mosaic: lazy arrays, largest first, each cut into its shards.

    `pixel_um` is None where the pixel size is unknown. `window` is (start, end), the grey
    levels to show, where stored. 0 marks pixels without data (NaN in float mosaics).
    """

    path: Path
    levels: tuple[da.Array, ...]
    pixel_um: float | None
    labels: tuple[str, ...] = ()
    window: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of level 0 in px."""
        height, width = self.levels[0].shape
        return int(height), int(width)

    def label(self, name: str, level: int = 0) -> da.Array:
        """The label image `name` (y, x) at a level, lazily; StoreError if there is none."""
        if name not in self.labels:
            raise StoreError(
                f"{self.path} has no label {name!r}; it has {list(self.labels)}. Run the "
                "analysis that makes it first."
            )
        folder = self.path / "labels" / name
        levels = _open_levels(folder, metadata.read_group(folder), "read-label")
        if not 0 <= level < len(levels):
            raise StoreError(f"Label {name!r} has {len(levels)} levels; level {level} is none.")
        return levels[level]

    def plot(self) -> Figure:
        """A matplotlib figure: the whole mosaic from its pyramid, with a scale bar.

        Raises StoreError where the pyramid is missing and level 0 is too large to load.
        """
        return self._figure()


def open_mosaic(path: Path | str) -> Mosaic:
    """The mosaic at `path`, lazily; StoreError for anything that is no 2-D OME-Zarr image."""
    folder = Path(path)
    attributes = metadata.read_group(folder)
    levels = _open_levels(folder, attributes, "read-mosaic")
    window = None
    channels = attributes["ome"].get("omero", {}).get("channels", [])
    if channels:
        bounds = channels[0]["window"]
        window = (float(bounds["start"]), float(bounds["end"]))
    return Mosaic(folder, levels, _pixel_um(folder, attributes), _label_names(folder), window)


def level_arrays(mosaic: Mosaic, *, label: str | None = None) -> tuple[Array, ...]:
    """The zarr arrays of a mosaic's levels, or of a label's: slicing one reads only its chunks.

    For readers of many small regions; the lazy `levels` are cut into shards, which are larger.
    Raises StoreError where there is no such label.
    """
    if label is None:
        return _level_arrays(mosaic.path, metadata.read_group(mosaic.path))
    mosaic.label(label)  # refuses a name that is none
    folder = mosaic.path / "labels" / label
    return _level_arrays(folder, metadata.read_group(folder))


def _level_arrays(path: Path, attributes: dict[str, Any]) -> tuple[Array, ...]:
    return tuple(open_array(path / name, "read") for name in _level_names(path, attributes))


def _level_names(path: Path, attributes: dict[str, Any]) -> list[str]:
    try:
        datasets = attributes["ome"]["multiscales"][0]["datasets"]
        names = [str(dataset["path"]) for dataset in datasets]
    except (KeyError, IndexError, TypeError) as error:
        raise StoreError(
            f"{path} is a zarr group without OME-Zarr 0.5 multiscales, so it is no mosaic. "
            "A run that was stopped before its mosaic was finished leaves one: run it again."
        ) from error
    for name in names:
        if name.startswith("/") or ".." in name.split("/"):
            raise StoreError(f"{path} names a level {name!r}, which does not lie in that folder.")
    return names


def _open_levels(path: Path, attributes: dict[str, Any], layer: str) -> tuple[da.Array, ...]:
    levels = []
    for name in _level_names(path, attributes):
        array = open_array(path / name, "read")
        if array.ndim != 2:
            raise StoreError(
                f"{path} holds an image of {array.ndim} axes; a mosaic has the axes y and x. "
                "Save one plane and one channel of it."
            )
        height, width = array.shape
        block_y, block_x = array.shards or array.chunks
        grid = ChunkGrid((height, width), (block_y, block_x))
        levels.append(lazy_array(path / name, grid.dask_chunks, layer=f"{layer}-{name}"))
    return tuple(levels)


def _pixel_um(path: Path, attributes: dict[str, Any]) -> float | None:
    image = attributes["ome"]["multiscales"][0]
    units = {axis.get("unit") for axis in image["axes"]}
    factors = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "meter": 1e6}
    if units == {None}:
        return None
    if len(units) != 1 or not units <= set(factors):
        raise StoreError(f"{path} has axes in the units {units}; use one of {list(factors)}.")
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    if not np.isclose(scale[0], scale[1], rtol=1e-6):
        raise StoreError(f"{path} has pixels of {scale[0]} x {scale[1]}; they must be square.")
    return float(scale[1]) * factors[units.pop()]


def _label_names(path: Path) -> tuple[str, ...]:
    folder = path / "labels"
    if not (folder / "zarr.json").is_file():
        return ()
    return tuple(metadata.read_group(folder).get("ome", {}).get("labels", ()))


def write_mosaic(
    array: da.Array,
    path: Path | str,
    *,
    pixel_um: float | None,
    options: MosaicOptions = MosaicOptions(),  # noqa: B008 (frozen)
    compute: Compute = compute_items,
    overwrite: bool = False,
) -> Mosaic:
    """Level 0 of a mosaic on disk from a dask array (y, x) cut into its shards.

    One item ``blend-shard/row-col`` per shard computes the block and writes it; its result is
    ``{"bytes": n}``. An array that is there already with the same shape, type and codec is
    kept, and with it the shards that a resumed run has finished; another one raises StoreError.
    With `overwrite` whatever is there is deleted first. Coarser levels and labels made from
    older shards are dropped; `write_pyramid` makes the levels. ConfigError for blocks that are
    not the shards: two tasks writing into one shard would lose data.
    """
    folder = Path(path)
    spec = _array_spec(array, options, _MOSAIC_TYPES)
    prepare_array(folder, spec, overwrite=overwrite)
    compute(shard_items(array, folder / "0", "blend-shard/"))
    check_shards(folder / "0")
    attributes = metadata.image_attributes(1, pixel_um, options=options.model_dump())
    describe(folder, attributes)
    return open_mosaic(folder)


def options_of(path: Path) -> MosaicOptions:
    """The options that the mosaic at `path` was written with; StoreError if by other software."""
    own = metadata.read_group(path).get("cemi", {})
    if "options" not in own:
        raise StoreError(
            f"{path} was not written by cemi_dask, so labels and levels cannot be added to it. "
            "Write its level 0 anew with write_mosaic."
        )
    return MosaicOptions(**own["options"])


def write_label(
    array: da.Array,
    path: Path | str,
    name: str,
    *,
    legend: Legend | None = None,
    compute: Compute = compute_items,
    overwrite: bool = False,
) -> None:
    """A label image ``labels/name`` beside the mosaic at `path`, from a dask array like level 0.

    Integers; 0 is background; `legend` says what the other values are (by default 1 is what the
    label is called). One item ``segment-shard/name-row-col`` per shard. Coarser levels follow
    with ``write_pyramid(label=name)``. An array that is there already is treated as by
    `write_mosaic`. ConfigError for blocks that are not the mosaic's shards, StoreError where
    there is no mosaic.
    """
    folder = Path(path)
    mosaic = open_mosaic(folder)
    if array.shape != mosaic.shape:
        raise ConfigError(
            f"Label {name!r} has the shape {array.shape}, the mosaic {mosaic.shape}. "
            "Make it from level 0."
        )
    options = options_of(folder).model_copy(update={"codec": LABEL_CODEC})
    target = folder / "labels" / name
    prepare_array(target, _array_spec(array, options, _LABEL_TYPES), overwrite=overwrite)
    compute(shard_items(array, target / "0", f"segment-shard/{name}-"))
    check_shards(target / "0")
    shown = legend or Legend(meaning={1: name})
    attributes = metadata.label_attributes(
        1, mosaic.pixel_um, name, meaning=shown.meaning, colors=shown.colors
    )
    describe(target, attributes)
    names = sorted({*mosaic.labels, name})
    metadata.write_group(folder / "labels", {"ome": {"version": "0.5", "labels": names}})


def prepare_array(folder: Path, spec: ArraySpec, *, overwrite: bool) -> None:
    """Level 0 of the image in `folder`, kept where it is there already; see `write_mosaic`."""
    with storing(folder):
        if overwrite:
            delete_zarr(folder)
        if not ensure_array(folder / "0", spec):
            _drop_derived(folder)


def describe(folder: Path, attributes: dict[str, Any]) -> None:
    """Write the metadata of an image whose level 0 is complete.

    Metadata that are there are kept, and with them the coarser levels and labels that they
    list: whoever writes a shard removes them, so nothing was written since.
    """
    if (folder / "zarr.json").is_file():
        return
    with storing(folder):
        _drop_derived(folder)
    metadata.write_group(folder, attributes)


def _drop_derived(folder: Path) -> None:
    """Delete the metadata, coarser levels and labels of the image in `folder`."""
    (folder / "zarr.json").unlink(missing_ok=True)
    for part in folder.iterdir():
        if part.is_dir() and (part.name == "labels" or (part.name.isdigit() and part.name != "0")):
            shutil.rmtree(part)


def _array_spec(array: da.Array, options: MosaicOptions, types: tuple[str, ...]) -> ArraySpec:
    """The array on disk for `array`; ConfigError if its type or blocks do not fit."""
    if array.ndim != 2 or array.dtype.name not in types:
        raise ConfigError(
            f"Expected an array (y, x) of one of {list(types)}, got {array.ndim} axes of "
            f"{array.dtype}. Convert it with astype first."
        )
    height, width = (int(n) for n in array.shape)
    shard = options.shard_shape((height, width))
    if array.chunks != ChunkGrid((height, width), shard).dask_chunks:
        raise ConfigError(
            f"The array's blocks are {array.chunks[0][0]} x {array.chunks[1][0]} px, the shards "
            f"on disk {shard[0]} x {shard[1]} px: tasks that share a shard would lose data. Use "
            f"the same shard_px for both, or array.rechunk({shard})."
        )
    return disk_spec((height, width), array.dtype.name, options)


def disk_spec(shape: tuple[int, int], dtype: str, options: MosaicOptions) -> ArraySpec:
    """The sharded array on disk for an image (y, x) of that shape and type."""
    chunks = (options.chunk_px, options.chunk_px)
    return ArraySpec(shape, dtype, chunks, options.shard_shape(shape), options.codec, ("y", "x"))


def shard_items(array: da.Array, path: Path, prefix: str) -> dict[str, Delayed]:
    """One item ``prefix + row-col`` per block of `array`, which writes it to `path`."""
    heights, widths = array.chunks
    grid = ChunkGrid((sum(heights), sum(widths)), (heights[0], widths[0]))
    blocks = array.to_delayed(optimize_graph=False)
    items = {}
    for row, col, box in grid:
        name = f"{prefix}{row}-{col}"
        items[name] = named_task(name, _write_shard, blocks[row, col], str(path), box)
    return items


def _write_shard(block: npt.NDArray[Any], path: str, box: Box) -> dict[str, int]:
    """Write one block as one shard; from then on the image counts as unfinished."""
    with storing(path):
        (Path(path).parent / "zarr.json").unlink(missing_ok=True)
    return {"bytes": write_region(path, box.slices, np.ascontiguousarray(block))}
