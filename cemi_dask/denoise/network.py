"""`Network`: frames through a trained network, on a GPU or on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cemi_dask.denoise.checkpoints import model_path
from cemi_dask.denoise.inference import (
    Backend,
    RunnerOptions,
    get_runner,
    run_tiled,
)
from cemi_dask.denoise.method import Denoiser, Frame
from cemi_dask.learn.devices import Device, Precision
from cemi_dask.learn.weights import file_sha256, is_file_name

# Measured with `compact` in both backends; a frame of 1024 x 690 px takes 390 MiB.
TORCH_BYTES = 380 << 20
CHANNEL_BYTES_PER_PX = 560


class Network(Denoiser):
    """A trained network: the shipped `compact`, or weights that you trained or downloaded.

    Lang et al. 2024 (SEMNET, SEMGAN) with the generator of Wang et al. 2021; `compact` is a
    U-Net without biases (Zhang et al. 2021, Mohan et al. 2020) that a CPU can afford.
    """

    method: Literal["network"] = "network"
    model: str = Field(
        default="compact",
        description="Name of a shipped model, or path of a weights file: .safetensors of `cemi "
        "train denoise`, or a public checkpoint of scale 1 or of the ESRGAN family.",
    )
    device: Device = Field(
        default="auto",
        description="Where networks run. auto: workers that offer a GPU, else the CPU.",
    )
    precision: Precision = Field(
        default="auto", description="Arithmetic; auto: bfloat16 on a GPU, float32 on the CPU."
    )
    backend: Backend = Field(
        default="torch",
        description="What computes it. openvino: on CPUs only, faster, an extra of its own.",
    )
    tile_px: int = Field(
        default=2048,
        ge=64,
        description="Larger frames go through in tiles of this side, with the same result.",
    )
    batch: int = Field(default=4, ge=1, le=64, description="Frames at once on a GPU.")
    compile: bool = Field(
        default=False, description="Compile the network first: slow to start, faster on a GPU."
    )

    @model_validator(mode="after")
    def _backend_has_device(self) -> Self:
        if self.backend == "openvino" and (self.device == "cuda" or self.compile):
            raise ValueError("backend openvino runs on the CPU and compiles by itself")
        return self

    @property
    def frames_at_once(self) -> int:
        """Frames that one task should hold."""
        return self.batch

    def memory_bytes(self, frame_px: int) -> int:
        """Bytes that a worker needs: torch itself, and the channels of a frame or tile."""
        return TORCH_BYTES + CHANNEL_BYTES_PER_PX * min(frame_px, self.tile_px**2)

    def located(self, base: Path) -> Self:
        """The same with an absolute path, which means the same on every worker."""
        if not is_file_name(self.model):
            return self
        return self.model_copy(update={"model": str((base / self.model).absolute())})

    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return file_sha256(model_path(self.model))

    def clean(self, frame: Frame) -> Frame:
        """The network's picture, uint8 or float32 grey levels."""
        return self.clean_stack(frame[None])[0]

    def clean_stack(self, frames: Frame) -> Frame:
        """The network's pictures of frames (n, y, x), uint8 or float32 grey levels."""
        options = RunnerOptions(self.device, self.precision, self.backend, self.compile)
        runner = get_runner(model_path(self.model), options)
        # On the CPU frames share nothing but memory, so each goes alone.
        at_once = self.batch if runner.takes_batches else 1
        parts = [frames[start : start + at_once] for start in range(0, len(frames), at_once)]
        return np.concatenate([run_tiled(runner, part, self.tile_px) for part in parts])
