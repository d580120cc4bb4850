"""Training of segmenters: losses, scores, patches, and the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cemi_dask.errors import InputError
from cemi_dask.learn.loop import FitResult, Schedule
from cemi_dask.learn.ranks import Ranks
from cemi_dask.segment.networks import PRESETS, build_network
from cemi_dask.segment.training import (
    Augmentation,
    Labelled,
    LabelledPatches,
    SegmentFit,
    SegmentLoss,
)
from cemi_dask.segment.training.loop import SegmenterTrainer, fit, measure
from cemi_dask.segment.training.losses import SegmentationLoss, cross_entropy
from cemi_dask.segment.training.options import LOSSES, NO_AUGMENTATION
from cemi_dask.segment.training.patches import (
    SegmentBatch,
    augmented,
    held_out_batches,
    make_batch,
)
from cemi_dask.segment.training.scores import scores
from tests.segment.networks import SMALL, card_of

LAMELLAR = ("lamellar",)


def example(number: int, size: int = 64) -> Labelled:
    """Stripes in the lower or right half, noise in the rest."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    labels = ((y if number % 2 else x) >= size // 2).astype(np.uint8)
    stripes = 0.5 + 0.3 * np.sin(2 * np.pi * (x + y) / 6)
    picture = np.where(labels, stripes, 0.5) + rng.normal(0, 0.1, labels.shape)
    return Labelled(f"p{number}", picture.astype(np.float32), labels)


def patches(count: int = 6, **changes: Any) -> LabelledPatches:
    options: dict[str, Any] = {"batch": 4, "patch_px": 32, "seed": 3}
    return LabelledPatches(
        [example(k) for k in range(count)], **(options | changes), augmentation=Augmentation()
    )


# ---------------------------------------------------------------- losses


def logits_of(values: list[list[float]]) -> torch.Tensor:
    return torch.tensor([[values]], requires_grad=True)


def test_dice_alone_learns_nothing_from_a_batch_without_the_label() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    for name, learns in (("dice", False), ("dice_bce", True)):
        logits = logits_of([[1.0, -1.0], [0.5, 2.0]])
        terms = SegmentationLoss(LOSSES[name], 1)(logits, labels)
        sum(terms.values(), torch.zeros(())).backward()
        assert logits.grad is not None
        assert bool(logits.grad.abs().sum() > 0) == learns


def test_dice_is_one_minus_dice() -> None:
    labels = torch.tensor([[[1, 1], [0, 0]]])
    sure = logits_of([[50.0, -50.0], [50.0, -50.0]])
    found = SegmentationLoss(LOSSES["dice"], 1)(sure, labels)
    # One of two found is right, one of two true is found: 2 * 1 / (2 + 2).
    assert found["dice"].item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_unknown_pixels_do_not_count(channels: int) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 4, 4, generator=rng)
    labels = torch.randint(0, max(2, channels), (2, 4, 4), generator=rng)
    labels[:, 2:] = 255
    loss = SegmentationLoss(SegmentLoss(), channels)
    changed = logits.clone()
    changed[:, :, 2:] += 5
    for key, value in loss(logits, labels).items():
        torch.testing.assert_close(value, loss(changed, labels)[key])
    assert cross_entropy(logits, torch.full((2, 4, 4), 255)).item() == 0


# ---------------------------------------------------------------- scores


def test_scores_of_a_shifted_square() -> None:
    truth, found = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    truth[20:40, 20:40] = 1
    found[20:40, 22:42] = 1
    told = scores([(found, truth)], 1)
    assert told.iou == pytest.approx(18 / 22)
    assert told.dice == pytest.approx(36 / 40)
    assert told.boundary_f1 == 1.0  # 2 px off, and 3 px are allowed
    found = np.roll(found, 6, axis=1)
    assert scores([(found, truth)], 1).boundary_f1 < 0.8
    truth[:, 30:] = 255
    assert scores([(found, truth)], 1).iou == pytest.approx(2 * 20 / (10 * 20))
    nothing = scores([(np.zeros_like(found), np.zeros_like(truth))], 1)
    assert np.isnan([nothing.iou, nothing.dice, nothing.boundary_f1]).all()


# ---------------------------------------------------------------- patches


def test_every_picture_is_used_alike_in_each_epoch() -> None:
    source = patches(6, per_picture=2)
    assert source.steps_per_epoch == 3
    for epoch in range(3):
        which = [source._which(epoch * 12 + k) for k in range(12)]
        assert sorted(which) == sorted(2 * list(range(6)))
    assert [source._which(k) for k in range(6)] != [source._which(k) for k in range(6, 12)]


def test_a_step_gives_the_same_batch_again() -> None:
    first, second = patches()(5), patches()(5)
    assert torch.equal(first.pictures, second.pictures)
    assert torch.equal(first.labels, second.labels)
    assert not torch.equal(first.pictures, patches()(6).pictures)
    assert first.pictures.shape == (4, 1, 32, 32)


