"""What every stage of a run is given: config, folder, client, ledger, progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

from cemi_dask.pipeline.config import RunConfig
from cemi_dask.pipeline.execute import LedgerCompute
from cemi_dask.pipeline.ledger import Ledger, StageLedger
from cemi_dask.pipeline.progress import Progress


@dataclass(frozen=True)
class RunFolder:
    """The places of a run folder (a contract: other people's scripts read them)."""

    path: Path

    @property
    def mosaic(self) -> Path:
        """The OME-Zarr mosaic."""
        return self.path / "mosaic.ome.zarr"

    @property
    def frames(self) -> Path:
        """The frames taken, and their denoised versions, one array per source."""
        return self.path / "frames.zarr"

    @property
    def tables(self) -> Path:
        """CSV and Parquet tables."""
        return self.path / "tables"

    @property
    def ledger(self) -> Path:
        """Resume state."""
        return self.path / "ledger"

    @property
    def run_json(self) -> Path:
        """Versions, config, timings, memory, warnings."""
        return self.path / "run.json"

    # Everything a run writes at the top of its folder, and so may delete with --fresh.
    OWN = (
        "mosaic.ome.zarr",
        "frames.zarr",
        "tables",
        "figures",
        "ledger",
        "run.json",
        "report.html",
        "dask-report.html",
    )


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


@dataclass
class Context:
    """A run on its way through the stages."""

    config: RunConfig
    base: Path
    folder: RunFolder
    client: Client
    ledger: Ledger
    progress: Progress
    digests: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    records: dict[str, StageRecord] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Record a warning for run.json and the report, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageScope]:
        """Run one stage under its digest; what it did is recorded when it ends well."""
        ledger = self.ledger.stage(name, self.digests[name])
        self.progress.stage(name)
        begun = time.perf_counter(), time.process_time()
        compute = LedgerCompute(self.client, ledger, self.progress)
        yield StageScope(ledger, compute)
        ledger.finish()
        wall = time.perf_counter() - begun[0]
        cpu = compute.cpu_s + time.process_time() - begun[1]
        self.records[name] = StageRecord(compute.items, compute.skipped, wall, cpu)
        reused = f", {compute.skipped} of {compute.items} reused" if compute.skipped else ""
        self.progress.finish(f"done in {wall:.1f} s{reused}")
