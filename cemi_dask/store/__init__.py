"""Where results lie: OME-Zarr mosaics with pyramid and labels, frame stores, tables, text."""

from cemi_dask.contract import CONTRACT
from cemi_dask.store.atomic import (
    remove_partial_files,
    replacing,
    storing,
    write_json_atomic,
    write_text_atomic,
)
from cemi_dask.store.export import export_mosaic
from cemi_dask.store.export_cells import export_cells
from cemi_dask.store.framestore import (
    FrameWriter,
    create_frames,
    frame_count,
    open_frame_store,
    write_frames,
)
from cemi_dask.store.mosaic import (
    Legend,
    Mosaic,
    MosaicOptions,
    fit_shard,
    level_arrays,
    open_mosaic,
    write_label,
    write_mosaic,
)
from cemi_dask.store.napari import napari_layers
from cemi_dask.store.pyramid import halve_labels, halve_mean, write_pyramid
from cemi_dask.store.strips import as_grey, read_part
from cemi_dask.store.tables import read_table, write_table
from cemi_dask.store.thumbnail import thumbnail
from cemi_dask.store.window import sample, sampled_window

__all__ = [
    "CONTRACT",
    "FrameWriter",
    "Legend",
    "Mosaic",
    "MosaicOptions",
    "as_grey",
    "create_frames",
    "export_cells",
    "export_mosaic",
    "fit_shard",
    "frame_count",
    "halve_labels",
    "halve_mean",
    "level_arrays",
    "napari_layers",
    "open_frame_store",
    "open_mosaic",
    "read_part",
    "read_table",
    "remove_partial_files",
    "replacing",
    "sample",
    "sampled_window",
    "storing",
    "thumbnail",
    "write_frames",
    "write_json_atomic",
    "write_label",
    "write_mosaic",
    "write_pyramid",
    "write_table",
    "write_text_atomic",
]
