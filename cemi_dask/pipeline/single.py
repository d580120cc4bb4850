"""One step alone, on the user's own files: `cemi denoise`, `cemi analyse`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from cemi_dask import denoise, frames, store
from cemi_dask.compute import named_task
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frameset import plane
from cemi_dask.pipeline.cluster import LocalOptions, open_client, parse_cluster
from cemi_dask.pipeline.config import parse_config
from cemi_dask.pipeline.context import Context, Order
from cemi_dask.pipeline.digests import analysis_digests
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.job import Job, RunResult, open_context
from cemi_dask.pipeline.stages import (
    analyse_stage,
    pyramid_stage,
    report_stage,
    segment_stage,
)

PICTURES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}


def denoise_files(source: str, target: Path, *, method: str, cluster: str | None = None) -> int:
    """Denoise a picture into a picture, or a video or folder into TIFFs; how many frames.

    Raises InputError or UnreadableError for input that cannot be used, ConfigError for a
    target that does not fit the source.
    """
    denoiser = denoise.DENOISERS.parse(method)
    single = Path(source).suffix.lower() in PICTURES and Path(source).is_file()
    if single and target.suffix.lower() not in {".png", ".tif", ".tiff"}:
        raise ConfigError(f"OUT {target} must end in .png or .tif: {source} is one picture.")
    if not single and target.suffix:
        raise ConfigError(f"OUT {target} must be a folder: {source} holds several frames.")
    with open_client(_cluster(cluster)):
        options = frames.InputOptions(paths=(str(Path(source).absolute()),), crop="none")
        stack = denoise.denoise(frames.open_frames(options), method=denoiser)
        if single:
            _write_picture(np.asarray(stack.data[0].compute()), str(target))
            return 1
        target.mkdir(parents=True, exist_ok=True)
        blocks = stack.delayed()
        items = [
            named_task("denoise", _write_picture, block, str(target / f"frame_{i:05d}.tif"))
            for i, block in enumerate(blocks)
        ]
        da.compute(*items)
    return len(stack)


def _write_picture(block: Any, path: str) -> None:
    """Write one frame as PNG or TIFF."""
    picture = plane(block)
    if path.endswith(".png"):
        import cv2

        with store.replacing(Path(path)) as temporary:
            temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    else:
        import tifffile

        with store.replacing(Path(path)) as temporary:
            tifffile.imwrite(temporary, picture)


def analyse_mosaic(
    source: Path,
    out: Path,
    *,
    options: dict[str, Any],
    pixel_um: float | None = None,
    cluster: str | None = None,
    fresh: bool = False,
) -> RunResult:
    """Segment and measure an existing mosaic or picture into the run folder `out`.

    A picture is first copied into an OME-Zarr in `out`; the labels lie beside the mosaic.
    """
    config = parse_config(
        {
            "name": out.resolve().name or "analysis",
            "input": {"paths": [str(source.absolute())], "pixel_um": pixel_um},
            "analyse": options,
        },
        origin="cemi analyse",
    )
    folder = RunFolder(out.resolve())
    if source.resolve() in (folder.path, folder.mosaic):
        raise ConfigError(
            f"{source} lies in --out {out}. Give another --out, or change `analyse` in the config "
            "of that run and run it again."
        )
    base = Path.cwd()
    order = Order(config, base, analysis_digests(config, base, source))
    with open_context(order, folder, _cluster(cluster), fresh=fresh) as context:
        return Job(context, lambda context: walk_analysis(context, source.absolute())).work(
            "report"
        )


def walk_analysis(context: Context, source: Path) -> Iterator[str]:
    """The stages of `cemi analyse`: copy the picture, then segment, measure, report."""
    array, pixel_um = open_picture(source, context.config.input.pixel_um)
    options = context.config.mosaic
    with context.stage("blend") as scope:
        shard_px = store.fit_shard(array.shape, options)
        store.write_mosaic(
            array.rechunk(shard_px),
            context.folder.mosaic,
            pixel_um=pixel_um,
            options=options,
            compute=scope.compute,
            overwrite=scope.starts_anew,
        )
    yield "blend"
    mosaic = pyramid_stage(context)
    yield "pyramid"
    labels = segment_stage(context, mosaic)
    yield "segment"
    analyse_stage(context, mosaic, labels)
    yield "analyse"
    report_stage(context)
    yield "report"


def open_picture(source: Path, pixel_um: float | None) -> tuple[da.Array, float | None]:
    """(lazy (y, x) array, pixel size in um or None) of an OME-Zarr, a run folder or a picture.

    Raises InputError when the OME-Zarr's pixel size and the given one disagree.
    """
    if source.is_dir():
        inner = RunFolder(source).mosaic
        mosaic = store.open_mosaic(inner if inner.is_dir() else source)
        stated = mosaic.pixel_um
        if stated is not None and pixel_um is not None and not np.isclose(stated, pixel_um):
            raise InputError(
                f"{source} states a pixel size of {stated:g} um, --pixel-size says {pixel_um:g}. "
                "Leave --pixel-size away, or give the same."
            )
        return mosaic.levels[0], stated if stated is not None else pixel_um
    options = frames.InputOptions(paths=(str(source),), crop="none")
    stack = frames.open_frames(options)
    return stack.data[0], pixel_um


def _cluster(text: str | None) -> Any:
    return LocalOptions() if text is None else parse_cluster(text)
