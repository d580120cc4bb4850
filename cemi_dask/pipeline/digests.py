"""What each stage's result depends on, as one digest per stage, known before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cemi_dask.errors import InputError
from cemi_dask.frames import Source
from cemi_dask.pipeline.config import AnalyseSection, RunConfig
from cemi_dask.pipeline.ledger import digest_of

# stage: the stages whose results it reads.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "frames": (),
    "register": ("frames",),
    "solve": ("register",),
    "train": ("solve",),
    "denoise": ("frames", "solve", "train"),
    "blend": ("solve", "denoise"),
    "pyramid": ("blend",),
    "segment": ("blend",),
    "analyse": ("segment",),
    "report": ("solve", "denoise", "pyramid", "analyse"),
}


def run_digests(config: RunConfig, base: Path, sources: Sequence[Source]) -> dict[str, str]:
    """The digest of every stage: its options, the files it reads, the stages before it.

    Files are told by name, size and modification time. Raises InputError for a file that
    the config names and that is not there.
    """
    files = [file_identity(file) for source in sources for file in source.files]
    if config.input.tiles.positions_file is not None:
        files.append(file_identity(base / config.input.tiles.positions_file))
    # The flat field is divided out of stored frames: switching it reads no file again.
    reading = {k: v for k, v in plain(config.frames).items() if k != "flat_field"}
    inputs = [plain(config.input), reading, files, understood(sources)]
    return _chain(config, base, {"frames": inputs})


def understood(sources: Sequence[Source]) -> list[Any]:
    """What was read out of the files beside their pixels: pixel size, crop, places of tiles.

    A sidecar may change while the picture beside it does not; what follows from it tells.
    """
    return [
        [source.pixel_um, plain(source.crop), source.nominal, repr(source.places)]
        for source in sources
    ]


def analysis_digests(config: RunConfig, base: Path, picture: list[Any]) -> dict[str, str]:
    """The digests of an analysis that starts from a finished mosaic or picture."""
    return _chain(config, base, {"solve": picture})


def _chain(config: RunConfig, base: Path, inputs: dict[str, Any]) -> dict[str, str]:
    cleaning = [plain(config.denoise), config.frames.flat_field, weights(config)]
    marks = segmenting_weights(config)
    options: dict[str, Any] = {
        "register": [plain(config.register_), config.frames.flat_field],
        "solve": plain(config.solve),
        "train": cleaning,
        "denoise": cleaning,
        "blend": [plain(config.blend), plain(config.mosaic), config.input.pixel_um],
        "segment": [plain(config.segment), marks] if marks else plain(config.segment),
        "analyse": plain(config.analyse),
        "report": plain(config.report),
    }
    if config.analyse is not None and config.analyse.hardness is not None:
        inputs = {**inputs, "analyse": file_identity(hardness_file(config.analyse, base))}
    digests: dict[str, str] = {}
    for stage in config.stages:
        before = [digests[name] for name in upstream(stage, config)]
        digests[stage] = digest_of(stage, options.get(stage), inputs.get(stage), before)
    return digests


def upstream(stage: str, config: RunConfig) -> list[str]:
    """The stages of this run whose results `stage` reads.

    A frame that is denoised alone does not depend on where it lies.
    """
    left = set(config.stages)
    if stage == "denoise" and (config.denoise is None or config.denoise.needs == "frame"):
        left.remove("solve")
    return [name for name in UPSTREAM[stage] if name in left]


def weights(config: RunConfig) -> str | None:
    """The digest of the denoiser's weights; None where it has none."""
    return None if config.denoise is None else config.denoise.fingerprint()


def segmenting_weights(config: RunConfig) -> dict[str, str]:
    """The digests of the weights that segment with, by label; empty without networks."""
    if config.segment is None:
        return {}
    found = {name: method.fingerprint() for name, method in config.segment.methods().items()}
    return {name: mark for name, mark in found.items() if mark is not None}


def plain(options: BaseModel | None) -> Any:
    """Options as JSON values; None where a stage is switched off."""
    return None if options is None else options.model_dump(mode="json")


def hardness_file(options: AnalyseSection, base: Path) -> Path:
    """The path of the hardness CSV; the caller has made sure that the options name one."""
    if options.hardness is None:
        raise InputError("analyse.hardness is not set.")
    return base / options.hardness.file


def file_identity(path: str | Path) -> list[Any]:
    """[name, size, modification time] that tell whether an input has changed."""
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}. Correct the path in the config or command."
        ) from error
    return [path.name, status.st_size, status.st_mtime_ns]
