"""`Network`: lamellar regions by a trained network, on a GPU or on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cemi_dask.errors import ConfigError
from cemi_dask.geometry import Box
from cemi_dask.learn.devices import Device, Kept, Precision, choose_device, placed
from cemi_dask.learn.weights import file_sha256, is_file_name
from cemi_dask.segment.checkpoints import SegmenterCard, load_model, model_path
from cemi_dask.segment.labels import Labels, Segmenter, valid_pixels
from cemi_dask.segment.networks import channels_of
from cemi_dask.segment.tiles import Float32, TileGrid, tile_logits
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

TORCH_BYTES = 380 << 20  # torch's libraries, measured
# What a U-Net++ with SE-ResNeXt-50 holds of a tile, measured; `compact` takes 51.
TILE_BYTES_PER_PX = 1500
BYTES_PER_PX = 16  # grey levels, logits and labels of a part


class Network(Segmenter):
    """A trained network: the shipped `compact`, or weights of `cemi train segment`.

    Lang et al. 2024 took U-Net++ (Zhou et al. 2018). Tiles lie on a grid anchored at the
    mosaic's first pixel and are blended by Gaussian weights; grey levels are taken relative to
    the tile's mean and standard deviation.
    """

    method: Literal["network"] = "network"
    model: str = Field(
        default="compact",
        description="Name of a shipped model, or path of a .safetensors file of "
        "`cemi train segment`.",
    )
    label: str | None = Field(
        default=None,
        description="Which of the model's labels is wanted; null: its only one, or the one "
        "called lamellar.",
    )
    threshold: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="Least probability, for models of one label; with several the likeliest wins.",
    )
    tile_px: int = Field(
        default=512,
        ge=64,
        description="Side of the tiles. 1024 is a third faster with small networks.",
    )
    overlap_px: int = Field(
        default=128, ge=0, description="How much of a tile's side its neighbour shares."
    )
    device: Device = Field(
        default="auto",
        description="Where networks run. auto: workers that offer a GPU, else the CPU.",
    )
    precision: Precision = Field(
        default="auto", description="Arithmetic; auto: bfloat16 on a GPU, float32 on the CPU."
    )
    batch: int = Field(default=4, ge=1, le=64, description="Tiles at once on a GPU.")

    @property
    def grid(self) -> TileGrid:
        """The tiles. Raises ConfigError where they would not overlap as told."""
        if self.overlap_px > self.tile_px // 2:
            raise ConfigError(
                f"segment: overlap_px {self.overlap_px} is more than half of tile_px "
                f"{self.tile_px}. Lower it."
            )
        return TileGrid(self.tile_px, self.tile_px - self.overlap_px)

    @property
    def stride_px(self) -> int:
        """The grid's pitch."""
        return self.grid.step_px

    @property
    def halo_px(self) -> int:
        """A tile: all that touch a pixel must be seen whole."""
        return self.tile_px

    @property
    def part_px(self) -> int:
        """A whole shard: tiles at the borders of parts would be done twice."""
        return 4096

    def memory_bytes(self, shard_px: int) -> int:
        """Bytes beside a worker's base: torch, a tile's channels, and the part's logits."""
        tile = TILE_BYTES_PER_PX * self.tile_px**2
        return TORCH_BYTES + tile + BYTES_PER_PX * min(shard_px, self.part_px**2)

    def located(self, base: Path) -> Self:
        """The same with an absolute path, which means the same on every worker."""
        if not is_file_name(self.model):
            return self
        return self.model_copy(update={"model": str((base / self.model).absolute())})

    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return file_sha256(model_path(self.model))

    @property
    def _runner(self) -> _Runner:
        return _runners(model_path(self.model), _Where(self.device, self.precision))

    def check(self) -> None:
        """Nothing, or what labelling would end in: a label, a tile or a library that is wrong."""
        self._fits(load_model(self.model).card)

    def _fits(self, card: SegmenterCard) -> None:
        """ConfigError where the model knows no such label or cannot take such tiles."""
        self.index_in(card)
        if self.tile_px % card.spec.multiple_px:
            raise ConfigError(
                f"segment: tile_px {self.tile_px} must be a multiple of {card.spec.multiple_px} "
                f"for the model {card.name!r}."
            )

    def logits(self, grey: npt.NDArray[Any], wanted: Box | None = None) -> Float32:
        """Logits (c, y, x), float32, of the part `wanted` of a picture (y, x), or of all of it.

        Before the labels are decided: one channel for a model of one label, else one for the
        rest and one for each label. Pixels without data have no meaning. Raises ConfigError
        for tiles that the network cannot take.
        """
        runner = self._runner
        self._fits(runner.card)
        return tile_logits(
            grey,
            valid_pixels(grey),
            Box(0, 0, *grey.shape) if wanted is None else wanted,
            self.grid,
            runner,
            channels=channels_of(len(runner.card.labels)),
            # On the CPU tiles share nothing but memory, so each goes alone.
            at_once=self.batch if runner.device.type == "cuda" else 1,
        )

    def all_labels(self, grey: npt.NDArray[Any], wanted: Box | None = None) -> Labels:
        """All labels of the model: 0 the rest and where there are no data, 1, 2, ... as its card
        has them."""
        wanted = Box(0, 0, *grey.shape) if wanted is None else wanted
        logits = self.logits(grey, wanted)
        if len(logits) == 1:
            found = logits[0] >= np.log(self.threshold / (1 - self.threshold))
        else:
            found = logits.argmax(0)
        return np.where(valid_pixels(grey[wanted.slices]), found, 0).astype(np.uint8)

    def label_part(self, grey: npt.NDArray[Any], wanted: Box) -> Labels:
        """Label 1 where the part `wanted` of the picture (y, x) is lamellar."""
        number = 1 + self.index_in(self._runner.card)
        return (self.all_labels(grey, wanted) == number).astype(np.uint8)

    def __call__(self, grey: npt.NDArray[Any]) -> Labels:
        """Label 1 where the picture (y, x) is lamellar."""
        valid_pixels(grey)
        return self.label_part(grey, Box(0, 0, *grey.shape))

    def index_in(self, card: SegmenterCard) -> int:
        """Which of the model's labels is wanted. Raises ConfigError where that is not clear."""
        wanted = self.label
        if wanted is None:
            wanted = card.labels[0] if len(card.labels) == 1 else "lamellar"
        if wanted not in card.labels:
            raise ConfigError(
                f"segment: the model {card.name!r} knows no label {wanted!r}, only "
                f"{', '.join(card.labels)}. Set `label` to one of them."
            )
        return card.labels.index(wanted)


@dataclass(frozen=True)
class _Where:
    device: Device
    precision: Precision


@dataclass(frozen=True)
class _Runner:
    """A network on its device."""

    card: SegmenterCard
    net: torch.nn.Module
    device: torch.device
    dtype: torch.dtype

    def __call__(self, stack: Float32) -> Float32:
        """Logits (n, c, y, x) of standardised pictures (n, y, x)."""
        torch = import_torch()
        with torch.inference_mode():
            given = torch.from_numpy(stack)[:, None].to(self.device, self.dtype)
            found = self.net(given.contiguous(memory_format=torch.channels_last))
            logits: Float32 = found.float().cpu().numpy()
        return logits


def _make_runner(path: Path, where: _Where) -> _Runner:
    device, dtype = choose_device(where.device, where.precision, key="segment.device")
    model = load_model(path)
    return _Runner(model.card, placed(model.net, device, dtype), device, dtype)


_runners: Kept[_Runner] = Kept(_make_runner)
