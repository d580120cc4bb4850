"""`cemi export`: a mosaic for other programs, and the cells measured on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cemi_dask.errors import ConfigError


def export(
    mosaic: Annotated[Path, typer.Argument(help="OME-Zarr mosaic or run folder")],
    format: Annotated[
        str,
        typer.Option(help="picture: tiff, ome-tiff, dzi, png; cells: geojson, csv, parquet"),
    ] = "ome-tiff",
    out: Annotated[
        Path | None, typer.Option("--out", help="file to write; by default beside the mosaic")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, help="0 is full size, each further one half of it")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="a label instead of the mosaic, such as bcc")
    ] = None,
    grey: Annotated[
        str | None, typer.Option(help="grey levels shown as black and white: low,high")
    ] = None,
) -> None:
    """Write a mosaic as TIFF, OME-TIFF, Deep Zoom or PNG, or a run's cells as GeoJSON or table."""
    from cemi_dask import store
    from cemi_dask.store.export import ENDINGS
    from cemi_dask.store.export_cells import CELL_FORMATS

    run_folder = mosaic if (mosaic / "mosaic.ome.zarr").exists() else None
    if format in CELL_FORMATS:
        if level is not None or label is not None or grey is not None:
            raise ConfigError(f"--level, --label and --grey are for pictures, not for {format}.")
        target = out or mosaic / f"cells.{format}"
        print(f"Written: {store.export_cells(mosaic, target, format=format)}")
        return
    if format not in ENDINGS:
        raise ConfigError(f"--format {format!r} is none of {[*ENDINGS, *CELL_FORMATS]}.")
    image = run_folder / "mosaic.ome.zarr" if run_folder else mosaic
    target = out or image.with_name((label or image.name.partition(".")[0]) + ENDINGS[format])
    written = store.export_mosaic(
        image, target, format=format, label=label, level=level, window=_grey(grey)
    )
    print(f"Written: {written}")


def _grey(text: str | None) -> tuple[float, float] | None:
    """Two grey levels from text such as 20,180."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--grey {text!r} is not of the form 20,180.") from error
    return low, high
