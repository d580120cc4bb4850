"""The losses, the discriminator, and training from public ESRGAN weights with all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from cemi_dask.denoise.checkpoints import load_model
from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.discriminator import Discriminator
from cemi_dask.denoise.training.losses import GeneratorLoss, Vgg19, adversarial, pixel_loss
from cemi_dask.denoise.training.options import LossOptions
from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.torchlib import import_vision
from tests.denoise.training import stripes, train

FEATURES, GROWTH, BLOCKS = 8, 32, 2


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- pixel differences


def test_pixel_losses_are_means_where_the_mask_is_1() -> None:
    output, target = random(3, 1, 8, 9), random(3, 1, 8, 9, seed=1)
    torch.testing.assert_close(pixel_loss(output, target), functional.l1_loss(output, target))
    torch.testing.assert_close(
        pixel_loss(output, target, kind="l2"), functional.mse_loss(output, target)
    )
    mask = torch.zeros_like(target)
    mask[..., :4] = 1
    torch.testing.assert_close(
        pixel_loss(output, target, mask), functional.l1_loss(output[..., :4], target[..., :4])
    )


@pytest.mark.parametrize("shift", [(0, 0), (1, -1), (-1, 0), (0, 1)])
def test_targets_a_pixel_off_cost_nothing_with_shift_px_1(shift: tuple[int, int]) -> None:
    target = random(2, 1, 16, 16)
    output = target.roll(shift, (-2, -1))
    assert float(pixel_loss(output, target, shift_px=1)) == 0
    if shift != (0, 0):
        assert float(pixel_loss(output, target)) > 0.1


def test_the_shift_is_found_for_each_picture() -> None:
    target = random(2, 1, 16, 16)
    output = torch.stack([target[0].roll(1, -1), target[1].roll(-1, -2)])
    assert float(pixel_loss(output, target, shift_px=1)) == 0
    assert float(pixel_loss(target.roll(2, -1), target, shift_px=1)) > 0.1


# ---------------------------------------------------------------- perceptual


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the keys and shapes of torchvision's vgg19, of random numbers."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    channels = [64, 64, 0, 128, 128, 0, *4 * [256], 0, *4 * [512], 0, *4 * [512]]
    state, number, inputs = {}, 0, 3
    for outputs in channels:
        if outputs:
            scale = (2 / (9 * inputs)) ** 0.5
            state[f"features.{number}.weight"] = scale * torch.randn(outputs, inputs, 3, 3)
            state[f"features.{number}.bias"] = torch.zeros(outputs)
            inputs = outputs
        number += 2 if outputs else 1
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, path)
    return path


def test_perceptual_loss_without_weights_says_how_to_give_them(tmp_path: Path) -> None:
    for missing in (None, str(tmp_path / "none.pth")):
        options = LossOptions(perceptual_weight=1, vgg19=missing)
        with pytest.raises(ConfigError, match=r"vgg19-dcbb9e9d\.pth.*perceptual_weight to 0"):
            GeneratorLoss(options, "cpu")


def test_other_weights_are_not_taken_for_vgg19(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UnreadableError, match="no weights of vgg19"):
        Vgg19(tmp_path / "other.pth")


def test_perceptual_loss_compares_features_before_relu(vgg19: Path) -> None:
    torchvision = import_vision("torchvision")
    output, target = random(1, 1, 32, 32), random(1, 1, 32, 32, seed=1)
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"]).eval()
    state = {
        key.removeprefix("features."): value
        for key, value in torch.load(vgg19, weights_only=True).items()
        if key.startswith("features.")
    }
    layers.load_state_dict(state)
    for layer in layers:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    x, y = ((grey.expand(-1, 3, -1, -1) - mean) / std for grey in (output, target))
    expected = torch.zeros(())
    names = {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0}  # conv1_2, 2_2, 3_4, 4_4, 5_4
    with torch.no_grad():
        for number, layer in enumerate(layers):
            x, y = layer(x), layer(y)
            expected = expected + names.get(number, 0) * functional.l1_loss(x, y)
        found = Vgg19(vgg19)(output, target)
    torch.testing.assert_close(found, expected)


# ---------------------------------------------------------------- adversarial


def test_the_discriminator_has_the_public_key_names_and_spectral_norm() -> None:
    net = Discriminator.seeded(0)
    keys = {key.partition(".")[0] for key in net.state_dict()}
    assert keys == {f"conv{k}" for k in range(10)}
    for k in range(10):
        assert (f"conv{k}.weight_u" in net.state_dict()) == (1 <= k <= 8)
    logits = net(random(2, 1, 32, 40))
    assert logits.shape == (2, 1, 32, 40)
    assert sum(p.numel() for p in net.parameters()) == 4_376_897 - 64 * 2 * 9  # grey, not RGB


def test_adversarial_loss_is_small_for_right_judgements() -> None:
    sure = torch.full((1, 1, 4, 4), 9.0)
    assert float(adversarial(sure, real=True)) < 1e-3 < float(adversarial(sure, real=False))


# ---------------------------------------------------------------- public generators


def generator(inputs: int, outputs: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of RRDBNet with the key names of the public files."""
    made = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, source: int, target: int) -> None:
        scale = 0.3 / (9 * source) ** 0.5
        state[f"{name}.weight"] = scale * torch.randn(target, source, 3, 3, generator=made)
        state[f"{name}.bias"] = 0.1 * torch.randn(target, generator=made)

    conv("conv_first", inputs, FEATURES)
    for block in range(BLOCKS):
        for rdb in (1, 2, 3):
            for k in range(1, 6):
                target = FEATURES if k == 5 else GROWTH
                conv(f"body.{block}.rdb{rdb}.conv{k}", FEATURES + GROWTH * (k - 1), target)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        conv(name, FEATURES, FEATURES)
    conv("conv_last", FEATURES, outputs)
    return state


