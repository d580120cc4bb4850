"""Small segmenters with random weights, written as files."""

from __future__ import annotations

from pathlib import Path

import torch

from cemi_dask.learn.weights import save_weights
from cemi_dask.segment.checkpoints import SegmenterCard
from cemi_dask.segment.networks import SegmenterSpec, build_network

# With squeeze and excitation, so that what a pixel gets depends on its whole tile.
SMALL = SegmenterSpec(
    architecture="Unet",
    encoder="tu-mobilenetv3_small_050",
    options={"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
)


def card_of(spec: SegmenterSpec, labels: tuple[str, ...]) -> SegmenterCard:
    return SegmenterCard(
        name="random", spec=spec, labels=labels, patch_px=64, data="nothing", licence="none"
    )


def written_segmenter(
    path: Path,
    spec: SegmenterSpec = SMALL,
    *,
    labels: tuple[str, ...] = ("lamellar",),
    seed: int = 0,
) -> Path:
    """A network whose logits are of both signs on noise."""
    net = build_network(spec, len(labels), seed=seed).eval()
    noise = torch.randn(4, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = net(noise)
        head = net.core.segmentation_head[0]
        spread = logits.std((0, 2, 3)).clamp(min=1e-6)
        head.bias.sub_(logits.mean((0, 2, 3))).div_(spread)
        head.weight.div_(spread[:, None, None, None])
    save_weights(path, net, card_of(spec, labels))
    return path
