"""torch and what is built on it, imported late and only through here.

torch is an extra, takes seconds to import, and its companion torchvision comes on the package
index as a build for CUDA alone: beside a CPU build of torch its import fails, because its
compiled operators do not load. Its Python part, which is all that we and the libraries above
it use, works once the two operators that it decorates are declared.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

from cemi_dask.errors import MissingExtraError

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMAS = ("nms", "qnms")
# A Library takes its declarations with it when it is collected.
_declared: list[Any] = []


@functools.cache
def import_torch() -> ModuleType:
    """The module torch. Raises MissingExtraError where it is not installed."""
    return _import("torch")


@functools.cache
def import_vision(name: str = "torchvision") -> ModuleType:
    """torchvision, or a module that imports it (spandrel, timm, segmentation models), by name.

    Where torchvision's compiled operators do not load beside this torch, their schemas are
    declared first; calling them fails as before. Raises MissingExtraError where `name` or
    torch is not installed.
    """
    torch = import_torch()
    if "torchvision" not in sys.modules:
        _mend_torchvision(torch)
    return _import(name)


def _mend_torchvision(torch: ModuleType) -> None:
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return  # the import of what was asked for says so
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
        for module in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        for operator in _SCHEMAS:
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name.partition('.')[0]} is not installed ({error}). Networks need it: "
            "pip install 'cemi-dask[torch]' -c constraints.txt, or take a method without a "
            "network (fourier)."
        ) from error
