"""The stage `train`: a denoiser that learns from the run's own frames, once they are placed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from distributed import Client

from cemi_dask import denoise
from cemi_dask.compute import named_task
from cemi_dask.denoise.checkpoints import ModelCard, first_network
from cemi_dask.denoise.networks import RRDBSpec, UNetSpec
from cemi_dask.denoise.training.sources import HELD_OUT_BATCHES
from cemi_dask.errors import StoreError
from cemi_dask.frameset import Frames
from cemi_dask.learn.weights import file_sha256, save_weights
from cemi_dask.pipeline.context import Context
from cemi_dask.pipeline.video_data import SolvedRun, open_video, refuse_averaged
from cemi_dask.store import storing
from cemi_dask.torchlib import import_torch

ITEM = "train/denoiser"
MARK = 16  # digits of the stage's digest that tell one training from another


def train_stage(context: Context, raw: Frames, method: denoise.Video) -> denoise.Denoiser:
    """The denoiser with the weights that `method` has learnt from the solved frames.

    One item, which goes on from its checkpoint when it is interrupted. The weights are
    RUN/models/denoiser.safetensors, what the training left to look at lies beside them.
    """
    weights = context.folder.models / "denoiser.safetensors"
    with context.stage("train") as scope:
        refuse_averaged(raw.table["looks"].to_numpy())
        # A checkpoint belongs to one digest: that of another training is of no use.
        folder = context.folder.models / f"training-{scope.ledger.digest[:MARK]}"
        drop_other_trainings(folder)
        scope.compute.gpu = context.wants_gpu(method, "train")
        solved = SolvedRun(
            context.folder.path,
            tuple(context.facts["frame_keys"]),
            context.facts.get("flat_field"),
            context.facts["distortion"]["field"],
        )
        threads = threads_of_a_machine(context.client)
        if not scope.ledger.finished:
            limit = "" if method.minutes is None else f", at most {method.minutes:g} minutes"
            context.progress.say(f"Training on the frames' overlaps{limit}: {folder}/log.csv")
        task = named_task("train", train_item, solved, method, folder, weights, threads)
        facts = scope.compute({ITEM: task})[ITEM]
        for text in facts["warnings"]:
            context.warn(text)
        context.facts["training"] = facts
        if not weights.is_file() or file_sha256(weights) != facts["sha256"]:
            raise StoreError(
                f"{weights} is not what the training has left there. Run again with --fresh."
            )
    return method.trained(weights)


def train_item(
    solved: SolvedRun, method: denoise.Video, folder: Path, weights: Path, threads: int
) -> dict[str, Any]:
    """Train on the overlaps of a solved run, write the weights, and tell how it went."""
    from cemi_dask.denoise.training.loop import fit

    net, spec = first_network(method.network, method.start, seed=method.seed)
    source = open_video(solved, batch=method.batch, patch_px=method.patch_px, seed=method.seed)
    held = [source.held(step) for step in range(HELD_OUT_BATCHES)]
    card, options = model_card(method, spec), method.fit_options()
    with torch_threads(threads), log_file(folder):
        result = fit(net, source.train, options, folder=folder, card=card, validate=held)
    metrics = {name: round(value, 3) for name, value in result.metrics.items()}
    steps = {"steps": result.step}
    card = card.model_copy(update={"metrics": metrics, "training": card.training | steps})
    with storing(weights):
        sha256 = save_weights(weights, net.to("cpu"), card)
    warnings = source.noise.warnings()
    if result.timed:
        warnings.append(
            f"denoise.minutes ({method.minutes:g}) shortened the training to {result.step} of "
            f"{method.iterations} steps: its result depends on how fast this machine was."
        )
    return {
        "sha256": sha256,
        **steps,
        "minutes": round(result.seconds / 60, 2),
        "threads": threads,
        "depends_on_machine": result.timed,
        "held_out_metrics": metrics,
        **source.facts(),
        "warnings": warnings,
    }


def model_card(method: denoise.Video, spec: RRDBSpec | UNetSpec) -> ModelCard:
    """What the weights' file says of them, but for the outcome of the training."""
    return ModelCard(
        name="video",
        spec=spec,
        data="overlapping noisy frames of one run (Noise2Noise)",
        licence="that of the frames",
        # Neither time nor places: the same frames and options are to give the same file.
        training={"method": method.model_dump(mode="json", exclude={"init", "device"})},
    )


@contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """What is printed goes into folder/training.log: progress bars are on the terminal."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (folder / "training.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads: the item has the machine for itself."""
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_of_a_machine(client: Client) -> int:
    """Threads that the workers of one machine have together; of the smallest machine."""
    threads: Counter[str] = Counter()
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        threads[worker["host"]] += worker["nthreads"]
    return min(threads.values(), default=1)


def drop_other_trainings(folder: Path) -> None:
    """Delete what trainings under other options or inputs have left beside `folder`."""
    for other in folder.parent.glob("training-*"):
        if other != folder:
            with storing(other):
                shutil.rmtree(other)
