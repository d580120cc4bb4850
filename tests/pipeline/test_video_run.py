"""Runs whose denoiser is trained on their own frames, and trainings from a run folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cemi_dask import open_mosaic
from cemi_dask.cli import main
from cemi_dask.denoise import DENOISERS, estimate_noise
from cemi_dask.denoise.checkpoints import load_model
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.pipeline import load_config, run
from cemi_dask.pipeline.plan import make_plan
from cemi_dask.pipeline.status import read_status
from cemi_dask.pipeline.train import load_training, train_denoiser
from cemi_dask.store import open_frame_store
from tests.pipeline.conftest import LOCAL, contents, redone, write_config

NETWORK = {"family": "unet", "channels": [8, 8, 8, 8]}
VIDEO: dict[str, Any] = {
    "method": "video",
    "network": NETWORK,
    "iterations": 250,
    "batch": 2,
    "patch_px": 64,
    "learning_rate": 5.0e-3,
    "minutes": None,
}
Words = Callable[..., str]


@pytest.fixture(scope="module")
def config(ingot: Path) -> Path:
    # One worker, so one thread: more would wait for each other where cores are shared.
    return write_config(ingot, denoise=VIDEO, cluster=LOCAL | {"workers": 1})


@pytest.fixture(scope="module")
def solved(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that has come as far as solve."""
    out = tmp_path_factory.mktemp("solved") / "run"
    return run(config, out=out, until="solve").out


def copied(solved: Path, out: Path) -> Path:
    shutil.copytree(solved, out)
    return out


