"""The U-Net discriminator with spectral norm of Real-ESRGAN. Imports torch: import it late."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import spectral_norm


class Discriminator(nn.Module):
    """Real or denoised, judged at every pixel: (n, 1, y, x) to logits (n, 1, y, x).

    UNetDiscriminatorSN of Wang et al. 2021, with its key names conv0..conv9: three
    convolutions of stride 2 down, bilinear up with the way down added, spectral norm
    (Miyato et al. 2018) on all but the first and the last. Sides are multiples of 8 px.
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        f = features
        self.conv0 = nn.Conv2d(1, f, 3, 1, 1)
        self.conv1 = spectral_norm(nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False))
        self.conv2 = spectral_norm(nn.Conv2d(2 * f, 4 * f, 4, 2, 1, bias=False))
        self.conv3 = spectral_norm(nn.Conv2d(4 * f, 8 * f, 4, 2, 1, bias=False))
        self.conv4 = spectral_norm(nn.Conv2d(8 * f, 4 * f, 3, 1, 1, bias=False))
        self.conv5 = spectral_norm(nn.Conv2d(4 * f, 2 * f, 3, 1, 1, bias=False))
        self.conv6 = spectral_norm(nn.Conv2d(2 * f, f, 3, 1, 1, bias=False))
        self.conv7 = spectral_norm(nn.Conv2d(f, f, 3, 1, 1, bias=False))
        self.conv8 = spectral_norm(nn.Conv2d(f, f, 3, 1, 1, bias=False))
        self.conv9 = nn.Conv2d(f, 1, 3, 1, 1)

    @classmethod
    def seeded(cls, seed: int) -> Discriminator:
        """A discriminator whose weights come from `seed`; torch's own state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls()

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits, positive where a pixel looks real."""
        x0 = _leaky(self.conv0(picture))
        x1 = _leaky(self.conv1(x0))
        x2 = _leaky(self.conv2(x1))
        x3 = _leaky(self.conv3(x2))
        x4 = _leaky(self.conv4(_twice(x3))) + x2
        x5 = _leaky(self.conv5(_twice(x4))) + x1
        x6 = _leaky(self.conv6(_twice(x5))) + x0
        logits: torch.Tensor = self.conv9(_leaky(self.conv8(_leaky(self.conv7(x6)))))
        return logits


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, 0.2)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
