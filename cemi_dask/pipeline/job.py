"""One run, from a config to a report: `run`."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dask.utils import format_bytes
from distributed import Client, performance_report

from cemi_dask import __version__, frames
from cemi_dask.analyse import Cells
from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.pipeline.checks import check_analysis, check_segmenting, check_training
from cemi_dask.pipeline.cluster import cluster_peak_rss, open_client, peak_rss_bytes
from cemi_dask.pipeline.cluster_options import AnyCluster, LocalOptions, parse_cluster
from cemi_dask.pipeline.config import STAGES, RunConfig, load_config
from cemi_dask.pipeline.context import Context, Order, Share
from cemi_dask.pipeline.digests import run_digests
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.monitor import Reporter
from cemi_dask.pipeline.placement import Placement, check_placement
from cemi_dask.pipeline.progress import Progress, choose_progress
from cemi_dask.pipeline.stages import walk
from cemi_dask.store import read_table, storing, write_json_atomic

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

    @property
    def cells(self) -> Cells:
        """What was measured on the grid; StoreError where the run has no stage analyse."""
        return Cells(read_table(self.tables, "cells"))


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
    `cluster` is a kind of cluster or a scheduler's address, and overrides the config. `until`
    names the last stage to run. Raises a `CemiError` that says what, where, and what to do.
    """
    if until not in STAGES:
        raise ConfigError(f"There is no stage {until!r}. Stages are: {', '.join(STAGES)}.")
    order, folder, options = take_order(config, out, cluster)
    if until not in order.config.stages:
        raise ConfigError(
            f"This run has no stage {until!r}: its denoiser is not trained. Stages of it are: "
            f"{', '.join(order.config.stages)}."
        )
    with open_context(order, folder, options, fresh=fresh, progress=progress) as context:
        return Job(context, walk).work(until)


