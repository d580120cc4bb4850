"""`cemi train segment`: its config, and the training from labelled pictures to weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import Field, ValidationError

from cemi_dask.errors import ConfigError
from cemi_dask.explain import explain
from cemi_dask.learn.options import Options
from cemi_dask.pipeline.config import read_yaml
from cemi_dask.pipeline.segment_data import SegmentData, open_labelled
from cemi_dask.pipeline.training_folder import MODEL, claim, is_first, refuse_another
from cemi_dask.segment.checkpoints import SegmenterCard
from cemi_dask.segment.networks import NetworkChoice, SegmenterSpec, build_network
from cemi_dask.segment.training import Augmentation, LabelledPatches, SegmentFit
from cemi_dask.segment.training.patches import held_out_batches
from cemi_dask.torchlib import import_torch

STAGE = "segment"


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


def load_segment_training(path: str | Path) -> SegmentTraining:
    """The config in a YAML file; ConfigError names each wrong key and what is valid."""
    values = read_yaml(Path(path))
    try:
        return SegmentTraining.model_validate(values)
    except ValidationError as error:
        told = explain(error, given=values, model=SegmentTraining)
        raise ConfigError(
            f"{path}: {told}. Correct it; configs/train_segment*.yaml are examples."
        ) from error


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

    if config.patch_px % config.network.multiple_px:
        raise ConfigError(
            f"{path}: patch_px {config.patch_px} must be a multiple of "
            f"{config.network.multiple_px} for this network."
        )
    if not fresh:
        refuse_another(folder, config)
    net = build_network(config.network, len(config.labels), seed=config.seed)
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
    return folder / MODEL
