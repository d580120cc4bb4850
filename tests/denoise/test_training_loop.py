"""The loop: reproducible, resumable, and what it leaves."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from cemi_dask.denoise.checkpoints import load_model
from cemi_dask.denoise.networks import build_network
from cemi_dask.denoise.training.batches import Batch
from cemi_dask.denoise.training.loop import measure
from cemi_dask.errors import RunError, UnreadableError
from cemi_dask.learn import RateOptions
from cemi_dask.learn.batches import ahead
from cemi_dask.learn.loop import CHECKPOINT
from tests.denoise.training import SPEC, stripes, train

PIXEL: dict[str, Any] = {"iterations": 5, "checkpoint_every": 2, "log_every": 2}
ADVERSARIAL = PIXEL | {"loss": {"adversarial_weight": 0.1}, "clip_norm": 1.0}
HALF = PIXEL | {"precision": "bfloat16", "iterations": 3}


def weights(net: Any) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in net.state_dict().values()])


def killed_at(step: int) -> Callable[[int], Batch]:
    """Batches that end the process's work when a step is asked for."""

    def batches(number: int) -> Batch:
        if number == step:
            raise KeyboardInterrupt
        return stripes(number)

    return batches


@pytest.mark.parametrize("options", [PIXEL, ADVERSARIAL, HALF], ids=["l1", "gan", "bfloat16"])
def test_two_trainings_give_the_same_weights_bit_for_bit(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    first, second = (weights(train(tmp_path / name, **options)[0]) for name in "ab")
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(build_network(SPEC, seed=1)))


