"""Encoders' weights from files: public spellings, one channel, and what does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cemi_dask.errors import ConfigError, UnreadableError
from cemi_dask.segment import encoders
from cemi_dask.segment.encoders import adapted_channels, load_encoder, microscopy_name
from cemi_dask.segment.networks import SegmenterSpec, build_network
from cemi_dask.torchlib import import_vision

SPEC = SegmenterSpec(architecture="Unet", encoder="mobilenet_v2")


@pytest.fixture(scope="module")
def public() -> dict[str, torch.Tensor]:
    """Random weights of the encoder for colour pictures, with the head it was trained with."""
    smp = import_vision("segmentation_models_pytorch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        colour = smp.encoders.get_encoder("mobilenet_v2", in_channels=3, weights=None)
    return dict(colour.state_dict()) | {
        "classifier.1.weight": torch.zeros(54, 1280),
        "classifier.1.bias": torch.zeros(54),
    }


def build(**changes: Any) -> Any:
    return build_network(SPEC.model_copy(update=changes), 1, seed=0)


def loaded(net: Any, path: Path, **options: Any) -> dict[str, torch.Tensor]:
    load_encoder(net, path.name, encoder="mobilenet_v2", base=path.parent, **options)
    return net.core.encoder.state_dict()


@pytest.mark.parametrize("wrap", ["state_dict", None])
def test_a_public_file_gives_the_encoder_for_one_channel(
    public: dict[str, torch.Tensor], wrap: str | None, tmp_path: Path
) -> None:
    smp = import_vision("segmentation_models_pytorch")
    named = {f"module.{key}": value for key, value in public.items()} if wrap else public
    path = tmp_path / "mobilenet_v2_pretrained_microscopynet_v1.0.pth.tar"
    torch.save({wrap: named} if wrap else named, path)
    found = loaded(build(), path)
    # The library's own way of making one channel of three.
    reference = smp.encoders.get_encoder("mobilenet_v2", in_channels=3, weights=None)
    reference.load_state_dict({k: v for k, v in public.items() if not k.startswith("classifier")})
    reference.set_in_channels(1, pretrained=True)
    wanted = reference.state_dict()
    assert set(found) == set(wanted)
    for key in wanted:
        torch.testing.assert_close(found[key], wanted[key])


def test_four_channels_and_safetensors(public: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(public, path)
    first = "features.0.0.weight"
    found = loaded(build(unshuffle=2), path)[first]
    torch.testing.assert_close(found, public[first][:, [0, 1, 2, 0]] * 0.75)


def test_files_of_another_encoder_are_refused(
    public: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    cases = {
        "fewer": ({k: v for k, v in public.items() if ".17." not in k}, r"features\.17.*missing"),
        "more": (public | {"extra.weight": torch.zeros(2)}, "extra.weight are not known"),
        "wider": (
            public | {"features.1.conv.0.1.weight": torch.zeros(7)},
            r"features\.1\.conv\.0\.1\.weight \(7,\) instead of \(32,\)",
        ),
    }
    for name, (state, told) in cases.items():
        path = tmp_path / f"{name}.pth"
        torch.save(state, path)
        with pytest.raises(UnreadableError, match=told) as caught:
            loaded(build(), path)
        assert path.name in str(caught.value)


def test_a_name_that_is_no_file_is_answered_with_the_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a file .* nor one of micronet, image-micronet"):
        loaded(build(), tmp_path / "imagenet-micronet")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = tmp_path / "evil.pth.tar"
    path.write_bytes(pickle.dumps({"state_dict": Attack()}))
    with pytest.raises(UnreadableError, match=r"evil\.pth\.tar"):
        loaded(build(), path)
    assert not (tmp_path / "ran").exists()


def test_microscopy_sets_go_by_the_names_of_their_files() -> None:
    seen = {
        ("se_resnext50_32x4d", "micronet"): "se_resnext50_32x4d_pretrained_microscopynet_v1.0",
        ("resnet50", "micronet"): "resnet50_pretrained_microscopynet_v1.1",
        ("resnet50", "image-micronet"): "resnet50_pretrained_imagenet-microscopynet_v1.0",
        ("resnext101_32x8d", "micronet"): "resnext101_pretrained_microscopynet_v1.0",
    }
    for (encoder, weights), name in seen.items():
        assert microscopy_name(encoder, weights) == f"{name}.pth.tar"


def test_a_set_is_downloaded_once(
    public: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a folder instead of the network."""
    (tmp_path / "site").mkdir()
    monkeypatch.setattr(encoders, "MICROSCOPY_URL", f"{(tmp_path / 'site').as_uri()}/")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    given = {"weights": "image-micronet", "encoder": "mobilenet_v2", "base": tmp_path}
    with pytest.raises(UnreadableError, match=r"cannot be downloaded.*give the file"):
        load_encoder(build(), **given)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())
    name = "mobilenet_v2_pretrained_imagenet-microscopynet_v1.0.pth.tar"
    torch.save(public, tmp_path / "site" / name)
    for _ in range(2):
        load_encoder(build(), **given)
    assert capsys.readouterr().out.count("Downloading") == 2  # the failed one and one more
    assert (tmp_path / "cache" / "checkpoints" / name).is_file()


def test_channels_are_summed_or_repeated() -> None:
    weight = torch.arange(6.0).reshape(2, 3, 1, 1)
    assert adapted_channels(weight, 1).flatten().tolist() == [3.0, 12.0]
    # A grey picture in all channels gives what it gave in three equal colours.
    six = adapted_channels(weight, 6)
    torch.testing.assert_close(six.sum(1), weight.sum(1))
