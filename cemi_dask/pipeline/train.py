"""`cemi train denoise`: its config, the sources of data that it names, and the stages in order."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cemi_dask.denoise.checkpoints import SUFFIXES, ModelCard, load_model
from cemi_dask.denoise.networks import PRESETS, NetworkSpec, RRDBSpec, UNetSpec, build_network
from cemi_dask.denoise.training.batches import Batch, Batches
from cemi_dask.denoise.training.options import FitOptions
from cemi_dask.errors import ConfigError
from cemi_dask.explain import explain
from cemi_dask.pipeline.config import read_yaml
from cemi_dask.pipeline.train_data import Patches, TrainingData, open_source
from cemi_dask.store import write_text_atomic
from cemi_dask.torchlib import import_torch

if TYPE_CHECKING:
    import torch

CONFIG = "train.json"
MODEL = "model.safetensors"
STEPS_BETWEEN_STAGES = 10**9
AnySpec = RRDBSpec | UNetSpec


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _preset(value: Any) -> Any:
    """A network from a preset's name; anything else as it is."""
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"should be {' or '.join(sorted(PRESETS))}, or keys of a network")
    return PRESETS[value]


def _named_apart(stages: tuple[FitOptions, ...]) -> tuple[FitOptions, ...]:
    """The stages, whose names are also their folders."""
    if len({stage.name for stage in stages}) < len(stages):
        raise ValueError("should have different names")
    return stages


class TrainConfig(_Options):
    """Everything that decides a trained network."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Name of the model.")
    out: str | None = Field(
        default=None, description="Folder, relative to this file; default NAME-training."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the weights and of all data.")
    network: Annotated[NetworkSpec, BeforeValidator(_preset)] | None = Field(
        default=None,
        description="A network, or the name of a preset: compact or paper; null: that of `init`, "
        "else compact.",
    )
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


def load_training(path: str | Path) -> TrainConfig:
    """The training config in a YAML file; ConfigError names each wrong key and what is valid."""
    values = read_yaml(Path(path))
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        told = explain(error, given=values, model=TrainConfig)
        raise ConfigError(
            f"{path}: {told}. Correct it; configs/train_*.yaml are examples."
        ) from error


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
        _refuse_another(folder, config)
    net, spec = first_network(config, base)
    source = open_source(config.data, Patches(config.batch, config.patch_px, config.seed), base)
    if _is_first():
        _claim(folder, config, fresh=fresh)
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
            _LaterSteps(source.train, number * STEPS_BETWEEN_STAGES),
            stage,
            folder=folder / stage.name,
            card=card,
            validate=source.validate,
        )
    if _is_first():
        shutil.copyfile(result.last, folder / MODEL)
    return folder / MODEL


def first_network(config: TrainConfig, base: Path) -> tuple[torch.nn.Module, AnySpec]:
    """(the network as training starts, its spec); random from the seed, or from `init`."""
    if config.init is None:
        spec = config.network or PRESETS["compact"]
        return build_network(spec, seed=config.seed), spec
    is_file = Path(config.init).suffix.lower() in SUFFIXES
    loaded = load_model(base / config.init if is_file else config.init)
    if loaded.card is not None:
        spec = loaded.card.spec
    elif loaded.architecture == "ESRGAN":
        sizes: Any = loaded.net.hyperparameters
        spec = RRDBSpec(features=sizes["num_filters"], blocks=sizes["num_blocks"])
    else:
        raise ConfigError(
            f"init: {config.init} holds a {loaded.architecture} network, which cannot be trained "
            "here. Give weights of `cemi train`, or of the ESRGAN family."
        )
    if config.network not in (None, spec):
        raise ConfigError(
            f"init: {config.init} holds the network {spec!r}, and `network` asks for "
            f"{config.network!r}. Leave `network` away."
        )
    return loaded.net, spec


@dataclass(frozen=True)
class _LaterSteps:
    """The batches of `batches` from step `first` on: no stage sees the noise of another."""

    batches: Batches
    first: int

    def __call__(self, step: int) -> Batch:
        return self.batches(self.first + step)


def _resolved(stage: FitOptions, base: Path) -> FitOptions:
    """The stage with the file of perceptual weights as seen from here; ConfigError without it."""
    loss = stage.loss
    if loss.vgg19 is not None:
        loss = loss.model_copy(update={"vgg19": str(base / loss.vgg19)})
    if loss.perceptual_weight:
        loss.vgg19_file()  # before hours of the stages ahead of this one
    return stage.model_copy(update={"loss": loss})


def _is_first() -> bool:
    """True in the one process that writes, where torchrun started several."""
    return os.environ.get("RANK", "0") == "0"


def _refuse_another(folder: Path, config: TrainConfig) -> None:
    """ConfigError where `folder` holds the training of another config."""
    note = folder / CONFIG
    if not note.exists():
        return
    before = json.loads(note.read_text(encoding="utf-8"))
    values = config.model_dump(mode="json")
    changed = sorted(key for key in values if before.get(key) != values[key])
    if changed:
        raise ConfigError(
            f"{folder} holds a training with another config ({', '.join(changed)} differ). "
            "Give another --out, or --fresh to delete that training."
        )


def _claim(folder: Path, config: TrainConfig, *, fresh: bool) -> None:
    """Say in `folder` whose training it holds; with `fresh` delete the stages of the old one."""
    note = folder / CONFIG
    if fresh and note.exists():
        for stage in json.loads(note.read_text(encoding="utf-8"))["stages"]:
            shutil.rmtree(folder / stage["name"], ignore_errors=True)
    write_text_atomic(note, json.dumps(config.model_dump(mode="json"), indent=2))
