"""cemi_dask: noisy electron-microscope videos to one picture of an ingot and its microstructure.

The names below load on first use: importing the package starts nothing. Each stage is also
a package of its own (`cemi_dask.frames`, `cemi_dask.register`, ...), usable alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cemi_dask.errors import CemiError

if TYPE_CHECKING:
    from cemi_dask.frames import open_frames
    from cemi_dask.frameset import Frames
    from cemi_dask.geometry import Box, Layout
    from cemi_dask.overlap import OverlapGraph
    from cemi_dask.pipeline import RunConfig, RunResult, load_config, run, run_many
    from cemi_dask.report import write_report
    from cemi_dask.simulate import simulate_tiles, simulate_videos
    from cemi_dask.store import Mosaic, open_mosaic, write_mosaic

__version__ = "0.1.0"

__all__ = [
    "Box",
    "CemiError",
    "Frames",
    "Layout",
    "Mosaic",
    "OverlapGraph",
    "RunConfig",
    "RunResult",
    "load_config",
    "open_frames",
    "open_mosaic",
    "run",
    "run_many",
    "simulate_tiles",
    "simulate_videos",
    "write_mosaic",
    "write_report",
]

_HOME = {
    "Box": "geometry",
    "Frames": "frameset",
    "Layout": "geometry",
    "Mosaic": "store",
    "OverlapGraph": "overlap",
    "RunConfig": "pipeline",
    "RunResult": "pipeline",
    "load_config": "pipeline",
    "open_frames": "frames",
    "open_mosaic": "store",
    "run": "pipeline",
    "run_many": "pipeline",
    "simulate_tiles": "simulate",
    "simulate_videos": "simulate",
    "write_mosaic": "store",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"cemi_dask.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cemi_dask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
