"""One step alone, on the user's own files: `cemi denoise`, `cemi analyse`."""

from __future__ import annotations

from collections.abc import Iterator
from glob import has_magic
from pathlib import Path
from typing import Any

import dask.array as da

from cemi_dask import denoise, frames, store
from cemi_dask.compute import named_task
from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.frameset import Frames, plane
from cemi_dask.pipeline.checks import check_analysis, check_segmenting
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions, parse_cluster
from cemi_dask.pipeline.config import parse_config, read_yaml, run_name
from cemi_dask.pipeline.context import Context, Order
from cemi_dask.pipeline.digests import analysis_digests
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.job import Job, RunResult, open_context
from cemi_dask.pipeline.picture import open_picture, picture_identity
from cemi_dask.pipeline.stages import NO_PIXEL_SIZE, walk_on_from_mosaic

PICTURES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}


def denoise_files(source: str, target: Path, *, method: str, cluster: str | None = None) -> int:
    """Denoise a picture into a picture, or a video or folder into TIFFs; how many frames.

    Pictures keep their names; frames of a video (those that a run would take) are called
    VIDEO_00012.tif after the recorded frame. Raises InputError or UnreadableError for input
    that cannot be used, ConfigError for a target that does not fit the source.
    """
    denoiser = denoise.DENOISERS.parse(method)
    denoiser.refuse_alone()
    origin = Path(source)
    if not (origin.exists() or has_magic(source)):
        raise UnreadableError(f"{source} does not exist. Correct the path.")
    single = origin.suffix.lower() in PICTURES and origin.is_file()
    _check_target(origin, target, single=single)
    with open_client(_cluster(cluster)):
        # Pictures of different magnifications may be denoised together.
        options = frames.InputOptions(paths=(str(origin.absolute()),), crop="none", metadata="none")
        as_recorded = frames.SelectionOptions(flat_field="none")
        raw = frames.open_frames(options, selection=as_recorded)
        if single and raw.dtype.kind == "f" and target.suffix.lower() == ".png":
            raise ConfigError(f"{source} holds float grey levels, which PNG cannot; write a .tif.")
        blocks = denoise.denoise(raw, method=denoiser).delayed()
        with store.storing(target):
            (target.parent if single else target).mkdir(parents=True, exist_ok=True)
        paths = [target] if single else [target / name for name in _names(raw)]
        items = [
            named_task("denoise", _write_picture, block, str(path))
            for block, path in zip(blocks, paths, strict=True)
        ]
        da.compute(*items)
    return len(raw)


def _check_target(source: Path, target: Path, *, single: bool) -> None:
    if single and target.suffix.lower() not in {".png", ".tif", ".tiff"}:
        raise ConfigError(f"OUT {target} must end in .png or .tif: {source} is one picture.")
    if not single and (target.suffix or target.is_file()):
        raise ConfigError(f"OUT {target} must be a folder: {source} holds several frames.")
    if source.resolve() == target.resolve():
        raise ConfigError(f"OUT {target} is IN itself, whose pictures would be lost. Give another.")


def _names(raw: Frames) -> list[str]:
    """A file name for every frame, told by where it came from."""
    files = [Path(file) for file in raw.table["file"]]
    if raw.nominal == "row":
        index = raw.table["source_index"]
        return [f"{file.stem}_{n:05d}.tif" for file, n in zip(files, index, strict=True)]
    alike = len({file.stem for file in files}) < len(files)  # a.png beside a.tif
    return [f"{file.name if alike else file.stem}.tif" for file in files]


def _write_picture(block: Any, path: str) -> None:
    """Write one frame as PNG or TIFF."""
    picture = plane(block)
    if path.lower().endswith(".png"):
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
    settings: Path | None = None,
    lamellar: Any = None,
    pixel_um: float | None = None,
    cluster: str | None = None,
    fresh: bool = False,
) -> RunResult:
    """Segment and measure an existing mosaic or picture into the run folder `out`.

    A picture is first copied into an OME-Zarr in `out`; the labels lie beside the mosaic.
    `settings` is a YAML file with the keys `segment` and `analyse` of a config (and no others);
    `options` go before what it says of `analyse`, `lamellar` (the method that finds lamellar
    regions, by name or as in YAML) before what it says of `segment`.
    """
    given = read_settings(settings) if settings is not None else {}
    if lamellar is not None:
        given["segment"] = {**(given.get("segment") or {}), "lamellar": lamellar}
    config = parse_config(
        {
            "name": run_name(out, "analysis"),
            "input": {"paths": [str(source.absolute())], "pixel_um": pixel_um},
            **given,
            "analyse": {**(given.get("analyse") or {}), **options},
        },
        origin="cemi analyse" if settings is None else str(settings),
    ).located(Path.cwd() if settings is None else settings.absolute().parent)
    folder = RunFolder(out.resolve())
    if source.resolve() in (folder.path, folder.mosaic):
        raise ConfigError(
            f"{source} lies in --out {out}. Give another --out, or change `analyse` in the config "
            "of that run and run it again."
        )
    base = Path.cwd()
    identity = picture_identity(source)
    picture = open_picture(source.absolute(), pixel_um)
    resolved = config.input.model_copy(update={"pixel_um": picture[1]})
    config = config.model_copy(update={"input": resolved})
    order = Order(config, base, analysis_digests(config, base, identity))
    check_analysis(config, base, picture[1])
    check_segmenting(config)
    with open_context(order, folder, _cluster(cluster), fresh=fresh) as context:
        return Job(context, lambda context: walk_analysis(context, *picture)).work("report")


def read_settings(path: Path) -> dict[str, Any]:
    """The keys `segment` and `analyse` of a YAML file; ConfigError where it has others."""
    values = read_yaml(path)
    extra = sorted({*values} - {"segment", "analyse"}) if isinstance(values, dict) else ["no keys"]
    if extra:
        raise ConfigError(
            f"{path} holds {', '.join(map(str, extra))}; for one picture it may hold segment and "
            "analyse only. configs/pictures/ has examples."
        )
    return dict(values)


def walk_analysis(context: Context, array: da.Array, pixel_um: float | None) -> Iterator[str]:
    """The stages of `cemi analyse`: copy the picture, then segment, measure, report."""
    options = context.config.mosaic
    if pixel_um is None:
        context.warn(f"{NO_PIXEL_SIZE} Give --pixel-size for micrometres.")
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
    yield from walk_on_from_mosaic(context)


def _cluster(text: str | None) -> Any:
    return LocalOptions() if text is None else parse_cluster(text)
