"""`cemi train denoise`: its config, the sources of data that it names, and the stages in order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from cemi_dask.denoise.checkpoints import ModelCard, first_network
from cemi_dask.denoise.networks import NetworkChoice
from cemi_dask.denoise.training.options import FitOptions, LossOptions
from cemi_dask.learn.batches import LaterSteps
from cemi_dask.learn.weights import is_file_name
from cemi_dask.pipeline.config import read_model
from cemi_dask.pipeline.train_data import Patches, TrainingData, VideoData, open_source
from cemi_dask.pipeline.training_folder import MODEL, claim, is_first, old_stages, refuse_another
from cemi_dask.torchlib import import_torch

STEPS_BETWEEN_STAGES = 10**9


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _named_apart(stages: tuple[FitOptions, ...]) -> tuple[FitOptions, ...]:
    """The stages, whose names are also their folders."""
    if len({stage.name for stage in stages}) < len(stages):
        raise ValueError("should have different names")
    return stages


def _fits_noisy_targets(config: TrainConfig) -> TrainConfig:
    """The config, whose losses suit its targets."""
    wanted = LossOptions(pixel="l2")
    for number, stage in enumerate(config.stages):
        given = stage.loss.model_copy(update={"pixel_weight": 1.0})
        if isinstance(config.data, VideoData) and given != wanted:
            raise ValueError(
                f"stages.{number}.loss: should be {{pixel: l2}} alone with data.kind video, whose "
                "targets are noisy: only their mean is the picture"
            )
    return config


class TrainConfig(_Options):
    """Everything that decides a trained network."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Name of the model.")
    out: str | None = Field(
        default=None, description="Folder, relative to this file; default NAME-training."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the weights and of all data.")
    network: NetworkChoice = None
    init: str | None = Field(
        default=None,
        description="Weights to start from: a shipped model, or a file, ours or ESRGAN's.",
    )
    data: TrainingData
    batch: int = Field(default=18, ge=1, description="Patches per step (and process).")
    patch_px: int = Field(default=256, ge=16, multiple_of=8, description="Side of the patches.")
    stages: Annotated[tuple[FitOptions, ...], AfterValidator(_named_apart)] = Field(
        min_length=1, description="Done one after the other, each from the one before."
    )
    description: str | None = Field(
        default=None, description="What the model card says of the data; null: their kind."
    )
    licence: str = Field(default="unstated", description="Terms of the weights.")

    _suits = model_validator(mode="after")(_fits_noisy_targets)


def load_training(path: str | Path) -> TrainConfig:
    """The training config in a YAML file; ConfigError names each wrong key and what is valid."""
    return read_model(Path(path), TrainConfig, "configs/train_*.yaml")


def train_denoiser(path: str | Path, *, out: Path | None = None, fresh: bool = False) -> Path:
    """Train what the config in `path` describes; the file of the trained weights.

    Run again, it goes on from the last checkpoint; `fresh` deletes what was there. Raises
    ConfigError for a wrong config, or a folder that holds a training of another one.
    """
    path = Path(path)
    config, base = load_training(path), path.resolve().parent
    folder = out or base / (config.out or f"{config.name}-training")
    import_torch()  # says what to install, before anything is rendered or written
    from cemi_dask.denoise.training.loop import fit

    stages = [_resolved(stage, base) for stage in config.stages]
    if not fresh:
        refuse_another(folder, config)
    init = config.init
    if init is not None and is_file_name(init):
        init = str(base / init)
    net, spec = first_network(config.network, init, seed=config.seed)
    source = open_source(config.data, Patches(config.batch, config.patch_px, config.seed), base)
    if is_first():
        claim(folder, config, old_stages(folder) if fresh else ())
    card = ModelCard(
        name=config.name,
        spec=spec,
        data=config.description or f"{config.data.kind} pictures",
        licence=config.licence,
        training={"config": config.model_dump(mode="json")},
    )
    for number, stage in enumerate(stages):
        print(f"Stage {stage.name}: up to {stage.iterations} iterations", flush=True)
        result = fit(
            net,
            LaterSteps(source.train, number * STEPS_BETWEEN_STAGES),
            stage,
            folder=folder / stage.name,
            card=card,
            validate=source.validate,
        )
    if is_first():
        shutil.copyfile(result.last, folder / MODEL)
    return folder / MODEL


def _resolved(stage: FitOptions, base: Path) -> FitOptions:
    """The stage with the file of perceptual weights as seen from here; ConfigError without it."""
    loss = stage.loss
    if loss.vgg19 is not None:
        loss = loss.model_copy(update={"vgg19": str(base / loss.vgg19)})
    if loss.perceptual_weight:
        loss.vgg19_file()  # before hours of the stages ahead of this one
    return stage.model_copy(update={"loss": loss})
