"""Pictures through a network: grey levels, tiles, devices. torch is imported late.

A picture that is larger than a tile is cut on a grid anchored at its corner; each tile is
seen with a halo as wide as the network looks, starting on a multiple of what the network
shrinks by, so that tiled equals untiled.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from cemi_dask.denoise.checkpoints import LoadedModel, load_model
from cemi_dask.denoise.method import FloatFrame, Frame, as_dtype
from cemi_dask.denoise.networks import UNET_MULTIPLE, RRDBSpec, UNetSpec
from cemi_dask.errors import MissingExtraError
from cemi_dask.learn.devices import Device, Kept, Precision, choose_device, placed
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

Backend = Literal["torch", "openvino"]

# What a public network without a card may need: windows of attention reach this far.
UNKNOWN_HALO, UNKNOWN_MULTIPLE = 128, 64
# The dense blocks of the paper's generator could look over 1300 px; what lies beyond this
# changes its output by less than 1e-5 (tests/denoise/test_network.py).
RRDB_HALO = 256


@dataclass(frozen=True)
class GreyScale:
    """Grey levels as 0..1: ``unit = (grey - offset) / span``."""

    offset: float
    span: float

    def to_unit(self, frame: Frame) -> FloatFrame:
        """The frame as float32 of about 0..1."""
        return (frame.astype(np.float32) - np.float32(self.offset)) / np.float32(self.span)

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


class Runner(Protocol):
    """A network ready to be called on stacks of frames."""

    @property
    def model(self) -> LoadedModel:
        """The network and what its file says of it."""
        ...

    @property
    def takes_batches(self) -> bool:
        """True where several pictures at once are faster than one after the other."""
        ...

    def __call__(self, stack: Frame, scales: Sequence[GreyScale]) -> Frame:
        """The network's pictures of a stack (n, y, x), untiled, in grey levels.

        uint8 for uint8 frames, float32 for others; `scales` has one entry per frame.
        """
        ...


@dataclass(frozen=True)
class TorchRunner:
    """A network in torch on its device."""

    model: LoadedModel
    net: torch.nn.Module
    device: torch.device
    dtype: torch.dtype

    @property
    def takes_batches(self) -> bool:
        """On a GPU."""
        return self.device.type == "cuda"

    def __call__(self, stack: Frame, scales: Sequence[GreyScale]) -> Frame:
        """The network's pictures, as of every runner.

        8-bit frames travel to the device and back as they are: a quarter of the bytes.
        """
        torch = import_torch()
        narrow = stack.dtype == np.uint8
        with torch.inference_mode():
            given = torch.from_numpy(
                np.ascontiguousarray(stack if narrow else stack.astype(np.float32, copy=False))
            )
            if self.device.type == "cuda":
                given = given.pin_memory()
            given = given.to(self.device, non_blocking=True)[:, None].float()
            offset, span = (
                torch.tensor(values, dtype=torch.float32, device=self.device).view(-1, 1, 1, 1)
                for values in zip(*((scale.offset, scale.span) for scale in scales), strict=True)
            )
            unit = ((given - offset) / span).to(self.dtype)
            out = self.net(unit.contiguous(memory_format=torch.channels_last)).float()
            out = (out * span + offset)[:, 0]
            if narrow:
                out = out.round().clamp(0, 255).to(torch.uint8)
            picture: Frame = out.cpu().numpy()
        return picture


@dataclass(frozen=True)
class OpenVinoRunner:
    """A network compiled by OpenVINO for this CPU, for each size of picture it meets."""

    model: LoadedModel
    hint: str
    compiled: dict[tuple[int, ...], Any] = field(default_factory=dict)
    takes_batches: bool = False

    def __call__(self, stack: Frame, scales: Sequence[GreyScale]) -> Frame:
        """The network's pictures, as of every runner."""
        if stack.shape not in self.compiled:
            self.compiled[stack.shape] = self._compile(stack.shape)
        unit = np.stack([s.to_unit(frame) for s, frame in zip(scales, stack, strict=True)])
        found = self.compiled[stack.shape]([unit[:, None]])[0][:, 0]
        out = np.stack([s.to_grey(picture) for s, picture in zip(scales, found, strict=True)])
        return as_dtype(out, stack.dtype) if stack.dtype == np.uint8 else out

    def _compile(self, shape: tuple[int, ...]) -> Any:
        torch, openvino = import_torch(), _import_openvino()
        example = torch.zeros(shape[0], 1, *shape[1:])
        with warnings.catch_warnings(), torch.inference_mode():
            # Sizes become constants: each size is compiled on its own.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            converted = openvino.convert_model(self.model.net, example_input=example)
        converted.reshape(list(example.shape))
        # One thread: the tasks of dask fill the cores.
        settings = {"INFERENCE_PRECISION_HINT": self.hint, "INFERENCE_NUM_THREADS": 1}
        return openvino.Core().compile_model(converted, "CPU", settings)


@dataclass(frozen=True)
class RunnerOptions:
    """Where and how a network runs; what `denoise.network.Network` says of it."""

    device: Device = "auto"
    precision: Precision = "auto"
    backend: Backend = "torch"
    compile: bool = False


def get_runner(path: Path, options: RunnerOptions) -> Runner:
    """The network of a weights file; one per process, however often it is asked for.

    Device `auto` takes a CUDA device where torch sees one, and precision `auto` bfloat16
    there; float32 on the CPU, where bfloat16 is slow without special instructions. Raises
    ResourceError for ``cuda`` where there is none, MissingExtraError for ``openvino`` where
    it is not installed.
    """
    return _runners(path, options)


def _make_runner(path: Path, options: RunnerOptions) -> Runner:
    if options.backend == "openvino":
        _import_openvino()
        return OpenVinoRunner(
            load_model(path), "bf16" if options.precision == "bfloat16" else "f32"
        )
    torch = import_torch()
    where, dtype = choose_device(options.device, options.precision, key="denoise.device")
    model = load_model(path)
    net = placed(model.net, where, dtype)
    return TorchRunner(model, torch.compile(net) if options.compile else net, where, dtype)


_runners: Kept[Runner] = Kept(_make_runner)


def _import_openvino() -> Any:
    try:
        return importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "openvino is not installed: pip install 'cemi-dask[openvino]', or take "
            "denoise.backend: torch."
        ) from error


def run_tiled(runner: Runner, stack: Frame, tile_px: int) -> Frame:
    """The network's pictures of frames (n, y, x), in tiles where they are larger than one.

    uint8 for uint8 frames, float32 for others.
    """
    scales = [grey_scale(frame) for frame in stack]
    height, width = stack.shape[1:]
    if max(height, width) <= tile_px:
        return runner(stack, scales)
    halo, multiple = reach_of(runner.model)
    step = max(multiple, tile_px // multiple * multiple)
    margin = -(-halo // multiple) * multiple
    out = np.empty(stack.shape, np.uint8 if stack.dtype == np.uint8 else np.float32)
    for y0, y1, top, bottom in _cuts(height, step, margin):
        for x0, x1, left, right in _cuts(width, step, margin):
            part = runner(stack[:, top:bottom, left:right], scales)
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