def run_generator(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """RRDBNet at x4 as published (Wang et al. 2018), from its weights alone."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def leaky(x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(x, 0.2)

    first = conv("conv_first", x)
    body = first
    for block in range(BLOCKS):
        inner = body
        for rdb in (1, 2, 3):
            dense = [inner]
            for k in range(1, 5):
                dense.append(leaky(conv(f"body.{block}.rdb{rdb}.conv{k}", torch.cat(dense, 1))))
            inner = inner + 0.2 * conv(f"body.{block}.rdb{rdb}.conv5", torch.cat(dense, 1))
        body = body + 0.2 * inner
    x = first + conv("conv_body", body)
    for name in ("conv_up1", "conv_up2"):
        x = leaky(conv(name, functional.interpolate(x, scale_factor=2, mode="nearest")))
    return conv("conv_last", leaky(conv("conv_hr", x)))


def test_x4_rgb_weights_become_the_grey_network_at_scale_1(tmp_path: Path) -> None:
    state = generator(3, 3)
    torch.save({"params_ema": state}, tmp_path / "x4.pth")
    picture = random(1, 1, 32, 48)
    with torch.no_grad():
        ours = load_model(tmp_path / "x4.pth").net(picture)
        small = functional.avg_pool2d(picture, 4).expand(-1, 3, -1, -1)
        theirs = run_generator(state, small).mean(1, keepdim=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_x1_grey_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    state = generator(16, 1)
    torch.save({"params_ema": state}, tmp_path / "x1.pth")
    picture = random(1, 1, 32, 48)
    with torch.no_grad():
        ours = load_model(tmp_path / "x1.pth").net(picture)
        theirs = run_generator(state, functional.pixel_unshuffle(picture, 4))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 3), (16, 1)], ids=["x4 RGB", "x1 grey"])
def test_public_weights_are_fine_tuned_in_both_stages_with_all_losses(
    tmp_path: Path, vgg19: Path, inputs: int, outputs: int
) -> None:
    torch.save({"params_ema": generator(inputs, outputs)}, tmp_path / "public.pth")
    net = load_model(tmp_path / "public.pth").net
    before = {key: value.clone() for key, value in net.state_dict().items()}
    options: dict[str, Any] = {"iterations": 3, "log_every": 1}
    train(tmp_path / "semnet", net=net, **options)
    everything = {"perceptual_weight": 1.0, "vgg19": str(vgg19), "adversarial_weight": 0.1}
    _, result = train(tmp_path / "semgan", net=net, loss=everything, **options)
    assert result.step == 3
    assert all(not torch.equal(before[key], value) for key, value in net.state_dict().items())
    head = (tmp_path / "semgan" / "log.csv").read_text().splitlines()[0]
    assert head == ("step,minutes,learning_rate,loss,pixel,perceptual,adversarial,discriminator")


def test_l2_and_shift_tolerance_can_be_trained_with(tmp_path: Path) -> None:
    def shifted(step: int) -> Batch:
        batch = stripes(step)
        return Batch(batch.noisy, batch.target.roll(1, -1))

    train(tmp_path, shifted, iterations=2, loss={"pixel": "l2", "shift_px": 1})
    assert (tmp_path / "last.safetensors").exists()
