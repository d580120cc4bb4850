"""Segmenting networks with their weights: `load_model` reads what a training wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from cemi_dask.errors import InputError
from cemi_dask.learn.weights import Card, fill, find_weights, names_in, read_weights
from cemi_dask.segment.networks import SegmenterSpec, build_network

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).with_name("models")


class SegmenterCard(Card):
    """What a user must know of a segmenter's weights; stored in their file."""

    spec: SegmenterSpec = Field(description="The network that the weights belong to.")
    labels: tuple[str, ...] = Field(min_length=1, description="What it tells apart, 1, 2, ...")
    patch_px: int = Field(gt=0, description="Side of the patches that it was trained on.")


@dataclass(frozen=True)
class LoadedSegmenter:
    """A network in evaluation mode, float32, on the CPU, and what its file says of it."""

    net: torch.nn.Module
    card: SegmenterCard


def model_path(model: str | Path) -> Path:
    """The weights file of a shipped model's name, or of a path.

    Raises ConfigError for what is neither, and UnreadableError for a file that is not there.
    """
    return find_weights(model, SHIPPED)


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return names_in(SHIPPED)


def load_model(model: str | Path) -> LoadedSegmenter:
    """The network of a shipped model's name or of a weights file.

    Raises ConfigError for an unknown name, UnreadableError for a file that is missing or
    corrupt, InputError for weights without our card, MissingExtraError without torch.
    """
    path = model_path(model)
    tensors, card = read_weights(path, SegmenterCard)
    if card is None:
        raise InputError(
            f"{path} has no model card, so its network and labels are unknown. Give weights of "
            "`cemi train segment`; public weights of encoders go into its config."
        )
    net = build_network(card.spec, len(card.labels), seed=0)
    fill(net, tensors, path)
    return LoadedSegmenter(net.float().eval(), card)
