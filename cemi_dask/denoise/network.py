"""`Network`: frames through a trained network, on a GPU or on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from cemi_dask.denoise.checkpoints import file_sha256, is_file_name, model_path
from cemi_dask.denoise.inference import Device, Precision, get_runner, grey_scale, run_tiled
from cemi_dask.denoise.method import Denoiser, Frame


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
    tile_px: int = Field(
        default=2048,
        ge=64,
        description="Larger frames go through in tiles of this side, with the same result.",
    )
    batch: int = Field(default=4, ge=1, le=64, description="Frames at once on a GPU.")
    compile: bool = Field(
        default=False, description="Compile the network first: slow to start, faster on a GPU."
    )

    @property
    def frames_at_once(self) -> int:
        """Frames that one task should hold."""
        return self.batch

    def located(self, base: Path) -> Self:
        """The same with an absolute path, which means the same on every worker."""
        if not is_file_name(self.model):
            return self
        return self.model_copy(update={"model": str((base / self.model).absolute())})

    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return file_sha256(model_path(self.model))

    def clean(self, frame: Frame) -> Frame:
        """The network's picture, float32 grey levels."""
        return self.clean_stack(frame[None])[0]

    def clean_stack(self, frames: Frame) -> Frame:
        """The network's pictures of frames (n, y, x), float32 grey levels."""
        runner = get_runner(
            model_path(self.model), self.device, self.precision, compiled=self.compile
        )
        scales = [grey_scale(frame) for frame in frames]
        unit = np.stack([scale.to_unit(f) for scale, f in zip(scales, frames, strict=True)])
        # On the CPU frames share nothing but memory, so each goes alone.
        at_once = self.batch if runner.device.type == "cuda" else 1
        for start in range(0, len(unit), at_once):
            part = slice(start, start + at_once)
            unit[part] = run_tiled(runner, unit[part], self.tile_px)
        return np.stack([scale.to_grey(u) for scale, u in zip(scales, unit, strict=True)])
