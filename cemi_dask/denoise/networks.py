"""Which network a denoiser is: small frozen models, from which `build_network` makes modules.

The modules themselves are spandrel's: RRDBNet, the generator of ESRGAN and Real-ESRGAN
(Wang et al. 2018, 2021), and DRUNet, a U-Net without biases (Zhang et al. 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cemi_dask.torchlib import import_torch, import_vision

if TYPE_CHECKING:
    import torch


class RRDBSpec(BaseModel):
    """The paper's generator at scale 1: residual-in-residual dense blocks at a quarter of the size.

    The picture is unshuffled by 4 into 16 channels, goes through `blocks` times three dense
    blocks of five convolutions (growth 32), and is brought back by two up-sampling stages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["rrdb"] = Field(default="rrdb", description="Says which network it is.")
    features: int = Field(default=64, ge=4, description="Channels between dense blocks.")
    blocks: int = Field(default=23, ge=1, description="Residual-in-residual dense blocks.")


class UNetSpec(BaseModel):
    """A U-Net of residual blocks without biases, on a picture unshuffled into channels.

    Without biases the network commutes with scaling the grey levels (Mohan et al. 2020), so
    that one set of weights serves all contrasts and noise levels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["unet"] = Field(default="unet", description="Says which network it is.")
    channels: tuple[int, int, int, int] = Field(
        default=(64, 64, 96, 96), description="Channels at the four sizes, largest first."
    )
    blocks: int = Field(default=1, ge=1, description="Residual blocks at each size, each way.")
    unshuffle: Literal[1, 2, 4] = Field(
        default=2, description="How many px of a side become channels at once."
    )


NetworkSpec = Annotated[RRDBSpec | UNetSpec, Field(discriminator="family")]
UNET_MULTIPLE = 8  # three times the U-Net halves the picture
PRESETS: dict[str, RRDBSpec | UNetSpec] = {"compact": UNetSpec(), "paper": RRDBSpec()}


def preset(value: Any) -> Any:
    """The network of a preset's name; anything else as it is. For fields of configs."""
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"should be {' or '.join(sorted(PRESETS))}, or keys of a network")
    return PRESETS[value]


NetworkChoice = Annotated[
    Annotated[NetworkSpec, BeforeValidator(preset)] | None,
    Field(
        description="A network, or the name of a preset: compact or paper; null: that of `init`, "
        "else compact."
    ),
]


def build_network(spec: RRDBSpec | UNetSpec, *, seed: int | None = None) -> torch.nn.Module:
    """The module of `spec`: (n, 1, y, x) float32 to the same shape, any size, weights random.

    With a `seed` the weights are the same every time, and torch's own random state is left
    as it was. Grey levels are about 0..1.
    """
    torch = import_torch()
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        if isinstance(spec, RRDBSpec):
            return rrdb_network(features=spec.features, blocks=spec.blocks)
        return _unet(spec)


def rrdb_network(*, features: int, blocks: int) -> torch.nn.Module:
    """spandrel's RRDBNet at scale 1 for grey pictures: x4 up-sampling of an unshuffled picture."""
    esrgan = import_vision("spandrel.architectures.ESRGAN")
    net: torch.nn.Module = esrgan.ESRGAN(
        in_nc=16, out_nc=1, num_filters=features, num_blocks=blocks, scale=4, shuffle_factor=4
    )
    return net


def _unet(spec: UNetSpec) -> torch.nn.Module:
    drunet = import_vision("spandrel.architectures.DRUNet")
    from cemi_dask.denoise.modules import Unshuffled

    channels = spec.unshuffle**2
    core = drunet.DRUNet(in_nc=channels, out_nc=channels, nc=list(spec.channels), nb=spec.blocks)
    return Unshuffled(core, spec.unshuffle, UNET_MULTIPLE)
