"""Denoising networks with their weights: `load_model` reads what `save_weights` wrote.

Our files are safetensors with a model card as JSON in the header. Public checkpoints (.pth,
.safetensors) of the architectures that spandrel knows are read as well, and those of the
ESRGAN family are turned into the grey network at scale 1 (`grey_generator`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cemi_dask.denoise.networks import PRESETS, NetworkSpec, RRDBSpec, UNetSpec, build_network
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.learn.weights import (
    Card,
    file_sha256,
    fill,
    find_weights,
    names_in,
    read_weights,
)
from cemi_dask.torchlib import import_vision

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).with_name("models")


class ModelCard(Card):
    """What a user must know of a denoiser's weights; stored in their file."""

    spec: NetworkSpec = Field(description="The network that the weights belong to.")


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode, what its file says of it, and which file that was.

    `net` takes and gives (n, 1, y, x) float32 grey levels of about 0..1. `card` is None for
    public checkpoints, which carry none.
    """

    net: torch.nn.Module
    architecture: str
    card: ModelCard | None
    sha256: str


def model_path(model: str | Path) -> Path:
    """The weights file of a shipped model's name, or of a path.

    Raises ConfigError for what is neither, and UnreadableError for a file that is not there.
    """
    return find_weights(model, SHIPPED)


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return names_in(SHIPPED)


def load_model(model: str | Path) -> LoadedModel:
    """The network of a shipped model's name or of a weights file, on the CPU, in float32.

    Raises ConfigError for an unknown name, UnreadableError for a file that is missing or
    corrupt, InputError for one whose network cannot denoise grey pictures, and
    MissingExtraError without torch. Pickled files are read with ``weights_only=True``.
    """
    path = model_path(model)
    tensors, card = read_weights(path, ModelCard)
    if card is None:
        net, architecture = _public_network(tensors, path)
    else:
        net, architecture = build_network(card.spec, seed=0), card.spec.family
        fill(net, tensors, path)
    return LoadedModel(net.float().eval(), architecture, card, file_sha256(path))


def first_network(
    network: RRDBSpec | UNetSpec | None, init: str | None, *, seed: int
) -> tuple[torch.nn.Module, RRDBSpec | UNetSpec]:
    """(the network as a training starts, its spec): random from the seed, or from `init`.

    `init` is a shipped model's name or a weights file; `network` None is that of `init`, else
    the compact one. Raises ConfigError where both differ, or for what cannot be trained.
    """
    if init is None:
        spec = network or PRESETS["compact"]
        return build_network(spec, seed=seed), spec
    loaded = load_model(init)
    if loaded.card is not None:
        spec = loaded.card.spec
    elif loaded.architecture == "ESRGAN":
        sizes: Any = loaded.net.hyperparameters
        spec = RRDBSpec(features=sizes["num_filters"], blocks=sizes["num_blocks"])
    else:
        raise ConfigError(
            f"init: {init} holds a {loaded.architecture} network, which cannot be trained "
            "here. Give weights of `cemi train`, or of the ESRGAN family."
        )
    if network not in (None, spec):
        raise ConfigError(
            f"init: {init} holds the network {spec!r}, and `network` asks for {network!r}. Leave "
            "`network` away."
        )
    return loaded.net, spec


def _public_network(tensors: dict[str, torch.Tensor], path: Path) -> tuple[torch.nn.Module, str]:
    """(network, its architecture's name) of a checkpoint without a card."""
    from cemi_dask.denoise.modules import GreyAsColour

    spandrel = import_vision("spandrel")
    if is_generator(tensors):
        return grey_generator(tensors), "ESRGAN"
    try:
        found = spandrel.ModelLoader().load_from_state_dict(dict(tensors))
    except Exception as error:  # spandrel's own, and whatever a strange file brings up
        raise InputError(
            f"The network in {path} is none that can be told from its weights "
            f"({type(error).__name__}). Known: those of spandrel, and files of `cemi train`."
        ) from error
    ends = (found.input_channels, found.output_channels)
    if found.scale != 1 or ends not in {(1, 1), (3, 3)}:
        raise InputError(
            f"{path} holds {found.architecture.name} for {ends[0]} to {ends[1]} channels at scale "
            f"{found.scale}. A denoiser needs scale 1, and grey or colour pictures."
        )
    net = found.model if ends == (1, 1) else GreyAsColour(found.model)
    return net, str(found.architecture.name)


# ---------------------------------------------------------------- the ESRGAN family


def is_generator(tensors: Mapping[str, Any]) -> bool:
    """True for weights of the ESRGAN family, in any of its public spellings."""
    firsts = (
        "body.0.rdb1.conv1.weight",
        "RRDB_trunk.0.RDB1.conv1.weight",
        "model.1.sub.0.RDB1.conv1.0.weight",
    )
    return any(key in tensors for key in firsts)


def grey_generator(tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """The generator at scale 1 for grey pictures from public weights, x1, x2 or x4, grey or RGB.

    A x4 RGB network on the picture reduced by 4 becomes one on the picture unshuffled by 4:
    its first convolution, summed over colours, divided by 16 and repeated for the 16
    subpixels, sees the mean of each 4 x 4 cell; its last is averaged over colours. So it
    starts as the public network applied to the reduced picture, to be fine-tuned from there.
    """
    esrgan = import_vision("spandrel.architectures.ESRGAN")
    try:
        found = esrgan.ESRGANArch().load(dict(tensors)).model
    except Exception as error:
        raise InputError(f"These weights look like ESRGAN's but cannot be used: {error}") from error
    parameters = found.hyperparameters
    spec = RRDBSpec(features=parameters["num_filters"], blocks=parameters["num_blocks"])
    net = build_network(spec, seed=0)
    state = found.state_dict()
    last = max((k for k in state if k.endswith(".weight")), key=lambda k: int(k.split(".")[1]))
    if parameters["scale"] != 4 or len(state) != len(net.state_dict()):
        raise InputError(
            f"These ESRGAN weights up-sample {parameters['scale']} times; 4 are needed (the x4 "
            "networks, or x1 and x2 ones on an unshuffled picture)."
        )
    first = "model.0.weight"
    state[first] = _grey_first(state[first], parameters["out_nc"])
    for key in (last, last.replace("weight", "bias")):
        state[key] = state[key].mean(0, keepdim=True)
    net.load_state_dict(state)
    return net


def _grey_first(weight: torch.Tensor, colours: int) -> torch.Tensor:
    """The first convolution for 16 subpixels of one grey channel; see `grey_generator`."""
    features, channels, height, width = weight.shape
    cells = channels // colours  # 1 (no unshuffling), 4 or 16 subpixels, colour by colour
    grey = weight.reshape(features, colours, cells, height, width).sum(1)
    side = round(cells**0.5)
    grey = grey.reshape(features, side, side, height, width)
    repeat = 4 // side
    spread = grey.repeat_interleave(repeat, 1).repeat_interleave(repeat, 2) / repeat**2
    return spread.reshape(features, 16, height, width)
