"""What this installation can do: `cemi doctor`."""

from __future__ import annotations

import importlib
import platform
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil
from dask.utils import format_bytes

from cemi_dask.errors import PluginError

Row = tuple[str, str, str]


def examine() -> list[Row]:
    """(what, state, detail) of everything a job may need."""
    memory = psutil.virtual_memory()
    free = shutil.disk_usage(Path.cwd()).free
    rows: list[Row] = [
        ("Python", "yes", platform.python_version()),
        ("cores", "yes", str(psutil.cpu_count())),
        ("memory", "yes", f"{format_bytes(memory.available)} free of {format_bytes(memory.total)}"),
        ("disk here", "yes", f"{format_bytes(free)} free"),
    ]
    rows += [_codec(name) for name in ("ffv1", "mjpeg", "mpeg4", "h264", "wmv3")]
    rows.append(_package("zarrs", "zarrs", "fast zarr codecs", "pip install zarrs"))
    rows.append(_gpu())
    rows.append(_package("denoising networks", "spandrel", "", "[torch]"))
    rows.append(_package("networks on the CPU", "openvino", "", "[openvino]"))
    rows.append(_package("segmentation networks", "segmentation_models_pytorch", "", "[torch]"))
    rows.append(_package("SLURM, PBS, LSF", "dask_jobqueue", "", "[slurm]"))
    rows.append(_package("Kubernetes", "dask_kubernetes", "", "[kubernetes]"))
    rows += _methods()
    return rows


def _codec(name: str) -> Row:
    import av

    try:
        av.codec.Codec(name, "r")
    except (ValueError, av.FFmpegError) as error:
        return f"video codec {name}", "no", str(error)
    return f"video codec {name}", "yes", "decodes"


def _package(what: str, module: str, detail: str, extra: str) -> Row:
    if find_spec(module) is None:
        how = f"pip install 'cemi-dask{extra}'" if extra.startswith("[") else extra
        return what, "no", how
    names = {"segmentation_models_pytorch": "segmentation-models-pytorch"}
    number = version(names.get(module, module.replace("_", "-")))
    return what, "yes", f"{number} {detail}".strip()


def _gpu() -> Row:
    if find_spec("torch") is None:
        return "GPU", "no", "pip install 'cemi-dask[torch]'"
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return "GPU", "no", f"torch {torch.__version__} sees none; the CPU is used"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return "GPU", "yes", ", ".join(names)


def _methods() -> list[Row]:
    from cemi_dask.analyse import ANALYSERS
    from cemi_dask.blend import BLENDERS
    from cemi_dask.denoise import DENOISERS
    from cemi_dask.segment import PHASES, SEGMENTERS

    rows: list[Row] = []
    for registry in (DENOISERS, BLENDERS, SEGMENTERS, PHASES, ANALYSERS):
        try:
            rows.append((f"{registry.kind}s", "yes", ", ".join(registry.classes())))
        except PluginError as error:
            rows.append((f"{registry.kind}s", "broken", str(error)))
    return rows
