"""What every stage of a run is given: config, folder, client, ledger, progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

from cemi_dask.frames import Source
from cemi_dask.pipeline.config import RunConfig
from cemi_dask.pipeline.execute import LedgerCompute
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.ledger import Ledger, StageLedger
from cemi_dask.pipeline.monitor.facts import Unit
from cemi_dask.pipeline.placement import Placement
from cemi_dask.pipeline.progress import Progress

_OF_FRAMES = ("register", "solve", "train", "denoise")
_OF_PIXELS = ("blend", "pyramid", "segment", "analyse")


@dataclass
class StageRecord:
    """What one stage did in this run, for run.json."""

    items: int = 0
    skipped: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass
class StageScope:
    """One stage while it runs: its ledger, and the `Compute` that fills it."""

    ledger: StageLedger
    compute: LedgerCompute

    @property
    def starts_anew(self) -> bool:
        """True when no item is finished: what an older run wrote may be replaced."""
        return not self.ledger.finished and not self.ledger.complete


@dataclass(frozen=True)
class Order:
    """What is asked for: the config, where its paths start, its sources, the stages' digests."""

    config: RunConfig
    base: Path
    digests: dict[str, str]
    sources: tuple[Source, ...] = ()

    @property
    def pixel_um(self) -> float | None:
        """The pixel size that counts: the config's, else that of the files' metadata, else None."""
        return self.sources[0].pixel_um if self.sources else self.config.input.pixel_um


@dataclass(frozen=True)
class Share:
    """A run's share of a cluster: where its items may go, its place in the queue, how it ends."""

    placement: Placement
    # Of runs side by side, the items of the one with the highest come first.
    priority: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    # CPU seconds of what is done outside items: of this process, or of this run's thread alone.
    clock: Callable[[], float] = time.process_time

    @property
    def alone(self) -> bool:
        """Whether the cluster is this run's own."""
        return self.clock is time.process_time


@dataclass
class Context:
    """A run on its way through the stages."""

    order: Order
    folder: RunFolder
    share: Share
    ledger: Ledger
    progress: Progress
    warnings: list[str] = field(default_factory=list)
    records: dict[str, StageRecord] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The checked config."""
        return self.order.config

    @property
    def client(self) -> Client:
        """The client of the cluster."""
        return self.share.placement.client

    def warn(self, text: str) -> None:
        """Say a warning and record it for run.json and the report, once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.progress.say(f"Warning: {text}")

    def size_of(self, stage: str) -> tuple[int, Unit]:
        """What `stage` works through as a whole, as far as earlier stages have told: frames or px
        of the mosaic; 0 items where nothing is known."""
        if stage in _OF_FRAMES and "frames" in self.facts:
            return int(self.facts["frames"]["taken"]), "frames"
        if stage in _OF_PIXELS and self.facts.get("mosaic_shape"):
            height, width = self.facts["mosaic_shape"]
            return height * width, "px"
        return 0, "items"

    def wants_gpu(self, method: Any, stage: str) -> bool:
        """Whether `stage` sends its work with `method` to workers that offer a GPU."""
        return self.share.placement.wants_gpu(getattr(method, "device", None), stage=stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageScope]:
        """Run one stage under its digest; what it did is recorded when it ends well."""
        ledger = self.ledger.stage(name, self.order.digests[name])
        self.progress.stage(name)
        begun = time.perf_counter(), self.share.clock()
        compute = LedgerCompute(
            self.client,
            ledger,
            self.progress,
            placement=self.share.placement,
            priority=self.share.priority,
            stop=self.share.stop,
        )
        scope = StageScope(ledger, compute)
        if scope.starts_anew:
            self.folder.forget(name)
        yield scope
        ledger.finish()
        wall = time.perf_counter() - begun[0]
        cpu = compute.cpu_s + self.share.clock() - begun[1]
        self.records[name] = StageRecord(compute.items, compute.skipped, wall, cpu)
        reused = f", {compute.skipped} of {compute.items} reused" if compute.skipped else ""
        self.progress.finish(f"done in {wall:.1f} s{reused}")
