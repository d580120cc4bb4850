"""`cemi train segment`: its config, and the training from labelled pictures to weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from cemi_dask.errors import ConfigError
from cemi_dask.learn.batches import step_rng
from cemi_dask.learn.options import Options
from cemi_dask.learn.weights import is_file_name
from cemi_dask.pipeline.config import read_model
from cemi_dask.pipeline.segment_data import SegmentData, SegmentSource, open_labelled
from cemi_dask.pipeline.training_folder import MODEL, claim, is_first, refuse_another
from cemi_dask.segment import Network
from cemi_dask.segment.checkpoints import SegmenterCard, load_model
from cemi_dask.segment.networks import NetworkChoice, SegmenterSpec, build_network
from cemi_dask.segment.training import Augmentation, LabelledPatches, SegmentFit
from cemi_dask.segment.training.patches import held_out_batches
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

STAGE = "segment"
REPORTED = 8  # held-out pictures in the report


class SegmentTraining(Options):
    """Everything that decides a trained segmenter."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Name of the model.")
    out: str | None = Field(
        default=None, description="Folder, relative to this file; default NAME-training."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the weights and of all data.")
    labels: tuple[str, ...] = Field(
        default=("lamellar",), min_length=1, description="What is told apart, by its labels' names."
    )
    network: NetworkChoice = SegmenterSpec()
    data: SegmentData
    batch: int = Field(default=4, ge=1, description="Patches per step (and process).")
    init: str | None = Field(
        default=None,
        description="Weights to go on from: a shipped model, or a file of `cemi train segment`, "
        "of the same network and labels.",
    )
    encoder_weights: str | None = Field(
        default=None,
        description="What the encoder starts from: a file, micronet or image-micronet "
        "(downloaded); null: random weights.",
    )
    patch_px: int = Field(default=256, ge=32, multiple_of=32, description="Side of the patches.")
    per_picture: int = Field(
        default=1, ge=1, description="Patches that each picture gives in an epoch."
    )
    augmentation: Augmentation = Augmentation()
    fit: SegmentFit = SegmentFit()
    description: str | None = Field(
        default=None, description="What the model card says of the data; null: their kind."
    )
    licence: str = Field(default="unstated", description="Terms of the weights.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.patch_px % self.network.multiple_px:
            raise ValueError(
                f"patch_px: should be a multiple of {self.network.multiple_px} for this network"
            )
        if self.init is not None and self.encoder_weights is not None:
            raise ValueError("encoder_weights: should be left away with init, which has them")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: should have different names")
        return self


def load_segment_training(path: str | Path) -> SegmentTraining:
    """The config in a YAML file; ConfigError names each wrong key and what is valid."""
    return read_model(Path(path), SegmentTraining, "configs/train_segment*.yaml")


def train_segmenter(path: str | Path, *, out: Path | None = None, fresh: bool = False) -> Path:
    """Train what the config in `path` describes; the file of the weights that were best.

    Run again, it goes on from the last checkpoint; `fresh` deletes what was there. Raises
    ConfigError for a wrong config, or a folder that holds a training of another one.
    """
    path = Path(path)
    config, base = load_segment_training(path), path.resolve().parent
    folder = out or base / (config.out or f"{config.name}-training")
    import_torch()  # says what to install, before anything is rendered or written
    from cemi_dask.segment.training.loop import fit

    if not fresh:
        refuse_another(folder, config)
    net = first_network(config, base)
    source = open_labelled(config.data, config.labels, base, seed=config.seed)
    if is_first():
        claim(folder, config, (STAGE,) if fresh else ())
    patches = LabelledPatches(
        source.train,
        config.batch,
        config.patch_px,
        config.seed,
        config.augmentation,
        config.per_picture,
        source.degrade,
    )
    held = held_out_batches(
        source.held, config.patch_px, config.batch, degrade=source.degrade, seed=config.seed + 1
    )
    card = SegmenterCard(
        name=config.name,
        spec=config.network,
        labels=config.labels,
        patch_px=config.patch_px,
        data=config.description or f"{config.data.kind} pictures",
        licence=config.licence,
        training={"config": config.model_dump(mode="json")},
    )
    result = fit(net, patches, config.fit, folder=folder / STAGE, card=card, validate=held)
    if is_first():
        shutil.copyfile(result.best or result.last, folder / MODEL)
        write_report(folder, config, source)
    return folder / MODEL


def first_network(config: SegmentTraining, base: Path) -> torch.nn.Module:
    """The network as the training starts: random from the seed, or with weights of its own.

    Raises ConfigError where `init` holds another network or other labels.
    """
    if config.init is not None:
        name = config.init
        loaded = load_model(base / name if is_file_name(name) else name)
        if (loaded.card.spec, loaded.card.labels) != (config.network, config.labels):
            raise ConfigError(
                f"init: {name} holds {loaded.card.spec!r} for {', '.join(loaded.card.labels)}. "
                "Give the same `network` and `labels`."
            )
        return loaded.net
    net = build_network(config.network, len(config.labels), seed=config.seed)
    if config.encoder_weights is not None:
        from cemi_dask.segment.encoders import load_encoder

        load_encoder(net, config.encoder_weights, encoder=config.network.encoder, base=base)
    return net


def write_report(folder: Path, config: SegmentTraining, source: SegmentSource) -> Path:
    """report.html in the folder of a training: its curves, and held-out pictures as labelled."""
    from cemi_dask.report.training_page import Example, write_training_page
    from cemi_dask.segment.training.loop import summary

    stage = folder / STAGE
    model = Network(
        model=str(folder / MODEL),
        device=config.fit.device,
        tile_px=config.patch_px,
        overlap_px=config.patch_px // 4,
    )
    examples = []
    for number, held in enumerate(source.held[:REPORTED]):
        picture = np.asarray(held.picture, np.float32)
        if source.degrade is not None:
            picture = source.degrade(picture, step_rng(config.seed + 1, number))
        found = model.all_labels(picture)
        told = summary([(found, held.labels)], config.labels)
        examples.append(Example(held.name, picture, held.labels, found, told))
    names = [name for name in ("log", "validation") if (stage / f"{name}.csv").exists()]
    card = load_model(folder / MODEL).card
    return write_training_page(
        folder / "report.html",
        title=f"Training of {config.name}",
        logs={name: pd.read_csv(stage / f"{name}.csv") for name in names},
        examples=examples,
        facts={
            "network": f"{config.network.architecture}, encoder {config.network.encoder}",
            "labels": ", ".join(config.labels),
            "pictures": f"{len(source.train)} to train on, {len(source.held)} held out",
            "best after": f"{card.training['steps']} steps of {config.batch} patches",
            **{key: f"{value:.3f}" for key, value in card.metrics.items()},
        },
    )
