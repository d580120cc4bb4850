"""Weights for a network's encoder: from a file, or of public sets by name. Imports torch.

The sets of Stuckner et al. 2022 (npj Comput. Mater. 8, 200) were trained on microscopy
pictures (micronet), or on ImageNet and then on those (image-micronet). Their files,
``ENCODER_pretrained_microscopynet_v1.0.pth.tar`` and the like, are state dicts of the encoders
of segmentation-models-pytorch.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.learn.weights import Card, read_weights

MICROSCOPY_URL = "https://nasa-public-data.s3.amazonaws.com/microscopy_segmentation_models/"
MICROSCOPY_SETS = {"micronet": "microscopynet", "image-micronet": "imagenet-microscopynet"}
# Weights of what an encoder is trained with and a segmenter leaves away.
HEADS = ("fc.", "last_linear.", "classifier.", "head.")
TIMEOUT_S, BLOCK = 60, 1 << 20


def load_encoder(net: nn.Module, weights: str, *, encoder: str, base: Path) -> None:
    """Put public or own weights into the encoder of a network of `build_network`, in place.

    `weights` is a file (a state dict, read without running what it may hold, or safetensors),
    relative to `base`, or micronet or image-micronet, which are downloaded into torch's cache
    once. The first convolution takes as many channels as the network has: over colours summed
    for one, repeated and scaled for others, as segmentation-models-pytorch does. Raises
    ConfigError for a name that is none, UnreadableError for what cannot be read or downloaded
    or belongs to another encoder.
    """
    path = _microscopy_file(encoder, weights) if weights in MICROSCOPY_SETS else base / weights
    if not path.is_file():
        raise ConfigError(
            f"encoder_weights: {weights!r} is neither a file ({path}) nor one of "
            f"{', '.join(MICROSCOPY_SETS)}. Download the weights and give the file."
        )
    tensors, _ = read_weights(path, Card)
    target: Any = net.core.encoder  # type: ignore[union-attr]
    fill_encoder(target, tensors, path)


def fill_encoder(encoder: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load `tensors` into an encoder, the first convolution adapted; see `load_encoder`."""
    wanted = encoder.state_dict()
    given = {
        key: value
        for key, value in ((_plain_key(key), value) for key, value in tensors.items())
        if key in wanted or not key.startswith(HEADS)
    }
    # A counter that old files lack, and that does nothing here.
    missing = [key for key in wanted if key not in given and not key.endswith("batches_tracked")]
    strange = [key for key in given if key not in wanted]
    if missing or strange:
        raise UnreadableError(
            f"{path} holds weights of another encoder: {_some(missing, 'are missing')}; "
            f"{_some(strange, 'are not known')}. Take the file of this encoder."
        )
    first = first_convolution(wanted)
    if given[first].shape[1] != wanted[first].shape[1]:
        given[first] = adapted_channels(given[first], wanted[first].shape[1])
    wrong = [
        f"{key} {tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
        for key, value in given.items()
        if value.shape != wanted[key].shape
    ]
    if wrong:
        raise UnreadableError(
            f"{path} holds weights of another encoder: {_some(wrong, 'do not fit')}. Take the "
            "file of this encoder."
        )
    nn.Module.load_state_dict(encoder, dict(given), strict=False)


def first_convolution(state: Mapping[str, torch.Tensor]) -> str:
    """Key of the first convolution's weights."""
    return next(key for key, value in state.items() if value.ndim == 4)


def adapted_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """A first convolution's weights (out, colours, y, x) for another number of channels."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    colours = weight.shape[1]
    which = [channel % colours for channel in range(channels)]
    return weight[:, which] * (colours / channels)


def _plain_key(key: str) -> str:
    return key.removeprefix("encoder.").replace("features.module.", "features.")


def _some(keys: list[str], what: str) -> str:
    if not keys:
        return f"none {what}"
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{', '.join(keys[:3])}{more} {what}"


def microscopy_name(encoder: str, weights: str) -> str:
    """The name of the file of an encoder in one of the `MICROSCOPY_SETS`."""
    if encoder == "resnext101_32x8d":
        return "resnext101_pretrained_microscopynet_v1.0.pth.tar"
    # One file has been replaced by a better one.
    version = "1.1" if (encoder, weights) == ("resnet50", "micronet") else "1.0"
    return f"{encoder}_pretrained_{MICROSCOPY_SETS[weights]}_v{version}.pth.tar"


def _microscopy_file(encoder: str, weights: str) -> Path:
    """The file in torch's cache, downloaded where it is not there yet."""
    name = microscopy_name(encoder, weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(MICROSCOPY_URL + name, path)
    return path


def _download(url: str, path: Path) -> None:
    """Fetch `url` (https) to `path`: to a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.part")
    print(f"Downloading {url}", flush=True)
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,  # noqa: S310 (https)
            temporary.open("wb") as file,
        ):
            while block := answer.read(BLOCK):
                file.write(block)
    except (OSError, urllib.error.URLError) as error:
        temporary.unlink(missing_ok=True)
        raise UnreadableError(
            f"{url} cannot be downloaded ({error}). Fetch it elsewhere and give the file as "
            "encoder_weights."
        ) from error
    temporary.replace(path)