def test_labels_are_rotated_with_their_picture() -> None:
    """A picture that is bright where it is labelled stays so, at any angle."""
    y, x = np.mgrid[:96, :96]
    labels = ((y - 40) ** 2 + 3 * (x - 50) ** 2 < 900).astype(np.uint8)
    source = Labelled("blob", labels.astype(np.float32), labels)
    options = NO_AUGMENTATION.model_copy(update={"rotation": 1.0, "turns": True})
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        picture, label = augmented(source, 64, options, rng)
        assert ((picture > 0.5) == (label == 1)).mean() > 0.98
        areas.append(label.mean())
    assert 0.05 < np.mean(areas) < 0.5
    plain, label = augmented(source, 96, NO_AUGMENTATION, rng)
    np.testing.assert_array_equal(plain, labels)
    np.testing.assert_array_equal(label, labels)


def test_held_out_patches_count_every_pixel_once() -> None:
    source = example(1, 80)
    batches = held_out_batches([source], 32, 4, degrade=None, seed=0)
    known = sum(int((b.labels != 255).sum()) for b in batches)
    ones = sum(int((b.labels == 1).sum()) for b in batches)
    assert (known, ones) == (80 * 80, int(source.labels.sum()))


def test_small_pictures_and_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="p0 has 64 x 64 px; a patch has 96"):
        patches(1, patch_px=96)
    with pytest.raises(InputError, match="They must be those of one picture"):
        Labelled("x", np.zeros((4, 4)), np.zeros((4, 5), np.uint8))


# ---------------------------------------------------------------- the loop


def train(folder: Path, source: Any = None, **options: Any) -> tuple[Any, FitResult]:
    net = build_network(SMALL, 1, seed=1)
    held = held_out_batches([example(7)], 32, 4, degrade=None, seed=0)
    fitting = SegmentFit(**({"epochs": 2, "device": "cpu", "precision": "float32"} | options))
    card = card_of(SMALL, LAMELLAR)
    return net, fit(net, source or patches(), fitting, folder=folder, card=card, validate=held)


def weights(net: Any) -> torch.Tensor:
    return torch.cat([value.detach().flatten().double() for value in net.state_dict().values()])


class Cut(LabelledPatches):
    """Patches that end the process's work in step 3."""

    def __call__(self, step: int) -> SegmentBatch:
        if step == 3:
            raise KeyboardInterrupt
        return super().__call__(step)


def test_trainings_are_reproducible_and_resume_bit_for_bit(tmp_path: Path) -> None:
    whole, result = train(tmp_path / "whole")
    assert result.step == 4
    assert result.best is not None
    assert set(result.metrics) == {"iou", "dice", "boundary_f1"}
    source = patches()
    cut = Cut(source.examples, source.batch, source.patch_px, source.seed, source.augmentation)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", cut)
    resumed, _ = train(tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))
    assert (tmp_path / "cut" / "samples" / "0000004.png").is_file()


def test_training_stops_where_nothing_gets_better(tmp_path: Path) -> None:
    # At a rate of nothing no epoch after the first is better than the first.
    rate = {"start": 1e-12}
    _, result = train(tmp_path, epochs=9, patience=2, learning_rate=rate)
    assert result.step == 3 * patches().steps_per_epoch


def test_the_papers_configuration_takes_two_steps(tmp_path: Path) -> None:
    """U-Net++ with SE-ResNeXt-50, Dice, Adam 1e-4: it runs, learns, and stays finite."""
    net = build_network(PRESETS["paper"], 1, seed=0)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(51e6, rel=0.02)
    options = SegmentFit(loss="dice", device="cpu")
    assert (options.epochs, options.learning_rate.start) == (80, 1e-4)
    schedule = Schedule("segment", 2, 9, 9, 9)
    trainer = SegmenterTrainer(net, options, schedule, Ranks(0, 1, "cpu"), tmp_path, LAMELLAR)
    before = weights(net)
    for step in range(2):
        assert trainer.goes_on()
        trainer.step(patches(batch=2)(step))
    assert not trainer.goes_on()
    assert not torch.equal(before, weights(trainer.state.net))
    assert 0 < trainer.sums["dice"] < 2
    metrics = measure(trainer.state.ema, [patches(batch=1)(9)], LAMELLAR, "cpu")
    assert all(np.isfinite(value) for value in metrics.values())


def test_several_labels_are_scored_each_and_together() -> None:
    class Perfect(torch.nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            wanted = torch.nn.functional.one_hot(truth.labels, 3).movedim(3, 1)
            return 10.0 * wanted.float()

    labels = np.zeros((32, 32), np.uint8)
    labels[:10], labels[20:] = 1, 2
    truth = make_batch([np.random.default_rng(0).random((32, 32), np.float32)], [labels])
    metrics = measure(Perfect(), [truth], ("a", "b"), "cpu")
    assert metrics["iou"] == metrics["iou_a"] == metrics["boundary_f1_b"] == 1.0
