"""The config of a run: one YAML file, checked before anything starts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from cemi_dask.analyse import AnalyseOptions, CorrelateOptions, GridOptions
from cemi_dask.blend import BLENDERS, Feather
from cemi_dask.denoise import DENOISERS
from cemi_dask.errors import ConfigError
from cemi_dask.explain import explain
from cemi_dask.frames import InputOptions, SelectionOptions
from cemi_dask.pipeline.cluster_options import ClusterOptions, LocalOptions
from cemi_dask.pipeline.limits import StitchOptions
from cemi_dask.register import RegisterOptions
from cemi_dask.report import ReportOptions
from cemi_dask.segment import PHASES, SEGMENTERS, Bradley, Coherence, Labeller
from cemi_dask.solve import SolveOptions
from cemi_dask.store import MosaicOptions

STAGES = (
    "frames",
    "register",
    "solve",
    "train",
    "denoise",
    "blend",
    "pyramid",
    "segment",
    "analyse",
    "report",
)


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentOptions(_Options):
    """Which method finds the lamellar regions, and which the BCC phase."""

    lamellar: Any = None
    bcc: Any = None

    def methods(self) -> dict[str, Labeller]:
        """The methods by the name of their label."""
        return {"lamellar": self.lamellar, "bcc": self.bcc}


class HardnessOptions(CorrelateOptions):
    """The file of indentations to relate the measures to."""

    file: str = Field(description="CSV with columns x_um and hardness, relative to this file")


class AnalyseSection(AnalyseOptions):
    """The grid, what is measured in its cells, and what it is related to."""

    grid: GridOptions = GridOptions(cell_px=(413, 508))
    hardness: HardnessOptions | None = None


class RunConfig(_Options):
    """Everything that decides a run's results, and where they go.

    The fields that take a method (denoise, blend, segment.*) are unions told apart by their
    key `method`; `config_model` fills them in from the registries, plug-ins included.
    """

    name: str = Field(
        default="ingot", pattern=r"^[\w.-]+$", description="used in titles and file names"
    )
    out: str | None = Field(
        default=None, description="run folder, relative to this file; default NAME-run"
    )
    input: InputOptions
    frames: SelectionOptions = SelectionOptions()
    register_: RegisterOptions = Field(default=RegisterOptions(), alias="register")
    solve: SolveOptions = SolveOptions()
    stitch: StitchOptions = StitchOptions()
    denoise: Any = None
    blend: Any = None
    mosaic: MosaicOptions = MosaicOptions()
    segment: Any = None
    analyse: AnalyseSection | None = AnalyseSection()
    report: ReportOptions = ReportOptions()
    cluster: ClusterOptions = LocalOptions()

    @model_validator(mode="after")
    def _one_geometry(self) -> RunConfig:
        if self.solve.elastic and getattr(self.denoise, "needs", "frame") != "frame":
            raise ValueError(
                f"solve.elastic bends every frame by itself, and denoise: {self.denoise.method} "
                "puts neighbouring frames on one grid without that; choose one of them"
            )
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this run in order: all, but train only for a denoiser that asks for it."""
        trains = self.denoise is not None and self.denoise.needs == "training"
        return tuple(stage for stage in STAGES if trains or stage != "train")

    def located(self, base: Path) -> Self:
        """The same with absolute paths of weights, which mean the same on every worker."""
        changes: dict[str, Any] = {}
        if self.denoise is not None:
            changes["denoise"] = self.denoise.located(base)
        if self.segment is not None:
            methods = self.segment.methods().items()
            placed = {name: method.located(base) for name, method in methods}
            changes["segment"] = self.segment.model_copy(update=placed)
        return self.model_copy(update=changes)

    def dump(self) -> dict[str, Any]:
        """The config as resolved, ready for JSON or YAML."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The config as resolved, as YAML in the order of the schema."""
        return yaml.safe_dump(self.dump(), sort_keys=False)


def run_name(out: Path, otherwise: str) -> str:
    """A name for the run in the folder `out`: the folder's, in letters that `name` may have."""
    return re.sub(r"[^\w.-]+", "-", out.resolve().name).strip("-") or otherwise


@cache
def config_model() -> type[RunConfig]:
    """`RunConfig` with the method fields typed from the registries (plug-ins included)."""
    lamellar, bcc = SEGMENTERS.field_type(), PHASES.field_type()
    segment = create_model(
        "SegmentOptions",
        __base__=SegmentOptions,
        lamellar=(lamellar, Coherence()),
        bcc=(bcc, Bradley()),
    )
    return create_model(
        "RunConfig",
        __base__=RunConfig,
        denoise=(DENOISERS.field_type() | None, None),
        blend=(BLENDERS.field_type(), Feather()),
        segment=(segment | None, segment()),
    )


def parse_config(values: Any, *, origin: str = "config") -> RunConfig:
    """A checked config from a mapping; ConfigError names each wrong key and what is valid."""
    if not isinstance(values, dict):
        held = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{origin} holds {held}, not keys and values. configs/ has examples.")
    try:
        return config_model().model_validate(values)
    except ValidationError as error:
        told = explain(error, given=values, model=config_model())
        raise ConfigError(f"{origin}: {told}. Correct it, or see configs/ for examples.") from error


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML in which a key may occur once: YAML itself drops all but the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} occurs twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return dict(super().construct_mapping(node, deep=deep))


def load_config(path: str | Path) -> RunConfig:
    """The config in a YAML file.

    Raises ConfigError when the file is missing, is no YAML, or has a wrong key or value.
    """
    return parse_config(read_yaml(path), origin=str(path))


M = TypeVar("M", bound=BaseModel)


def read_model(path: Path, model: type[M], examples: str) -> M:
    """What a YAML file holds as `model`; ConfigError names each wrong key and `examples`."""
    values = read_yaml(path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        told = explain(error, given=values, model=model)
        raise ConfigError(f"{path}: {told}. Correct it; {examples} are examples.") from error


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds; ConfigError when it is missing or no YAML."""
    path = Path(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 (safe)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the config {path}: {error.strerror}. Give a YAML file; configs/ has some."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(
            f"{path} is no valid YAML: {told}. Correct that line; configs/ has examples."
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of a config, for editors."""
    return config_model().model_json_schema(by_alias=True)
