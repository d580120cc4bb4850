"""`CemiMonitor`: keeps the newest facts of all runs on the scheduler, and shows them there.

Clients of `cemi run` install it by themselves. On a scheduler that is shared by many it can be
there from the start: ``dask scheduler --preload cemi_dask.pipeline.monitor.plugin``.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from distributed import Scheduler, SchedulerPlugin

from cemi_dask.pipeline.monitor.facts import TOPIC, StageFacts

NAME = "cemi-monitor"
PICTURE = "cemi_picture"
_MOST_RUNS = 500  # the oldest are forgotten
_MOST_PICTURES = 50
_MOST_PICTURE_BYTES = 1 << 20
logger = logging.getLogger("distributed.cemi")


class CemiMonitor(SchedulerPlugin):
    """Listens to the events of the topic ``cemi``; memory is bounded by runs, not by events."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.runs: OrderedDict[str, dict[str, StageFacts]] = OrderedDict()  # by folder
        self.pictures: OrderedDict[str, bytes] = OrderedDict()  # by name of the run
        self._collector: Any = None

    async def start(self, scheduler: Scheduler) -> None:
        """Called by dask on the scheduler: adds the page and the metrics where they can be."""
        scheduler.handlers[PICTURE] = self.take_picture
        for add in (self._add_metrics, self._add_page):
            try:
                add(scheduler)
            except Exception as error:  # a page is never worth a scheduler
                logger.warning("cemi: %s failed: %s", add.__name__.strip("_"), error)

    async def close(self) -> None:
        """Called by dask when the scheduler closes: one process may have another one later."""
        if self._collector is not None:
            from prometheus_client import REGISTRY

            REGISTRY.unregister(self._collector)
            self._collector = None

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by dask for every event."""
        if topic != TOPIC:
            return
        try:
            facts = StageFacts.from_json(msg)
        except TypeError:
            return  # of another version
        stages = self.runs.setdefault(facts.out, {})
        before = stages.get(facts.stage)
        if before is None or before.at <= facts.at:
            stages[facts.stage] = facts
        self.runs.move_to_end(facts.out)
        while len(self.runs) > _MOST_RUNS:
            self.runs.popitem(last=False)

    async def take_picture(self, run: str, picture: bytes) -> None:
        """Keep the newest picture of a run (PNG)."""
        if len(picture) > _MOST_PICTURE_BYTES:
            return
        self.pictures[run] = bytes(picture)
        self.pictures.move_to_end(run)
        while len(self.pictures) > _MOST_PICTURES:
            self.pictures.popitem(last=False)

    def _add_metrics(self, scheduler: Scheduler) -> None:
        from prometheus_client import REGISTRY

        from cemi_dask.pipeline.monitor.metrics import FactsCollector

        self._collector = FactsCollector(self)
        REGISTRY.register(self._collector)

    def _add_page(self, scheduler: Scheduler) -> None:
        if "dashboard" not in scheduler.services or not _has_pages(scheduler):
            return
        from cemi_dask.pipeline.monitor.page import add_page

        add_page(scheduler, self)


def _has_pages(scheduler: Scheduler) -> bool:
    """Whether the scheduler's own pages are shown (its server runs in any case)."""
    return any(
        hasattr(application, "_applications") and "/status" in application._applications
        for application in scheduler.http_application.applications
    )


async def dask_setup(scheduler: Scheduler) -> None:
    """Called by dask for ``--preload``."""
    plugin = CemiMonitor()
    await plugin.start(scheduler)
    scheduler.add_plugin(plugin, idempotent=True, name=NAME)
