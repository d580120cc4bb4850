"""`cemi train denoise`: configs, kinds of data, resume after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from cemi_dask.cli import main
from cemi_dask.denoise.checkpoints import load_model
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.pipeline.train import load_training, train_denoiser
from cemi_dask.simulate import Specimen

STAGE: dict[str, Any] = {"name": "semnet", "iterations": 2, "device": "cpu"}
SIMULATED = {"kind": "simulated", "pictures": 2, "held_out": 1, "size_px": 64}
TINY: dict[str, Any] = {
    "name": "tiny",
    "network": {"family": "unet", "channels": [4, 4, 8, 8]},
    "data": SIMULATED,
    "batch": 2,
    "patch_px": 32,
    "stages": [STAGE],
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes TINY with changes; the file."""

    def written(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    return written


def pictures(folder: Path, names: str, shape: tuple[int, int] = (48, 64)) -> None:
    folder.mkdir()
    for number, name in enumerate(names):
        grey = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), grey)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"netwrok": "compact"},
            "no such key.*did you mean 'network'.*the keys here are name, out",
        ),
        ({"network": "compct"}, "network: should be compact or paper, or keys of a network"),
        ({"data": {"kind": "simulatd"}}, "there is no kind 'simulatd'.*valid are"),
        ({"data": SIMULATED | {"degradation": {"method": "papr"}}}, "no method 'papr'.*'paper'"),
        ({"stages": [STAGE, STAGE]}, "stages: should have different names"),
        ({"stages": [STAGE | {"name": ".."}]}, "stages.0.name: String should match"),
        ({"stages": [STAGE | {"loss": {"pixl": "l1"}}]}, "did you mean 'pixel'"),
    ],
)
def test_a_wrong_key_or_name_is_answered_with_the_valid_ones(
    write: Write, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_training(write(**changes))


def test_the_command_trains_both_stages_and_says_where_the_weights_are(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [STAGE, STAGE | {"name": "semgan", "loss": {"adversarial_weight": 0.1}}]
    config, out = write(stages=stages), tmp_path / "out"
    assert main(["train", "denoise", str(config), "--out", str(out)]) == 0
    assert f"The trained weights are {out / 'model.safetensors'}" in capsys.readouterr().out
    card = load_model(out / "model.safetensors").card
    assert card is not None
    assert (card.name, card.training["config"]["batch"]) == ("tiny", 2)
    first, second = (load_file(out / name / "last.safetensors") for name in ("semnet", "semgan"))
    assert any((first[key] != second[key]).any() for key in first)


def test_another_config_needs_fresh_or_another_folder(write: Write, tmp_path: Path) -> None:
    before = train_denoiser(write(), out=tmp_path / "out").read_bytes()
    with pytest.raises(ConfigError, match=r"\(batch, seed differ\)"):
        train_denoiser(write(seed=5, batch=3), out=tmp_path / "out")
    after = train_denoiser(write(seed=5, batch=3), out=tmp_path / "out", fresh=True)
    assert after.read_bytes() != before


def test_a_later_stage_that_cannot_run_is_refused_before_the_first(
    write: Write, tmp_path: Path
) -> None:
    loss = {"perceptual_weight": 1, "vgg19": "vgg19.pth"}
    config = write(stages=[STAGE, STAGE | {"name": "semgan", "loss": loss}])
    with pytest.raises(ConfigError, match=rf"{tmp_path / 'vgg19.pth'} is no file"):
        train_denoiser(config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_starts_from_own_weights(write: Write, tmp_path: Path) -> None:
    first = train_denoiser(write(), out=tmp_path / "out")
    rate = {"start": 1e-12}  # so small that nothing changes
    config = write(
        init="out/model.safetensors", network=None, stages=[STAGE | {"learning_rate": rate}]
    )
    second = train_denoiser(config, out=tmp_path / "more")
    before, after = load_file(first), load_file(second)
    for key in before:
        np.testing.assert_allclose(before[key], after[key], atol=1e-9)
    with pytest.raises(ConfigError, match="Leave `network` away"):
        train_denoiser(write(init="out/model.safetensors", network="compact"), out=tmp_path / "x")


def test_pairs_and_sharp_pictures_alone_are_trained_on(write: Write, tmp_path: Path) -> None:
    pictures(tmp_path / "ld", "abc")
    pictures(tmp_path / "hd", "abc")
    for data in (
        {"kind": "pairs", "noisy": "ld", "target": "hd/*.png", "aligned": True},
        {"kind": "synthetic", "target": "hd"},
    ):
        model = train_denoiser(write(data=data), out=tmp_path / data["kind"])
        assert load_model(model).card is not None


def test_pairs_are_aligned_before_they_are_trained_on(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specimen = Specimen(seed=4)
    for folder in ("ld", "hd"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate("abcd"):
        y, x = 300.0 * number, 5000.0
        sharp = specimen.image(y, x, (384, 512))
        # The last pair shows two different fields.
        noisy = specimen.image(y + 7.3 + (900 if name == "d" else 0), x - 11.6, (384, 512))
        noisy = noisy + np.random.default_rng(number).normal(0, 15, noisy.shape)
        for folder, picture in (("ld", noisy), ("hd", sharp)):
            grey = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), grey)
    data = {"kind": "pairs", "noisy": "ld", "target": "hd"}
    model = train_denoiser(write(data=data), out=tmp_path / "out")
    assert load_model(model).card is not None
    said = capsys.readouterr().out
    assert said.count("is aligned") == 3
    assert "Pair 3 is left out" in said


def test_data_that_cannot_be_used_are_refused(write: Write, tmp_path: Path) -> None:
    def told(error: type[Exception], match: str, **changes: Any) -> None:
        with pytest.raises(error, match=match):
            train_denoiser(write(**changes), out=tmp_path / "out", fresh=True)

    pairs = {"kind": "pairs", "noisy": "ld", "target": "hd", "aligned": True}
    told(ConfigError, "data.noisy: there are no pictures at", data=pairs)
    pictures(tmp_path / "ld", "ab")
    pictures(tmp_path / "hd", "abc")
    told(ConfigError, "data.noisy has 2 pictures and data.target 3", data=pairs)
    (tmp_path / "hd" / "c.png").unlink()
    told(InputError, r"a patch has 56. Lower patch_px", data=pairs, patch_px=56)
    pictures(tmp_path / "wide", "ab", (48, 80))
    told(InputError, "Bring them onto one grid", data=pairs | {"target": "wide"})
    deep = np.random.default_rng(0).integers(0, 4096, (48, 64), np.uint16)
    (tmp_path / "deep").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "deep" / f"{name}.png"), deep)
    told(InputError, "uint8 and its sharp one uint16", data=pairs | {"target": "deep"})
    cv2.imwrite(str(tmp_path / "deep" / "b.png"), np.zeros_like(deep))
    told(InputError, "b.png holds one grey level", data=pairs | {"target": "deep"})
    pictures(tmp_path / "one", "a")
    told(InputError, "cannot be split", data={"kind": "synthetic", "target": "one"})


def test_a_killed_command_resumes_bit_for_bit(write: Write, tmp_path: Path) -> None:
    stage = STAGE | {"iterations": 100, "checkpoint_every": 5, "validate_every": 100}
    config, out = write(stages=[stage]), tmp_path / "killed"
    command = [sys.executable, "-m", "cemi_dask.cli", "train", "denoise", str(config)]
    running = subprocess.Popen([*command, "--out", str(out)], env=os.environ)
    checkpoint = out / "semnet" / "checkpoint.pt"
    end = time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it was to be killed on its way"
    # As commands: the last bits depend on the number of threads, which this process may change.
    for folder in (out, tmp_path / "whole"):
        subprocess.run([*command, "--out", str(folder)], env=os.environ, check=True)
    resumed = load_file(out / "model.safetensors")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    for key in whole:
        assert (resumed[key] == whole[key]).all(), key
