"""What can be refused before anything starts, rather than after hours of work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cemi_dask.analyse import CellView, read_hardness
from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.config import AnalyseSection, RunConfig
from cemi_dask.pipeline.digests import hardness_file
from cemi_dask.pipeline.video_data import refuse_averaged
from cemi_dask.segment import Network
from cemi_dask.torchlib import import_torch


def check_analysis(config: RunConfig, base: Path, pixel_um: float | None) -> None:
    """Nothing, or the error that the stage analyse would end in.

    Raises ConfigError for lengths in micrometres without a pixel size and for measures of
    labels that are not made; UnreadableError or InputError for a hardness file that cannot
    be used.
    """
    options = config.analyse
    if options is None:
        return
    in_um = [
        key
        for key, given in (
            ("analyse.grid.cell_um", options.grid.cell_um),
            ("analyse.band_um", options.band_um),
            ("analyse.hardness", options.hardness),
        )
        if given is not None
    ]
    if in_um and pixel_um is None:
        raise ConfigError(
            f"{' and '.join(in_um)} need the pixel size, and none is known. Set input.pixel_um "
            "(--pixel-size), micrometres per pixel."
        )
    if config.segment is None:
        _need_no_labels(options)
    if options.hardness is not None:
        read_hardness(hardness_file(options, base), value_column=options.hardness.value_column)


def check_training(config: RunConfig, kind: str) -> None:
    """Nothing, or the error that the stage train would end in.

    Raises ConfigError where frames would share recorded pictures, MissingExtraError without
    torch. `kind` is that of the sources: videos are averaged, tiles are not.
    """
    if "train" not in config.stages:
        return
    if config.frames.average != "none" and kind == "video":
        refuse_averaged([2])
    import_torch()


def check_segmenting(config: RunConfig) -> None:
    """Nothing, or the error that the stage segment would end in.

    Raises MissingExtraError for a network without torch; ConfigError for a label that the
    model does not know, or tiles that it cannot take.
    """
    methods = {} if config.segment is None else config.segment.methods()
    for method in methods.values():
        if isinstance(method, Network):
            method.check()


def _need_no_labels(options: AnalyseSection) -> None:
    """Raise ConfigError for a measure that cannot do without a label image."""
    empty = np.zeros((64, 64), np.uint8)
    for measure in options.measures:
        try:
            measure(CellView(empty, {}))
        except ConfigError as error:
            raise ConfigError(
                f"segment is null, but the measure {measure.names[0]!r} needs its labels. Leave "
                "segment away, set analyse to null, or name other analyse.measures."
            ) from error
