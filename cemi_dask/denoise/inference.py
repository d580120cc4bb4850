"""Pictures through a network: grey levels, tiles, devices. torch is imported late.

A picture that is larger than a tile is cut on a grid anchored at its corner; each tile is
seen with a halo as wide as the network looks, starting on a multiple of what the network
shrinks by, so that tiled equals untiled.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.checkpoints import LoadedModel, load_model
from cemi_dask.denoise.method import FloatFrame, Frame
from cemi_dask.denoise.networks import UNET_MULTIPLE, RRDBSpec, UNetSpec
from cemi_dask.errors import ResourceError
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]

# What a public network without a card may need: windows of attention reach this far.
UNKNOWN_HALO, UNKNOWN_MULTIPLE = 128, 64
# The dense blocks of the paper's generator could look over 1300 px; what lies beyond this
# changes its output by less than 1e-5 (tests/denoise/test_network.py).
RRDB_HALO = 256
KEPT_MODELS = 2

_models: OrderedDict[tuple[Any, ...], Runner] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Runner:
    """A network on its device, ready to be called on stacks of pictures of 0..1."""

    model: LoadedModel
    net: torch.nn.Module
    device: torch.device
    dtype: torch.dtype

    def __call__(self, stack: FloatFrame) -> FloatFrame:
        """The network's output for a stack (n, y, x) float32, untiled, float32."""
        torch = import_torch()
        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(stack))[:, None]
            given = given.to(self.device, self.dtype, memory_format=torch.channels_last)
            out: FloatFrame = self.net(given)[:, 0].float().cpu().numpy()
        return out


def get_runner(path: Path, device: Device, precision: Precision, *, compiled: bool) -> Runner:
    """The network of a weights file on a device; one per process, however often it is asked for.

    `auto` takes a CUDA device where torch sees one, and bfloat16 there; float32 on the CPU,
    where bfloat16 is slow without special instructions. Raises ResourceError for ``cuda``
    where there is none.
    """
    status = path.stat()
    key = (path, status.st_size, status.st_mtime_ns, device, precision, compiled)
    with _lock:
        if key not in _models:
            _models[key] = _make_runner(path, device, precision, compiled=compiled)
            while len(_models) > KEPT_MODELS:
                _models.popitem(last=False)
        _models.move_to_end(key)
        return _models[key]


def _make_runner(path: Path, device: Device, precision: Precision, *, compiled: bool) -> Runner:
    torch = import_torch()
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ResourceError(
            "denoise.device is 'cuda', and torch sees no CUDA device here. Take 'auto' or 'cpu', "
            "or let the workers that have a GPU offer it (dask worker --resources GPU=1)."
        )
    where = torch.device("cuda" if has_cuda and device != "cpu" else "cpu")
    narrow = precision == "bfloat16" or (precision == "auto" and where.type == "cuda")
    dtype = torch.bfloat16 if narrow else torch.float32
    model = load_model(path)
    # The weights' layout as well as the pictures': 1.2 to 1.7 times faster convolutions.
    net = model.net.to(where, dtype).requires_grad_(False)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Runner(model, torch.compile(net) if compiled else net, where, dtype)


def run_tiled(runner: Runner, stack: FloatFrame, tile_px: int) -> FloatFrame:
    """The network's output for a stack (n, y, x) of 0..1, in tiles where it is larger than one."""
    height, width = stack.shape[1:]
    if max(height, width) <= tile_px:
        return runner(stack)
    halo, multiple = reach_of(runner.model)
    step = max(multiple, tile_px // multiple * multiple)
    margin = -(-halo // multiple) * multiple
    out = np.empty_like(stack)
    for y0, y1, top, bottom in _cuts(height, step, margin):
        for x0, x1, left, right in _cuts(width, step, margin):
            part = runner(stack[:, top:bottom, left:right])
            out[:, y0:y1, x0:x1] = part[:, y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def _cuts(size: int, step: int, margin: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, end, first with halo, end with halo) of the tiles along one side."""
    for first in range(0, size, step):
        end = min(first + step, size)
        yield first, end, max(0, first - margin), min(size, end + margin)


def reach_of(model: LoadedModel) -> tuple[int, int]:
    """(px that an output pixel depends on to each side, px by which tiles must be aligned)."""
    spec = None if model.card is None else model.card.spec
    if isinstance(spec, UNetSpec):
        return unet_reach_px(spec), spec.unshuffle * UNET_MULTIPLE
    if isinstance(spec, RRDBSpec) or model.architecture == "ESRGAN":
        return RRDB_HALO, 4
    return UNKNOWN_HALO, UNKNOWN_MULTIPLE


def unet_reach_px(spec: UNetSpec) -> int:
    """How far an output pixel of the U-Net looks to each side, in px."""
    convolutions = 2 * spec.blocks  # each residual block has two, 3 x 3
    sides = [spec.unshuffle * 2**level for level in range(4)]
    down_and_up = 2 * convolutions * sum(sides[:3]) + convolutions * sides[3]
    # Head and tail are one convolution each; each 2 x 2 step down looks one cell further.
    return down_and_up + 2 * sides[0] + sum(sides[1:])


# ---------------------------------------------------------------- grey levels


@dataclass(frozen=True)
class GreyScale:
    """Grey levels as 0..1: ``unit = (grey - offset) / span``."""

    offset: float
    span: float

    def to_unit(self, frame: Frame) -> FloatFrame:
        """The frame as float32 of about 0..1."""
        unit = frame.astype(np.float32)
        unit -= np.float32(self.offset)
        unit *= np.float32(1 / self.span)
        return unit

    def to_grey(self, unit: FloatFrame) -> FloatFrame:
        """The picture in grey levels, float32."""
        return unit * np.float32(self.span) + np.float32(self.offset)


def grey_scale(frame: Frame) -> GreyScale:
    """8-bit frames by their type; others so that all but 1 % of their pixels lie in 0.1..0.9.

    Networks are trained on 8-bit frames, and those of 16 bits may use any part of the range.
    """
    if frame.dtype == np.uint8:
        return GreyScale(0.0, 255.0)
    sample: npt.NDArray[Any] = frame[::2, ::2]
    low, high = (float(level) for level in np.percentile(sample, (0.5, 99.5)))
    if high <= low:
        low, high = float(frame.min()), float(frame.max())
    span = (high - low) / 0.8
    return GreyScale(low - 0.1 * span, span)
