"""Videos and tiles to frames: what was recorded, which frames are taken, where they lie."""

from cemi_dask.frames.flat import FlatField, fit_flat_field
from cemi_dask.frames.lazy import flatten, lazy_frames, open_frames
from cemi_dask.frames.metadata import FrameMetadata, read_metadata
from cemi_dask.frames.options import Crop, InputOptions, SelectionOptions, TileOptions
from cemi_dask.frames.prepare import prepare
from cemi_dask.frames.sample import sample_png
from cemi_dask.frames.scan import TILES_STAY, scan_source
from cemi_dask.frames.sources import Place, Source, find_sources
from cemi_dask.frames.table import build_table, rejected_table

__all__ = [
    "TILES_STAY",
    "Crop",
    "FlatField",
    "FrameMetadata",
    "InputOptions",
    "Place",
    "SelectionOptions",
    "Source",
    "TileOptions",
    "build_table",
    "find_sources",
    "fit_flat_field",
    "flatten",
    "lazy_frames",
    "open_frames",
    "prepare",
    "read_metadata",
    "rejected_table",
    "sample_png",
    "scan_source",
]
