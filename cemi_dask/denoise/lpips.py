"""LPIPS, the learned perceptual distance of two pictures, from weights that the user brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.torchlib import import_torch, import_vision

# Layers (after ReLU) of torchvision's `features` whose activations are compared.
LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}
# The colours' means and deviations on which the backbones were trained, for values -1..1.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

UNAVAILABLE = (
    "LPIPS is unavailable without its weights. Put torchvision's backbone (alexnet*.pth or "
    "vgg16*.pth, ImageNet) and the linear layers of LPIPS 0.1 (alex.pth or vgg.pth, in the "
    "package lpips under weights/v0.1) into one folder and give it as --lpips-weights."
)


class Lpips:
    """The distance of Zhang et al. 2018 (The unreasonable effectiveness of deep features as a
    perceptual metric, CVPR; version 0.1, linear layers), with AlexNet or VGG16.

    `folder` holds the backbone's state dict as torchvision publishes it (``alexnet*.pth`` or
    ``vgg16*.pth``) and the linear layers (``alex.pth`` or ``vgg.pth``) as the package lpips
    does. Values of the two networks cannot be compared; AlexNet is taken where both are there.
    Raises ConfigError where a file is missing, UnreadableError where one is not what its name
    says, MissingExtraError without torch. Files are read as tensors alone, never as code.
    """

    def __init__(self, folder: Path) -> None:
        self.network, backbone, linear = _files(folder)
        models = import_vision("torchvision.models")
        self._features = getattr(models, BACKBONES[self.network])(weights=None).features.eval()
        published, start = _read(backbone), "features."
        own = {k.removeprefix(start): v for k, v in published.items() if k.startswith(start)}
        try:
            self._features.load_state_dict(own)
            values = _read(linear)
            self._weights = [values[f"lin{k}.model.1.weight"] for k in range(5)]
        except (RuntimeError, KeyError) as error:
            raise UnreadableError(
                f"The files in {folder} are not the weights of LPIPS with {self.network}: "
                f"{str(error).splitlines()[0]}. {UNAVAILABLE}"
            ) from error

    def __call__(
        self, picture: npt.NDArray[Any], reference: npt.NDArray[Any], *, grey_range: float = 255.0
    ) -> float:
        """Distance of two grey pictures (y, x), 0 for equal ones; the mean over all pixels."""
        torch = import_torch()
        with torch.inference_mode():
            ours, theirs = (self._activations(a, grey_range) for a in (picture, reference))
            total = 0.0
            for a, b, weight in zip(ours, theirs, self._weights, strict=True):
                difference = (_unit(a) - _unit(b)) ** 2
                total += float(torch.nn.functional.conv2d(difference, weight).mean())
        return total

    def _activations(self, picture: npt.NDArray[Any], grey_range: float) -> Iterable[Any]:
        torch = import_torch()
        grey = torch.from_numpy(np.asarray(picture, np.float32)) * (2 / grey_range) - 1
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x = (grey.expand(1, 3, *grey.shape) - shift) / scale
        last = LAYERS[self.network][-1]
        for k, layer in enumerate(self._features[: last + 1]):
            x = layer(x)
            if k in LAYERS[self.network]:
                yield x


def _unit(activation: Any) -> Any:
    """Activations (1, c, h, w) scaled to unit length over the channels."""
    return activation / ((activation**2).sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _files(folder: Path) -> tuple[str, Path, Path]:
    """(network, backbone file, linear file) of the first network that is complete."""
    for network, name in BACKBONES.items():
        linear = folder / f"{network}.pth"
        backbones = sorted(folder.glob(f"{name}*.pth"))
        if linear.is_file() and backbones:
            return network, backbones[0], linear
    raise ConfigError(f"{folder} holds no complete set of weights. {UNAVAILABLE}")


def _read(path: Path) -> Any:
    """The tensors of a file, by name."""
    torch = import_torch()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise UnreadableError(
            f"{path} cannot be read as weights: {str(error).splitlines()[0]}. {UNAVAILABLE}"
        ) from error
