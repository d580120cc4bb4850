"""`Video`: a network that is trained in the run itself, from the frames' overlaps alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from cemi_dask.denoise.checkpoints import model_path
from cemi_dask.denoise.method import Denoiser, Needs
from cemi_dask.denoise.network import Network
from cemi_dask.denoise.networks import NetworkChoice
from cemi_dask.learn.devices import Device, Precision
from cemi_dask.learn.weights import file_sha256, is_file_name

if TYPE_CHECKING:
    from cemi_dask.denoise.training.options import FitOptions


class Video(Denoiser):
    """A network trained in the run, after solve: overlapping frames are noisy looks at one place.

    Noise2Noise (Lehtinen et al. 2018): no sharp pictures are needed, only frames that overlap,
    whose noise is independent, and a layout good to 0.3 px.
    """

    needs: ClassVar[Needs] = "training"

    method: Literal["video"] = "video"
    network: NetworkChoice = None
    init: str | None = Field(
        default=None,
        description="Weights to start from: a shipped model, or a file of `cemi train denoise` or "
        "ESRGAN's; null: the shipped ones, or random ones where `network` is given.",
    )
    iterations: int = Field(default=6500, ge=1, description="Steps of the training (at most).")
    minutes: float | None = Field(
        default=15.0,
        gt=0,
        description="Stop after this time even so; results then depend on the machine. null: no "
        "limit.",
    )
    batch: int = Field(default=8, ge=1, description="Patches per step.")
    patch_px: int = Field(
        default=112, ge=32, multiple_of=8, description="Side of the patches, at most the overlap."
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Of Adam, after a warm-up; falls along a cosine."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the first weights and of all patches.")
    device: Device = Field(
        default="auto",
        description="Where to train and denoise. auto: workers that offer a GPU, else the CPU.",
    )
    precision: Precision = Field(
        default="auto",
        description="Arithmetic of the training; auto: bfloat16 on a GPU and on processors with "
        "AMX, else float32.",
    )

    @property
    def start(self) -> str | None:
        """The weights to start from; None for random ones."""
        return self.init or ("compact" if self.network is None else None)

    def memory_bytes(self, frame_px: int) -> int:
        """Bytes that a worker needs while the trained network cleans a frame."""
        return Network().memory_bytes(frame_px)

    def located(self, base: Path) -> Self:
        """The same with an absolute path, which means the same on every worker."""
        if self.init is None or not is_file_name(self.init):
            return self
        return self.model_copy(update={"init": str((base / self.init).absolute())})

    def fingerprint(self) -> str | None:
        """SHA-256 of the weights to start from."""
        return None if self.start is None else file_sha256(model_path(self.start))

    def fit_options(self) -> FitOptions:
        """How the network is fitted: L2, whose optimum is the mean of noisy targets."""
        from cemi_dask.denoise.training.options import FitOptions, LossOptions
        from cemi_dask.learn import RateOptions

        return FitOptions(
            name="video",
            iterations=self.iterations,
            minutes=self.minutes,
            loss=LossOptions(pixel="l2"),
            learning_rate=RateOptions(
                start=self.learning_rate,
                schedule="cosine",
                end=self.learning_rate / 1000,
                warmup=min(200, max(1, self.iterations // 20)),
            ),
            clip_norm=0.2,
            precision=self.precision,
            device=self.device,
            seed=self.seed,
            log_every=50,
            validate_every=1000,
            checkpoint_every=100,
        )

    def trained(self, weights: Path) -> Network:
        """The denoiser that applies the weights of the training."""
        return Network(model=str(weights), device=self.device)