@contextmanager
def open_context(
    order: Order,
    folder: RunFolder,
    cluster: AnyCluster | Share,
    *,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Iterator[Context]:
    """A locked run folder (emptied where `fresh`), a connected client, progress on the terminal.

    `cluster` says where the work is done, or is a share of a cluster that is open already.
    Raises ConfigError for a folder that holds what no run has left, ResourceError for one in
    which another process is running.
    """
    folder.refuse_foreign(fresh=fresh)
    ledger = Ledger(folder.ledger)
    bars = nullcontext(progress) if progress is not None else choose_progress()
    with ledger.locked():
        if fresh:
            folder.clear()
        folder.sweep()
        with bars as shown, own_share(cluster) as share:
            context = Context(order, folder, share, ledger, shown)
            with Reporter(
                shown, context.client, run=order.config.name, folder=folder, sizes=context.size_of
            ) as reporter:
                context.progress = reporter
                yield context


@contextmanager
def own_share(cluster: AnyCluster | Share) -> Iterator[Share]:
    """The whole of a cluster that is opened for it, or the share that is given."""
    if isinstance(cluster, Share):
        yield cluster
        return
    with open_client(cluster) as client:
        yield Share(Placement(client, cluster))


def take_order(
    config: RunConfig | str | Path,
    out: str | Path | None,
    cluster: str | AnyCluster | None,
    *,
    base: Path | None = None,
) -> tuple[Order, RunFolder, AnyCluster]:
    """What is asked for, where it goes and who does it; all that can be refused is refused.

    Reads the config and the headers of the input, no pixels. `base` is where the paths of a
    `RunConfig` start, by default the working folder.
    """
    if not isinstance(config, RunConfig):
        base = Path(config).resolve().parent
    base = base or Path.cwd()
    checked = config if isinstance(config, RunConfig) else load_config(config)
    checked = checked.located(base)
    folder = RunFolder(out_folder(checked, base, out))
    options = checked.cluster if cluster is None else cluster
    if isinstance(options, str):
        options = parse_cluster(options, checked.cluster)
    check_placement(options, checked.denoise)
    sources = frames.prepare(frames.find_sources(checked.input, base), checked.input, base)
    check_analysis(checked, base, sources[0].pixel_um)
    check_training(checked, sources[0].kind)
    check_segmenting(checked)
    order = Order(checked, base, run_digests(checked, base, sources), tuple(sources))
    return order, folder, options


def out_folder(config: RunConfig, base: Path, out: str | Path | None) -> Path:
    """The run folder: the argument, else the config's `out`, else NAME-run beside it."""
    if out is not None:
        return Path(out).resolve()
    return (base / (config.out or f"{config.name}-run")).resolve()


class Job:
    """A run in progress: walks the stages and keeps run.json true after each."""

    def __init__(self, context: Context, walk: Callable[[Context], Iterator[str]]) -> None:
        self.context = context
        self.walk = walk
        self.begun = time.perf_counter()
        self.started = now()
        self.link: str | None = None
        self.memory = {"client": peak_rss_bytes()}
        self.machine = machine(context.client)
        # Written after each stage: thousands of input files take a while to become YAML.
        self.config_yaml = context.config.to_yaml()

    def work(self, until: str) -> RunResult:
        """Run the stages up to `until` and write run.json after each one."""
        context = self.context
        alone = context.share.alone
        self.link = dashboard_link(context.share.placement)
        if self.link and alone:
            context.progress.say(f"Dashboard: {self.link}")
        report = context.folder.path / "dask-report.html"
        try:
            with dask_report(report) if alone else nullcontext():
                for stage in self.walk(context):
                    self._take_memory()
                    self.write("running")
                    if stage == until:
                        break
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            # Where the disk is full, the reason of the failure must not get lost.
            with suppress(StoreError):
                self.write("interrupted" if interrupted else "failed", error)
            raise
        state = "finished" if until == STAGES[-1] else f"stopped after {until}"
        self.write(state)
        return RunResult(context.folder.path, self.summary(state))

    def _take_memory(self) -> None:
        for process, peak in cluster_peak_rss(self.context.client).items():
            self.memory[process] = max(peak, self.memory.get(process, 0))

    def write(self, state: str, error: BaseException | None = None) -> None:
        """Write run.json; `error` is recorded as the reason of a failure."""
        summary = self.summary(state)
        if error is not None:
            summary["error"] = f"{type(error).__name__}: {error}".rstrip(": ")
        write_json_atomic(self.context.folder.run_json, summary)

    def summary(self, state: str) -> dict[str, Any]:
        """What run.json holds."""
        context, config = self.context, self.context.config
        return {
            "cemi_dask": __version__,
            "state": state,
            "name": config.name,
            "started": self.started,
            "finished": now(),
            "wall_s": round(time.perf_counter() - self.begun, 3),
            "command": sys.argv,
            "versions": library_versions(),
            "machine": self.machine,
            "dashboard": self.link,
            "pixel_um": context.order.pixel_um,
            **context.facts,
            "stages": {name: asdict(record) for name, record in context.records.items()},
            "digests": context.order.digests,
            "memory": {
                "peak_rss_bytes": self.memory,
                "largest": format_bytes(max(self.memory.values())),
            },
            "warnings": context.warnings,
            "config": config.dump(),
            "config_yaml": self.config_yaml,
        }


@contextmanager
def dask_report(path: Path) -> Iterator[None]:
    """Dask's own report of what is done inside, as an HTML file."""
    report = performance_report(filename=str(path))
    report.__enter__()
    try:
        yield
    except BaseException:
        with suppress(Exception):  # a lost scheduler or a full disk: the error inside tells more
            report.__exit__(None, None, None)
        raise
    with storing(path):
        report.__exit__(None, None, None)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def dashboard_link(share: Placement) -> str | None:
    """Where the scheduler's dashboard is; None where it has none, or was not asked for."""
    if isinstance(share.cluster, LocalOptions) and share.cluster.dashboard is None:
        return None  # its server runs all the same, for metrics, without any page
    services = share.client.scheduler_info(n_workers=0)["services"]
    return share.client.dashboard_link if "dashboard" in services else None


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