@pytest.fixture(scope="module")
def whole(config: Path, solved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, undisturbed to the mosaic."""
    out = copied(solved, tmp_path_factory.mktemp("whole") / "run")
    return run(config, out=out, until="blend").out


def test_a_run_trains_its_denoiser_and_uses_it(whole: Path) -> None:
    summary = json.loads((whole / "run.json").read_text())
    assert list(summary["stages"]) == ["frames", "register", "solve", "train", "denoise", "blend"]
    facts = summary["training"]
    assert facts["steps"] == 250
    assert not facts["depends_on_machine"]
    assert facts["sha256"] == summary["denoiser"]["sha256"]
    assert facts["pairs"] + facts["held_out"] + facts["left_out"] == summary["pairs"]["ok"]
    # 12 grey levels at mid grey, of which a half are counts.
    assert 255 * facts["noise"]["sigma"] == pytest.approx(12, rel=0.15)
    card = load_model(whole / "models" / "denoiser.safetensors").card
    assert card is not None
    assert card.metrics == facts["held_out_metrics"]
    key = summary["frame_keys"][0]
    raw, clean = (
        open_frame_store(whole / "frames.zarr", [name])[1].compute(scheduler="sync")
        for name in (key, key.replace("raw", "denoised"))
    )
    # A tiny network after few steps: 0.81 when written.
    assert estimate_noise(clean) < 0.9 * estimate_noise(raw)
    assert open_mosaic(whole / "mosaic.ome.zarr").shape[0] > 300


def test_nothing_is_trained_again_until_an_option_changes(config: Path, whole: Path) -> None:
    run(config, out=whole, until="blend")
    assert redone(whole) == set()
    rows = {row.stage: row.state for row in read_status(whole).stages}
    assert rows["train"] == "done"
    shorter = write_config(config, denoise=VIDEO | {"iterations": 3})
    out = copied(whole, whole.with_name("shorter"))
    run(shorter, out=out, until="denoise")
    assert redone(out) == {"train", "denoise"}
    assert len(list((out / "models").glob("training-*"))) == 1


def test_a_run_killed_in_training_ends_with_the_same_weights(
    config: Path, solved: Path, whole: Path, tmp_path: Path
) -> None:
    out = copied(solved, tmp_path / "run")
    command = [sys.executable, "-m", "cemi_dask.cli", "run", str(config), "--out", str(out)]
    running = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not list(out.glob("models/training-*/checkpoint.pt")) and time.monotonic() < end:
        assert running.poll() is None, "it was to be killed on its way"
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert '"item"' not in (out / "ledger" / "train.jsonl").read_text()
    run(config, out=out, until="denoise")
    for name in ("models/denoiser.safetensors", "frames.zarr/denoised"):
        assert contents(out / name) == contents(whole / name), name


def test_lost_or_foreign_weights_are_noticed(config: Path, whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "run")
    (out / "models" / "denoiser.safetensors").write_bytes(b"other")
    with pytest.raises(OSError, match="--fresh"):
        run(config, out=out, until="denoise")


def test_other_denoisers_have_no_such_stage(ingot: Path, config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no stage 'train': its denoiser is not trained"):
        run(ingot, out=tmp_path / "run", until="train")
    assert "train" not in {demand.stage for demand in make_plan(ingot).demands}
    planned = {demand.stage: demand for demand in make_plan(config).demands}
    assert planned["train"].items == 1
    assert planned["train"].memory > planned["register"].memory


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iteration": 3}, "denoise.iteration: no such key.*did you mean 'iterations'"),
        ({"network": "compct"}, "denoise.network: should be compact or paper"),
        ({"network": {"family": "unet", "chanels": 3}}, "denoise.network.chanels: no such key"),
        ({"patch_px": 100}, "denoise.patch_px"),
    ],
)
def test_wrong_keys_are_named(ingot: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(write_config(ingot, denoise=VIDEO | changes))


def test_frames_that_share_pictures_are_refused_before_anything_is_read(
    config: Path, tmp_path: Path
) -> None:
    averaged = write_config(config, frames={"average": "motion"})
    with pytest.raises(ConfigError, match="their noise is not independent"):
        run(averaged, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_patches_larger_than_the_overlaps_are_refused(
    config: Path, solved: Path, tmp_path: Path
) -> None:
    wide = write_config(config, denoise=VIDEO | {"patch_px": 200})
    with pytest.raises(InputError, match=r"share a patch of 200 px.*or lower patch_px"):
        run(wide, out=copied(solved, tmp_path / "run"), until="train")


def test_single_frames_cannot_be_denoised_so(tmp_path: Path, refused: Words) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    with pytest.raises(ConfigError, match="is trained in a run"):
        DENOISERS.parse("video")(frame)
    words = ("denoise", tmp_path / "a.tif", tmp_path / "b.tif", "--method", "video")
    assert "is trained in a run" in refused(2, *words)


# ---------------------------------------------------------------- cemi train denoise


def training(folder: Path, solved: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "name": "from-video",
        "network": NETWORK,
        "data": {"kind": "video", "run": str(solved)},
        "batch": 2,
        "patch_px": 64,
        "stages": [{"iterations": 3, "loss": {"pixel": "l2"}}],
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def test_the_command_trains_from_a_solved_run(solved: Path, tmp_path: Path) -> None:
    path = training(tmp_path, solved)
    assert main(["train", "denoise", str(path), "--out", str(tmp_path / "out")]) == 0
    card = load_model(tmp_path / "out" / "model.safetensors").card
    assert card is not None
    assert card.training["steps"] == 3
    assert 10 < card.metrics["psnr_db"] < card.metrics["clean_psnr_db"]


def test_losses_that_do_not_suit_noisy_targets_are_refused(solved: Path, tmp_path: Path) -> None:
    path = training(tmp_path, solved, stages=[{"iterations": 3}])
    with pytest.raises(ConfigError, match=r"stages.0.loss: should be {pixel: l2} alone"):
        load_training(path)


def test_a_folder_without_a_solved_run_is_refused(solved: Path, tmp_path: Path) -> None:
    data = {"kind": "video", "run": "."}
    with pytest.raises(ConfigError, match=r"no run that was solved.*--until solve"):
        train_denoiser(training(tmp_path, solved, data=data), out=tmp_path / "out")
    out = copied(solved, tmp_path / "averaged")
    table = pd.read_parquet(out / "tables" / "frames.parquet")
    table.loc[0, "looks"] = 3
    table.to_parquet(out / "tables" / "frames.parquet", index=False)
    with pytest.raises(ConfigError, match="their noise is not independent"):
        train_denoiser(training(tmp_path, out), out=tmp_path / "out")
