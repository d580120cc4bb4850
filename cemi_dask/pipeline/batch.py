"""Many ingots on one cluster: `run_many`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cemi_dask.errors import CemiError, ConfigError, StoreError
from cemi_dask.pipeline.batch_list import Ingot, list_ingots
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import AnyCluster, parse_cluster
from cemi_dask.pipeline.config import RunConfig
from cemi_dask.pipeline.context import Share
from cemi_dask.pipeline.job import Job, dashboard_link, dask_report, open_context, take_order
from cemi_dask.pipeline.ledger import Ledger
from cemi_dask.pipeline.placement import Placement
from cemi_dask.pipeline.progress import Lines
from cemi_dask.pipeline.stages import walk
from cemi_dask.report.batch_page import Entry, write_batch


@dataclass(frozen=True)
class BatchResult:
    """Where a batch left its results, and how each ingot ended, in the order asked for."""

    out: Path
    entries: tuple[Entry, ...]

    @property
    def page(self) -> Path:
        """The HTML page over all ingots."""
        return self.out / "index.html"

    @property
    def table(self) -> Path:
        """The summary, a row per ingot."""
        return self.out / "batch.csv"

    @property
    def failed(self) -> tuple[Entry, ...]:
        """The ingots that did not finish, each with its error."""
        return tuple(entry for entry in self.entries if entry.error)


def run_many(
    ingots: str | Path | Sequence[RunConfig | str | Path],
    *,
    config: str | Path | None = None,
    out: str | Path | None = None,
    cluster: str | None = None,
    at_once: int = 3,
    fresh: bool = False,
) -> BatchResult:
    """Run many ingots on one cluster, `at_once` of them side by side; an error ends one alone.

    `ingots` is a table (CSV), a folder, or a sequence of configs; see `list_ingots` for what they
    mean and for `config`. The run folders are OUT/NAME, the summary is OUT/batch.csv and
    OUT/index.html; `out` is by default NAME-batch beside the table or folder. `cluster` overrides
    what the configs say, on which they must agree. Items of earlier ingots come first; those of
    later ones fill what is left. Run again, it resumes every ingot. Raises ConfigError where
    the table, the folder or a config is wrong, before anything starts; how each ingot ended
    is in the result.
    """
    if at_once < 1:
        raise ConfigError(f"at_once is {at_once}; at least one ingot must run.")
    listed = list_ingots(ingots, config)
    options = common_cluster(listed, cluster)
    folder = batch_folder(ingots, out)
    if (folder / "ledger").is_dir() or folder.is_file():
        raise ConfigError(f"{folder} is a run folder or a file, no batch's. Give another --out.")
    with Ledger(folder / ".batch").locked(), open_client(options) as client:
        batch = Batch(listed, folder, Placement(client, options), fresh=fresh)
        with dask_report(folder / "dask-report.html"):
            batch.work(at_once)
        return BatchResult(folder, tuple(batch.entries))


def common_cluster(ingots: Sequence[Ingot], told: str | None) -> AnyCluster:
    """The cluster of all: what is told, else the one on which the configs agree."""
    first: AnyCluster = ingots[0].config.cluster
    if told is not None:
        return parse_cluster(told, first)
    for ingot in ingots:
        if ingot.config.cluster != first:
            raise ConfigError(
                f"The configs of {ingots[0].name} and {ingot.name} differ in `cluster`, and a "
                "batch runs on one. Make them agree, or give --cluster."
            )
    return first


def batch_folder(ingots: Any, out: str | Path | None) -> Path:
    """Where the run folders go: the argument, else NAME-batch beside the table or folder."""
    if out is not None:
        return Path(out).resolve()
    if not isinstance(ingots, str | Path):
        return Path.cwd() / "ingots-batch"
    path = Path(ingots).resolve()
    return path.with_name(f"{path.name if path.is_dir() else path.stem}-batch")


class Batch:
    """A batch in progress: an entry per ingot, kept true in batch.csv and index.html."""

    def __init__(
        self, ingots: Sequence[Ingot], folder: Path, places: Placement, *, fresh: bool
    ) -> None:
        self.ingots = ingots
        self.folder = folder
        self.places = places
        self.fresh = fresh
        self.stop = threading.Event()
        self.entries = [Entry(ingot.name, folder / ingot.name, "waiting") for ingot in ingots]

    def work(self, at_once: int) -> None:
        """Run the ingots in order, `at_once` side by side."""
        lines = Lines()
        if link := dashboard_link(self.places):
            lines.say(f"Dashboard: {link}")
        with ThreadPoolExecutor(at_once, thread_name_prefix="ingot") as pool:
            futures = {pool.submit(self._one, n): n for n in range(len(self.ingots))}
            try:
                for future in as_completed(futures):
                    entry = future.result()
                    self.entries[futures[future]] = entry
                    if entry.error:
                        lines.say(f"{entry.name}: failed: {entry.error}")
                    self._write()
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                with suppress(StoreError):
                    self._write()
                raise

    def _one(self, number: int) -> Entry:
        """Run one ingot to its end, good or bad."""
        ingot = self.ingots[number]
        out = self.folder / ingot.name
        began = time.perf_counter()
        share = Share(self.places, -number, self.stop, time.thread_time)
        error = ""
        try:
            order, folder, _ = take_order(ingot.config, out, self.places.cluster, base=ingot.base)
            progress = Lines(label=f"{ingot.name}: ")
            with open_context(order, folder, share, fresh=self.fresh, progress=progress) as context:
                Job(context, walk).work("report")
        except CemiError as failure:
            error = str(failure)
        except Exception as failure:
            error = f"unexpected {type(failure).__name__}: {failure}"
        wall = time.perf_counter() - began
        return Entry(ingot.name, out, "failed" if error else "finished", wall, error)

    def _write(self) -> None:
        write_batch(self.folder, self.entries)
