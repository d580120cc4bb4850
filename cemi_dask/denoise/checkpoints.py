"""Networks with their weights: what `save_model` writes and `load_model` reads.

Our files are safetensors with a model card as JSON in the header. Public checkpoints (.pth,
.safetensors) of the architectures that spandrel knows are read as well, and those of the
ESRGAN family are turned into the grey network at scale 1 (`grey_generator`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cemi_dask.denoise.networks import PRESETS, NetworkSpec, RRDBSpec, UNetSpec, build_network
from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.torchlib import import_torch, import_vision

if TYPE_CHECKING:
    import torch

CARD_KEY = "cemi_model_card"
SHIPPED = Path(__file__).with_name("models")
SUFFIXES = (".safetensors", ".pth")


class ModelCard(BaseModel):
    """What a user must know of trained weights; stored in their file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="What the model is called.")
    spec: NetworkSpec = Field(description="The network that the weights belong to.")
    data: str = Field(description="What it was trained on.")
    licence: str = Field(description="Terms under which the weights may be used.")
    metrics: dict[str, float] = Field(default={}, description="What was measured, held out.")
    training: dict[str, Any] = Field(default={}, description="The training's config and length.")


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


def save_model(
    path: str | Path,
    net: torch.nn.Module,
    card: ModelCard,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> str:
    """Write the weights of `net` and the card as safetensors; the file's sha256.

    Written to a temporary name, then renamed. The same weights and card give the same bytes.
    """
    torch = import_torch()
    from safetensors.torch import save

    kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
    tensors = {k: v.detach().to("cpu", kind).contiguous() for k, v in net.state_dict().items()}
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(save(tensors, metadata={CARD_KEY: card.model_dump_json()}))
    temporary.replace(path)
    return file_sha256(path)


def model_path(model: str | Path) -> Path:
    """The weights file of a shipped model's name, or of a path.

    Raises ConfigError for what is neither, and UnreadableError for a file that is not there.
    """
    path = Path(model)
    shipped = SHIPPED / f"{model}.safetensors"
    if is_file_name(model):
        if not path.is_file():
            raise UnreadableError(f"There are no weights at {path}. Correct the path.")
        return path
    if path.name == str(model) and shipped.is_file():
        return shipped
    raise ConfigError(
        f"{str(model)!r} is no model: give the name of a shipped one "
        f"({', '.join(shipped_models())}) or the path of a weights file ({', '.join(SUFFIXES)})."
    )


def is_file_name(model: str | Path) -> bool:
    """True for the path of a weights file, False for the name of a shipped model."""
    return Path(model).suffix.lower() in SUFFIXES


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(model: str | Path) -> LoadedModel:
    """The network of a shipped model's name or of a weights file, on the CPU, in float32.

    Raises ConfigError for an unknown name, UnreadableError for a file that is missing or
    corrupt, InputError for one whose network cannot denoise grey pictures, and
    MissingExtraError without torch. Pickled files are read with ``weights_only=True``.
    """
    path = model_path(model)
    tensors, card = read_weights(path)
    if card is None:
        net, architecture = _public_network(tensors, path)
    else:
        net, architecture = build_network(card.spec, seed=0), card.spec.family
        _fill(net, tensors, path)
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


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], ModelCard | None]:
    """(tensors by name, the card where there is one) of a .safetensors or .pth file.

    Raises UnreadableError for a file that is no such thing, is cut, or holds other objects
    than tensors.
    """
    torch = import_torch()
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                text = (file.metadata() or {}).get(CARD_KEY)
            return tensors, None if text is None else ModelCard.model_validate_json(text)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ValidationError as error:
        raise UnreadableError(
            f"The model card in {path} is not valid: {error.errors()[0]['msg']}. Update "
            "cemi_dask, or use other weights."
        ) from error
    except Exception as error:  # each library has its own errors for a damaged file
        told = " ".join(str(error).split())[:200]
        raise UnreadableError(
            f"{path} holds no weights that can be read safely ({told}). Download or copy it again."
        ) from error
    return _plain_state(state, path), None


def _plain_state(state: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a public checkpoint: params_ema, else params, else itself."""
    torch = import_torch()
    for key in ("params_ema", "params", "state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state:
        raise UnreadableError(f"{path} holds no state dict. Give a file of weights.")
    others = [k for k, v in state.items() if not isinstance(v, torch.Tensor)]
    if others:
        raise UnreadableError(f"{path} holds {others[0]!r}, which is no tensor. Give weights.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _fill(net: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        net.load_state_dict(dict(tensors))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise UnreadableError(
            f"The weights in {path} do not fit the network that its card names: {told}"
        ) from error


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
