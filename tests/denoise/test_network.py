"""Frames through a network: tiles, devices, grey levels, weights that are wrong."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cemi_dask.denoise import DENOISERS, Network, denoise
from cemi_dask.denoise.checkpoints import (
    ModelCard,
    is_generator,
    load_model,
    shipped_models,
)
from cemi_dask.denoise.inference import (
    RunnerOptions,
    get_runner,
    reach_of,
    run_tiled,
    unet_reach_px,
)
from cemi_dask.denoise.networks import PRESETS, RRDBSpec, UNetSpec, build_network
from cemi_dask.errors import ConfigError, InputError, ResourceError, UnreadableError
from cemi_dask.frameset import Frames
from cemi_dask.learn.weights import save_weights
from tests.denoise.networks import SMALL_RRDB, SMALL_UNET, card_of, written_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_model(tmp_path_factory.mktemp("weights") / "small.safetensors")


def float_picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, *shape), np.float32)


SPECS = [
    SMALL_UNET,
    UNetSpec(channels=(4, 6, 6, 6), blocks=2, unshuffle=1),
    UNetSpec(channels=(4, 4, 4, 4), blocks=1, unshuffle=4),
]


@pytest.mark.parametrize("spec", SPECS)
def test_tiled_equals_untiled(spec: UNetSpec, tmp_path: Path) -> None:
    path = written_model(tmp_path / "w.safetensors", spec)
    runner = get_runner(path, RunnerOptions("cpu"))
    picture = float_picture(331, 517)
    # The halo is all that the network sees, so only the order of sums may differ.
    np.testing.assert_allclose(
        run_tiled(runner, picture, 96), run_tiled(runner, picture, 4096), atol=1e-5
    )


def test_tiled_equals_untiled_for_the_papers_generator(tmp_path: Path) -> None:
    # A generator of several blocks, in which only dense blocks' small residuals reach beyond the
    # halo; weights scaled up so that it does more than the identity.
    spec = RRDBSpec(features=8, blocks=4)
    net = build_network(spec, seed=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    path = tmp_path / "w.safetensors"
    save_weights(path, net, card_of(spec))
    runner = get_runner(path, RunnerOptions("cpu"))
    picture = float_picture(96, 1100)
    tiled, whole = run_tiled(runner, picture, 400), run_tiled(runner, picture, 4096)
    assert whole.std() > 1e-3
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_the_halo_is_at_least_what_the_network_sees(spec: UNetSpec) -> None:
    net = build_network(spec, seed=0)
    picture = torch.rand(1, 1, 512, 512, requires_grad=True)
    seen = torch.zeros(512, dtype=torch.bool)
    # All places of one cell, as they look differently far.
    for column in range(256, 256 + 8 * spec.unshuffle):
        (gradient,) = torch.autograd.grad(net(picture)[0, 0, 256, column], picture)
        seen |= torch.roll((gradient[0, 0] != 0).any(0), 256 - column)
    places = torch.nonzero(seen)[:, 0] - 256
    reach = max(-int(places.min()), int(places.max()))
    assert reach <= unet_reach_px(spec)


def test_any_size_and_type_comes_back_as_it_was(weights: Path) -> None:
    method = Network(model=str(weights))
    for shape in ((1, 40), (7, 5), (33, 50)):
        frame = np.random.default_rng(1).integers(0, 60_000, shape).astype(np.uint16)
        out = method(frame)
        assert out.shape == shape
        assert out.dtype == np.uint16


def test_without_biases_contrast_does_not_matter(weights: Path) -> None:
    method = Network(model=str(weights))
    frame = np.random.default_rng(1).normal(0, 1, (64, 80)).astype(np.float32)
    # Float frames are scaled to their own range, so the same picture in other units is the same.
    np.testing.assert_allclose(method(frame * 1000 + 50) / 1000 - 0.05, method(frame), atol=1e-4)


def test_a_batch_gives_what_single_frames_give(weights: Path) -> None:
    stack = np.random.default_rng(2).integers(0, 255, (5, 40, 56)).astype(np.uint8)
    method = Network(model=str(weights), batch=3)
    frames = Frames.from_array(stack)
    lazy = denoise(frames, method=method)
    assert len(lazy) == 5
    together = lazy.data.compute(scheduler="sync")
    np.testing.assert_array_equal(together, np.stack([method(frame) for frame in stack]))


def test_one_network_per_process(weights: Path) -> None:
    first = get_runner(weights, RunnerOptions())
    assert get_runner(weights, RunnerOptions()) is first
    assert first.takes_batches == torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(weights: Path) -> None:
    with pytest.raises(ResourceError, match="no CUDA device"):
        Network(model=str(weights), device="cuda")(np.eye(32, dtype=np.float32))


@pytest.mark.gpu
def test_cpu_and_gpu_agree() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (300, 400)).astype(np.uint8)
    for model in shipped_models():
        on_cpu = Network(model=model, device="cpu")(frame).astype(float)
        on_gpu = Network(model=model, device="cuda")(frame).astype(float)
        assert np.abs(on_cpu - on_gpu).max() <= 0.01 * 255


def test_openvino_gives_what_torch_gives(weights: Path) -> None:
    pytest.importorskip("openvino")
    frame = np.random.default_rng(0).normal(100, 20, (150, 201)).astype(np.float32)
    plain = Network(model=str(weights))(frame)
    for tile_px in (64, 2048):
        other = Network(model=str(weights), backend="openvino", tile_px=tile_px)(frame)
        # Both in float32, with sums in another order.
        np.testing.assert_allclose(other, plain, atol=1e-5 * np.ptp(frame))


def test_openvino_knows_no_gpu() -> None:
    with pytest.raises(ConfigError, match="openvino runs on the CPU"):
        DENOISERS.parse({"method": "network", "backend": "openvino", "device": "cuda"})


def test_bfloat16_is_near_float32(weights: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (64, 96)).astype(np.uint8)
    exact = Network(model=str(weights), precision="float32")(frame).astype(float)
    narrow = Network(model=str(weights), precision="bfloat16")(frame).astype(float)
    # Three significant digits in every layer.
    assert np.abs(exact - narrow).max() <= 0.02 * 255


# ---------------------------------------------------------------- weights


def test_a_model_keeps_its_card_and_its_bytes(tmp_path: Path) -> None:
    first, second = (written_model(tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    loaded = load_model(first)
    assert loaded.card == card_of(SMALL_UNET)
    assert loaded.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
    assert loaded.sha256 == Network(model=str(first)).fingerprint()
    assert not loaded.net.training


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    net = build_network(SMALL_UNET, seed=0)
    save_weights(tmp_path / "h.safetensors", net, card_of(SMALL_UNET), dtype="float16")
    loaded = load_model(tmp_path / "h.safetensors")
    for name, tensor in loaded.net.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, net.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_unknown_and_missing_models_are_said(tmp_path: Path) -> None:
    frame = np.eye(32, dtype=np.float32)
    with pytest.raises(ConfigError, match="no model") as caught:
        Network(model="kompakt")(frame)
    for name in shipped_models():
        assert name in str(caught.value)
    with pytest.raises(UnreadableError, match=r"nowhere\.pth"):
        Network(model=str(tmp_path / "nowhere.pth"))(frame)


def test_corrupt_weights_are_said(tmp_path: Path, weights: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-100])
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    for path in (cut, text):
        with pytest.raises(UnreadableError, match=path.name):
            load_model(path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps({"params": Attack()}))
    zipped = tmp_path / "zipped.pth"
    torch.save({"params": Attack()}, zipped)
    for path in (evil, zipped):
        with pytest.raises(UnreadableError, match=path.name):
            load_model(path)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    save_weights(path, build_network(SMALL_RRDB, seed=0), card_of(SMALL_UNET))
    with pytest.raises(UnreadableError, match="do not fit"):
        load_model(path)


def test_a_card_of_another_version_is_said(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "new.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"cemi_model_card": '{"name": "x"}'})
    with pytest.raises(UnreadableError, match="model card"):
        load_model(path)


# ---------------------------------------------------------------- public checkpoints


def public_generator(*, features: int, blocks: int, first: int, last: int) -> dict:
    """Random weights under the public names of Real-ESRGAN's RRDBNet (growth 32)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv_first": (features, first), "conv_body": (features, features)}
    for block in range(blocks):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                out = 32 if number < 5 else features
                name = f"body.{block}.rdb{dense}.conv{number}"
                shapes[name] = (out, features + 32 * (number - 1))
    for name in ("conv_up1", "conv_up2", "conv_hr"):
        shapes[name] = (features, features)
    shapes["conv_last"] = (last, features)
    state = {}
    for name, (out, inside) in shapes.items():
        scale = (inside * 9) ** -0.5
        state[f"{name}.weight"] = scale * torch.randn(out, inside, 3, 3, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return state


def as_public_x4(state: dict, picture: torch.Tensor) -> torch.Tensor:
    """The x4 network as published, from its weights: the oracle for what we load."""
    from torch.nn import functional as f

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return f.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def up(x: torch.Tensor) -> torch.Tensor:
        return f.interpolate(x, scale_factor=2, mode="nearest")

    first = conv("conv_first", picture)
    x = first
    block = 0
    while f"body.{block}.rdb1.conv1.weight" in state:
        inside = x
        for dense in (1, 2, 3):
            parts = [inside]
            for number in range(1, 6):
                out = conv(f"body.{block}.rdb{dense}.conv{number}", torch.cat(parts, 1))
                parts.append(f.leaky_relu(out, 0.2))
            inside = inside + 0.2 * out
        x = x + 0.2 * inside
        block += 1
    x = first + conv("conv_body", x)
    for name in ("conv_up1", "conv_up2"):
        x = f.leaky_relu(conv(name, up(x)), 0.2)
    return conv("conv_last", f.leaky_relu(conv("conv_hr", x), 0.2))


@pytest.mark.parametrize("wrap", ["params_ema", "params", None])
def test_a_public_x4_colour_generator_becomes_the_grey_one_at_scale_1(
    wrap: str | None, tmp_path: Path
) -> None:
    state = public_generator(features=8, blocks=2, first=3, last=3)
    named = {f"module.{key}": value for key, value in state.items()} if wrap == "params" else state
    path = tmp_path / "public.pth"
    torch.save({wrap: named} if wrap else named, path)
    picture = torch.rand(1, 1, 24, 36)
    loaded = load_model(path)
    assert loaded.card is None
    assert reach_of(loaded)[1] == 4
    with torch.inference_mode():
        ours = loaded.net(picture)
        reduced = torch.nn.functional.avg_pool2d(picture, 4).expand(-1, 3, -1, -1)
        theirs = as_public_x4(state, reduced).mean(1, keepdim=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("first", "last"), [(16, 1), (48, 3), (12, 3), (1, 1)])
def test_other_public_generators_load_too(first: int, last: int, tmp_path: Path) -> None:
    state = public_generator(features=8, blocks=1, first=first, last=last)
    assert is_generator(state)
    path = tmp_path / "public.pth"
    torch.save({"params": state}, path)
    picture = torch.rand(1, 1, 24, 36)
    with torch.inference_mode():
        ours = load_model(path).net(picture)
        factor = round((first / last) ** 0.5)
        cells = torch.nn.functional.avg_pool2d(picture, 4 // factor).expand(-1, last, -1, -1)
        if factor > 1:
            cells = torch.pixel_unshuffle(cells, factor)
        theirs = as_public_x4(state, cells).mean(1, keepdim=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_another_public_denoiser_loads_through_spandrel(tmp_path: Path) -> None:
    from cemi_dask.torchlib import import_vision

    nafnet = import_vision("spandrel.architectures.NAFNet")
    net = nafnet.NAFNet(img_channel=3, width=8, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    path = tmp_path / "nafnet.pth"
    torch.save({"params": net.state_dict()}, path)
    frame = np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)
    out = Network(model=str(path))(frame)
    assert out.shape == frame.shape
    assert load_model(path).architecture == "NAFNet"


def test_an_up_sampler_is_refused(tmp_path: Path) -> None:
    from cemi_dask.torchlib import import_vision

    compact = import_vision("spandrel.architectures.Compact")
    sizes = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_conv": 2}
    net = compact.Compact(**sizes, upscale=2)
    path = tmp_path / "up.pth"
    torch.save({"params": net.state_dict()}, path)
    with pytest.raises(InputError, match="scale 2"):
        load_model(path)


def test_strange_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "strange.pth"
    torch.save({"weird.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="none that can be told"):
        load_model(path)
    torch.save({"params": "text"}, path)
    with pytest.raises(UnreadableError, match="no tensor"):
        load_model(path)


# ---------------------------------------------------------------- presets


def test_the_paper_preset_is_the_papers_generator() -> None:
    net = build_network(PRESETS["paper"], seed=0)
    # 3 x 3 convolutions with biases: 64 features, growth 32, 23 blocks of three dense blocks.
    dense = sum(9 * (64 + 32 * k) * 32 + 32 for k in range(4)) + 9 * (64 + 4 * 32) * 64 + 64
    ends = (9 * 16 * 64 + 64) + 4 * (9 * 64 * 64 + 64) + (9 * 64 + 1)
    assert sum(p.numel() for p in net.parameters()) == 23 * 3 * dense + ends
    picture = torch.rand(1, 1, 20, 28)
    with torch.inference_mode():
        assert net(picture).shape == picture.shape


def test_a_seed_gives_the_same_network_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (build_network(SMALL_UNET, seed=5).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_card_round_trips() -> None:
    card = card_of(SMALL_RRDB)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_the_method_names_its_model_in_yaml(weights: Path) -> None:
    method = DENOISERS.parse({"method": "network", "model": str(weights)})
    assert method.model_dump()["model"] == str(weights)
    assert (
        Network(model="weights/mine.pth").located(Path("/data")).model == "/data/weights/mine.pth"
    )
    assert Network().located(Path("/data")).model == "compact"
