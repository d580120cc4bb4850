"""Weights of networks on disk: safetensors with a model card, and pickled checkpoints read safely.

torch is imported when it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

CARD_KEY = "cemi_model_card"
SUFFIXES = (".safetensors", ".pth")


class Card(BaseModel):
    """What a user must know of trained weights; stored in their file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="What the model is called.")
    data: str = Field(description="What it was trained on.")
    licence: str = Field(description="Terms under which the weights may be used.")
    metrics: dict[str, float] = Field(default={}, description="What was measured, held out.")
    training: dict[str, Any] = Field(default={}, description="The training's config and length.")


C = TypeVar("C", bound=Card)


def save_weights(
    path: str | Path,
    net: torch.nn.Module,
    card: Card,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> str:
    """Write the weights of `net` and the card as safetensors; the file's sha256.

    Whole numbers among them keep their type. Written to a temporary name, then renamed. The
    same weights and card give the same bytes.
    """
    torch = import_torch()
    from safetensors.torch import save

    kind = {"float32": torch.float32, "float16": torch.float16}[dtype]
    tensors = {
        key: value.detach().to("cpu", kind if value.is_floating_point() else None).contiguous()
        for key, value in net.state_dict().items()
    }
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(save(tensors, metadata={CARD_KEY: card.model_dump_json()}))
    temporary.replace(path)
    return file_sha256(path)


def find_weights(model: str | Path, shipped: Path) -> Path:
    """The weights file of a path, or of the name of a model in the folder `shipped`.

    Raises ConfigError for what is neither, and UnreadableError for a file that is not there.
    """
    path = Path(model)
    named = shipped / f"{model}.safetensors"
    if is_file_name(model):
        if not path.is_file():
            raise UnreadableError(f"There are no weights at {path}. Correct the path.")
        return path
    if path.name == str(model) and named.is_file():
        return named
    raise ConfigError(
        f"{str(model)!r} is no model: give the name of a shipped one "
        f"({', '.join(names_in(shipped))}) or the path of a weights file ({', '.join(SUFFIXES)})."
    )


def is_file_name(model: str | Path) -> bool:
    """True for the path of a weights file, False for the name of a shipped model."""
    return Path(model).suffix.lower() in SUFFIXES


def names_in(shipped: Path) -> list[str]:
    """Names of the models in a folder."""
    return sorted(path.stem for path in shipped.glob("*.safetensors"))


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path, card: type[C]) -> tuple[dict[str, torch.Tensor], C | None]:
    """(tensors by name, the card where there is one) of a .safetensors or a pickled file.

    Raises UnreadableError for a file that is no such thing, is cut, or holds other objects
    than tensors. Pickled files are read with ``weights_only=True``.
    """
    torch = import_torch()
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                text = (file.metadata() or {}).get(CARD_KEY)
            return tensors, None if text is None else card.model_validate_json(text)
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


def fill(net: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put `tensors` into `net`. Raises UnreadableError where they are those of another."""
    try:
        net.load_state_dict(dict(tensors))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise UnreadableError(
            f"The weights in {path} do not fit the network that its card names: {told}"
        ) from error
