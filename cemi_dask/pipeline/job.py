"""One run, from a config to a report: `run`."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dask.utils import format_bytes
from distributed import Client, performance_report

from cemi_dask import __version__, frames
from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.cluster import (
    AddressOptions,
    LocalOptions,
    cluster_peak_rss,
    open_client,
    parse_cluster,
    peak_rss_bytes,
)
from cemi_dask.pipeline.config import STAGES, RunConfig, load_config
from cemi_dask.pipeline.context import Context, RunFolder
from cemi_dask.pipeline.digests import run_digests
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.progress import Progress, choose_progress
from cemi_dask.pipeline.stages import walk
from cemi_dask.store import remove_partial_files, write_json_atomic

LIBRARIES = ("numpy", "scipy", "dask", "distributed", "zarr", "opencv-python-headless", "av")


@dataclass(frozen=True)
class RunResult:
    """Where a run left its results, and what it said of itself."""

    out: Path
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.out / "report.html"

    @property
    def mosaic(self) -> Path:
        """The OME-Zarr mosaic; open it with `cemi_dask.open_mosaic`."""
        return self.out / "mosaic.ome.zarr"

    @property
    def tables(self) -> Path:
        """The folder of CSV and Parquet tables."""
        return self.out / "tables"


def run(
    config: RunConfig | str | Path,
    *,
    out: str | Path | None = None,
    cluster: str | None = None,
    fresh: bool = False,
    until: str = STAGES[-1],
    progress: Progress | None = None,
) -> RunResult:
    """Turn videos or tiles into a mosaic and its microstructure, as `config` says.

    `config` is a YAML file or a `RunConfig` (whose relative paths start at the working
    folder). Finished items of an earlier run in the same folder are kept unless `fresh`.
    `cluster` is ``"local"`` or a scheduler's address, and overrides the config. `until`
    names the last stage to run. Raises a `CemiError` that says what, where, and what to do.
    """
    if until not in STAGES:
        raise ConfigError(f"There is no stage {until!r}. Stages are: {', '.join(STAGES)}.")
    base = Path.cwd() if isinstance(config, RunConfig) else Path(config).resolve().parent
    checked = config if isinstance(config, RunConfig) else load_config(config)
    folder = RunFolder(out_folder(checked, base, out))
    options = checked.cluster if cluster is None else parse_cluster(cluster)
    digests = run_digests(checked, base, frames.find_sources(checked.input, base))
    if fresh:
        clear(folder)
    with open_context(checked, base, folder, options, digests, progress) as context:
        return Job(context, walk).work(until)


@contextmanager
def open_context(
    config: RunConfig,
    base: Path,
    folder: RunFolder,
    cluster: LocalOptions | AddressOptions,
    digests: dict[str, str],
    progress: Progress | None = None,
) -> Iterator[Context]:
    """A locked run folder, a connected client, and progress on the terminal."""
    ledger = Ledger(folder.ledger)
    bars = nullcontext(progress) if progress is not None else choose_progress()
    with ledger.locked(), bars as shown, open_client(cluster) as client:
        remove_partial_files(folder.path)
        yield Context(config, base, folder, client, ledger, shown, digests)


def out_folder(config: RunConfig, base: Path, out: str | Path | None) -> Path:
    """The run folder: the argument, else the config's `out`, else NAME-run beside it."""
    if out is not None:
        return Path(out).resolve()
    return (base / (config.out or f"{config.name}-run")).resolve()


def clear(folder: RunFolder) -> None:
    """Delete what an earlier run wrote in `folder`, and nothing else."""
    if folder.path.exists() and not folder.ledger.is_dir() and any(folder.path.iterdir()):
        raise ConfigError(
            f"--fresh: {folder.path} holds files but no ledger, so it is no run folder. "
            "Give another --out."
        )
    for name in RunFolder.OWN:
        path = folder.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class Job:
    """A run in progress: walks the stages and keeps run.json true after each."""

    def __init__(self, context: Context, walk: Callable[[Context], Iterator[str]]) -> None:
        self.context = context
        self.walk = walk
        self.begun = time.perf_counter()
        self.started = now()
        self.link: str | None = None
        self.memory = {"client": peak_rss_bytes()}

    def work(self, until: str) -> RunResult:
        """Run the stages up to `until` and write run.json after each one."""
        context = self.context
        self.link = dashboard_link(context.client)
        if self.link:
            context.progress.say(f"Dashboard: {self.link}")
        state = "running"
        try:
            with performance_report(filename=str(context.folder.path / "dask-report.html")):
                for stage in self.walk(context):
                    self._take_memory()
                    self.write(state)
                    if stage == until:
                        break
            state = "finished"
        except BaseException as error:
            state = "failed"
            self.write(state, error)
            raise
        self.write(state)
        return RunResult(context.folder.path, self.summary(state))

    def _take_memory(self) -> None:
        for process, peak in cluster_peak_rss(self.context.client).items():
            self.memory[process] = max(peak, self.memory.get(process, 0))

    def write(self, state: str, error: BaseException | None = None) -> None:
        """Write run.json; `error` is recorded as the reason of a failure."""
        summary = self.summary(state)
        if error is not None:
            summary["error"] = f"{type(error).__name__}: {error}"
        write_json_atomic(self.context.folder.run_json, summary)

    def summary(self, state: str) -> dict[str, Any]:
        """What run.json holds."""
        context, config = self.context, self.context.config
        facts = {k: v for k, v in context.facts.items() if k != "frame_keys"}
        return {
            "cemi_dask": __version__,
            "state": state,
            "name": config.name,
            "started": self.started,
            "finished": now(),
            "wall_s": round(time.perf_counter() - self.begun, 3),
            "command": sys.argv,
            "versions": library_versions(),
            "machine": machine(context.client),
            "dashboard": self.link,
            "pixel_um": config.input.pixel_um,
            **facts,
            "stages": {name: asdict(record) for name, record in context.records.items()},
            "digests": context.digests,
            "memory": {
                "peak_rss_bytes": self.memory,
                "largest": format_bytes(max(self.memory.values())),
            },
            "warnings": context.warnings,
            "config": config.dump(),
            "config_yaml": config.to_yaml(),
        }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def dashboard_link(client: Client) -> str | None:
    """Where the scheduler's dashboard is; None where it has none."""
    services = client.scheduler_info(n_workers=0)["services"]
    return client.dashboard_link if "dashboard" in services else None


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that touch pixels."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def machine(client: Client) -> dict[str, Any]:
    """The workers' threads and memory limits."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {
        "platform": platform.platform(),
        "workers": len(workers),
        "threads": sum(worker["nthreads"] for worker in workers.values()),
        "memory_limit_bytes": sum(worker["memory_limit"] or 0 for worker in workers.values()),
    }
