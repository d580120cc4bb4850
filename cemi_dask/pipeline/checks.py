"""What can be refused before anything starts, rather than after hours of work."""

from __future__ import annotations

from pathlib import Path

from cemi_dask.analyse.correlation import read_hardness
from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.config import AnalyseSection
from cemi_dask.pipeline.digests import hardness_file


def check_analysis(options: AnalyseSection | None, base: Path, pixel_um: float | None) -> None:
    """Nothing, or the error that the stage analyse would end in.

    Raises ConfigError for lengths in micrometres without a pixel size; UnreadableError or
    InputError for a hardness file that cannot be used.
    """
    if options is None:
        return
    in_um = [
        key
        for key, given in (
            ("analyse.grid.cell_um", options.grid.cell_um),
            ("analyse.hardness", options.hardness),
        )
        if given is not None
    ]
    if in_um and pixel_um is None:
        raise ConfigError(
            f"{' and '.join(in_um)} need the pixel size, and none is known. Set input.pixel_um "
            "(--pixel-size), micrometres per pixel."
        )
    if options.hardness is not None:
        read_hardness(hardness_file(options, base), value_column=options.hardness.value_column)
