"""Which network a segmenter is: `SegmenterSpec`, from which `build_network` makes modules.

The networks are those of segmentation-models-pytorch (Iakubovskii 2019), any architecture with
any encoder, by name.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cemi_dask.errors import ConfigError
from cemi_dask.learn.options import Options
from cemi_dask.torchlib import import_torch, import_vision

if TYPE_CHECKING:
    import torch

# Five times an encoder halves the picture; fewer do as well with such sides.
ENCODER_MULTIPLE = 32


class SegmenterSpec(Options):
    """An encoder with a decoder: U-Net++ (Zhou et al. 2018) with SE-ResNeXt-50, as in the paper."""

    architecture: str = Field(
        default="UnetPlusPlus",
        description="Class of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...",
    )
    encoder: str = Field(
        default="se_resnext50_32x4d",
        description="Encoder of segmentation-models-pytorch; tu-NAME takes one of timm.",
    )
    unshuffle: Literal[1, 2, 4] = Field(
        default=1,
        description="How many px of a side become channels at once: faster by its square, and "
        "labels are as much coarser.",
    )
    options: dict[str, Any] = Field(
        default={}, description="Further arguments of that class: encoder_depth, decoder_channels."
    )

    @property
    def multiple_px(self) -> int:
        """Pictures' sides must be multiples of this."""
        return ENCODER_MULTIPLE * self.unshuffle


PRESETS: dict[str, SegmenterSpec] = {
    "paper": SegmenterSpec(),
    # Fast on a CPU: a quarter of the size from the start, and no more than needed.
    "compact": SegmenterSpec(
        architecture="Unet",
        encoder="tu-resnet18",
        unshuffle=4,
        options={"encoder_depth": 4, "decoder_channels": [128, 64, 48, 32]},
    ),
}


def preset(value: Any) -> Any:
    """The network of a preset's name; anything else as it is. For fields of configs."""
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"should be {' or '.join(sorted(PRESETS))}, or keys of a network")
    return PRESETS[value]


NetworkChoice = Annotated[
    SegmenterSpec,
    BeforeValidator(preset),
    Field(description="A network, or the name of a preset: paper or compact."),
]


def _architecture(smp: Any, spec: SegmenterSpec) -> Any:
    """The class of the network. Raises ValueError for one that is none, or takes no such option."""
    found = getattr(smp, spec.architecture, None)
    known = inspect.signature(found).parameters if inspect.isclass(found) else {}
    if "encoder_name" not in known:
        raise ValueError("there is no such architecture")
    # Whatever else is given it hands on, and drops in silence.
    strange = [key for key in spec.options if key not in known]
    if strange:
        raise ValueError(f"options are {', '.join(key for key in known if key != 'kwargs')}")
    return found


def channels_of(labels: int) -> int:
    """Logits of a network for so many labels: one alone, else one each and one for the rest."""
    return 1 if labels == 1 else labels + 1


def build_network(spec: SegmenterSpec, labels: int, *, seed: int | None = None) -> torch.nn.Module:
    """The module of `spec`: (n, 1, y, x) float32 to logits (n, c, y, x), weights random.

    Sides are multiples of `spec.multiple_px`; c is `channels_of(labels)`. With a `seed` the
    weights are the same every time, and torch's own random state is left as it was. Raises
    ConfigError for an architecture, encoder or option that does not exist.
    """
    torch = import_torch()
    smp = import_vision("segmentation_models_pytorch")
    from cemi_dask.segment.modules import Unshuffled

    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            core = _architecture(smp, spec)(
                encoder_name=spec.encoder,
                encoder_weights=None,
                in_channels=spec.unshuffle**2,
                classes=channels_of(labels),
                **spec.options,
            )
        except Exception as error:  # smp and timm have no errors of their own
            told = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"segmentation-models-pytorch cannot make {spec.architecture} with the encoder "
                f"{spec.encoder!r} and options {spec.options}: {told}"
            ) from error
    return Unshuffled(core, spec.unshuffle)