@pytest.mark.parametrize("options", [PIXEL, ADVERSARIAL], ids=["l1", "gan"])
def test_a_killed_training_resumes_as_if_it_had_never_stopped(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, _ = train(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", killed_at(3), **options)
    resumed, result = train(tmp_path / "cut", **options)
    assert result.step == 5
    assert torch.equal(weights(whole), weights(resumed))
    logs = [(tmp_path / name / "log.csv").read_text() for name in ("whole", "cut")]
    steps = [[row["step"] for row in csv.DictReader(log.splitlines())] for log in logs]
    assert steps == [["2", "4"]] * 2


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train(tmp_path, **PIXEL)
    again, result = train(tmp_path, killed_at(0), **PIXEL)
    assert result.step == 5
    assert torch.equal(weights(first), weights(again))


def test_training_denoises_and_leaves_weights_logs_and_samples(tmp_path: Path) -> None:
    held = [stripes(10_000)]
    rate = {"start": 3e-3, "schedule": "cosine"}
    options: dict[str, Any] = {"iterations": 120, "validate_every": 40, "learning_rate": rate}
    before = measure(torch.nn.Identity(), held, "cpu")["psnr_db"]
    net, result = train(tmp_path, validate=held, **options)
    assert result.metrics["psnr_db"] > before + 1  # from 20.1 to 21.6 dB when written
    assert result.best is not None
    for path in (result.best, result.last):
        loaded = load_model(path)
        assert loaded.card is not None
        assert loaded.card.training["steps"] in (40, 80, 120)
        assert loaded.card.metrics["psnr_db"] > before
    assert torch.equal(weights(load_model(result.last).net), weights(net))
    rows = list(csv.DictReader((tmp_path / "validation.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["40", "80", "120"]
    assert float(rows[-1]["psnr_db"]) == pytest.approx(result.metrics["psnr_db"], rel=1e-4)
    sheet = cv2.imread(str(tmp_path / "samples" / "0000120.png"), cv2.IMREAD_UNCHANGED)
    assert sheet.shape == (4 * 32, 3 * 32)  # rows of pictures; noisy, output, target


def test_curves_go_to_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, **PIXEL)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_the_output_is_placed_on_the_targets_grid(tmp_path: Path) -> None:
    def flipped(step: int) -> Batch:
        batch = stripes(step)
        return Batch(batch.noisy, batch.target.flip(-1), place=lambda output: output.flip(-1))

    plain, placed = (
        train(tmp_path / "plain", **PIXEL)[0],
        train(tmp_path / "f", flipped, **PIXEL)[0],
    )
    # The same mean over pixels in another order of summation.
    torch.testing.assert_close(weights(plain), weights(placed), rtol=0, atol=1e-4)


def test_what_is_masked_out_teaches_nothing(tmp_path: Path) -> None:
    def masked(value: float) -> Callable[[int], Batch]:
        def batches(step: int) -> Batch:
            batch = stripes(step)
            mask = torch.ones_like(batch.target)
            mask[..., 20:] = 0
            return Batch(batch.noisy, torch.where(mask > 0, batch.target, value), mask)

        return batches

    first, second = (weights(train(tmp_path / f"{v}", masked(v), **PIXEL)[0]) for v in (0.0, 9.0))
    assert torch.equal(first, second)


def test_time_bounds_a_training(tmp_path: Path) -> None:
    _, result = train(tmp_path, iterations=10**6, minutes=0.01)
    assert 0 < result.step < 10**5
    assert load_model(result.last).card is not None


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        batch = stripes(step)
        return Batch(batch.noisy * (float("nan") if step == 3 else 1), batch.target)

    with pytest.raises(RunError, match=r"is nan in step 3\. Lower learning_rate"):
        train(tmp_path, broken, **PIXEL)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 2


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tmp_path, **PIXEL)
    with pytest.raises(UnreadableError, match="--fresh"):
        train(tmp_path, **ADVERSARIAL)  # has no discriminator
    (tmp_path / CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(UnreadableError, match="cannot be resumed from"):
        train(tmp_path, **PIXEL)


def test_batches_made_ahead_come_in_order_and_end_with_an_error_of_theirs() -> None:
    seen: list[int] = []

    def batches(step: int) -> Batch:
        seen.append(step)
        return stripes(step)

    got = list(ahead(batches, range(1, 20, 3), threads=3))
    assert sorted(seen) == list(range(1, 20, 3))
    for step, batch in zip(range(1, 20, 3), got, strict=True):
        assert torch.equal(batch.noisy, stripes(step).noisy)
    with pytest.raises(KeyboardInterrupt):
        list(ahead(killed_at(4), range(9), threads=2))


def test_the_learning_rate_follows_its_schedule() -> None:
    cosine = RateOptions(start=1e-3, schedule="cosine", end=1e-6, warmup=10)
    assert cosine.at(0, 0) == pytest.approx(1e-4)
    assert cosine.at(0.5, 500) == pytest.approx(5e-4, rel=1e-2)
    assert cosine.at(1, 1000) == pytest.approx(1e-6)
    step = RateOptions(start=1e-3, schedule="step", halvings=(0.5, 0.75))
    assert [step.at(p, 1) for p in (0.4, 0.5, 0.8)] == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert RateOptions().at(0.9, 1) == 1e-4


PROCESS = """
import sys, torch
from pathlib import Path
from cemi_dask.denoise.training.batches import Batch
from tests.denoise.training import stripes, train

def half(number):  # process 0 of step k asks for 2k, process 1 for 2k + 1
    batch = stripes(number // 2)
    part = slice(2 * (number % 2), 2 * (number % 2) + 2)
    return Batch(batch.noisy[part], batch.target[part])

train(Path(sys.argv[1]), half, iterations=4, loss={"adversarial_weight": 0.1}, device="cpu",
      precision="float32")
"""


def test_two_processes_with_half_a_batch_each_equal_one_with_the_whole(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROCESS)
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run(
        [sys.executable, "-m", *launch, str(script), str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    options: dict[str, Any] = {"loss": {"adversarial_weight": 0.1}, "precision": "float32"}
    one, _ = train(tmp_path / "one", iterations=4, **options)
    two = load_model(tmp_path / "two" / "last.safetensors").net
    # Adam divides by the root of tiny squares, which enlarges rounding.
    torch.testing.assert_close(weights(one), weights(two), rtol=0, atol=2e-5)
