"""`Reporter`: a `Progress` that shows what it is told, and publishes it as facts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

from distributed import Client

from cemi_dask.errors import StoreError
from cemi_dask.pipeline.folder import RunFolder
from cemi_dask.pipeline.monitor.facts import TOPIC, StageFacts, State, Unit, facts_file
from cemi_dask.pipeline.monitor.growing import GrowingPicture
from cemi_dask.pipeline.progress import Progress
from cemi_dask.store import write_json_atomic

logger = logging.getLogger("distributed.cemi")
_EVERY_S = 1.0  # between two publications of a stage
_LAST_S = 2.0  # that the last words may take
PICTURE = "cemi_picture"  # the scheduler's handler that takes the picture of a run

Sizes = Callable[[str], tuple[int, Unit]]


class Reporter:
    """Tells what `shown` is told to the cluster of `client` and to the ledger folder as well.

    `sizes` gives what a stage works through, and its unit. What is published is news only:
    where it cannot be delivered the run goes on.
    """

    def __init__(
        self, shown: Progress, client: Client, *, run: str, folder: RunFolder, sizes: Sizes
    ) -> None:
        self.shown = shown
        self.client = client
        self.run, self.folder, self.sizes = run, folder, sizes
        self.facts: dict[str, StageFacts] = {}
        self.picture = GrowingPicture(folder.mosaic)
        self._stage = ""
        self._begun = self._told = 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now = self.facts.get(self._stage)
        if error is not None and now is not None and now.state == "running":
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            state: State = "interrupted" if stopped else "failed"
            self._set(state=state, error="" if stopped else str(error))
        if now is not None:
            with suppress(Exception):  # the cluster may be gone: these are last words only
                self.client.sync(self._deliver, self._messages(), callback_timeout=_LAST_S)

    def stage(self, name: str) -> None:
        """A stage begins."""
        self.shown.stage(name)
        self._stage, self._begun = name, time.monotonic()
        size, unit = self.sizes(name)
        self.facts[name] = StageFacts(
            self.run, str(self.folder.path), name, "running", 0, 0, 0, 0.0, size, unit, time.time()
        )
        self._publish()

    def expect(self, items: int, *, done: int) -> None:
        """`items` more are known of, `done` of them finished in an earlier run."""
        self.shown.expect(items, done=done)
        now = self.facts[self._stage]
        self._set(total=now.total + items, done=now.done + done, reused=now.reused + done)

    def advance(self) -> None:
        """One item is finished."""
        self.shown.advance()
        self._set(done=self.facts[self._stage].done + 1)

    def finish(self, note: str) -> None:
        """The stage has ended; `note` says with what."""
        self.shown.finish(note)
        self._set(state="done")
        self._publish()

    def say(self, text: str) -> None:
        """A line for the user."""
        self.shown.say(text)

    def _set(self, **changes: Any) -> None:
        elapsed = time.monotonic() - self._begun
        now = replace(self.facts[self._stage], elapsed_s=round(elapsed, 3), at=time.time())
        size, unit = now.size, now.unit
        if unit == "items":
            size = changes.get("total", now.total)
        self.facts[self._stage] = replace(now, **{"size": size, **changes})
        if time.monotonic() - self._told >= _EVERY_S:
            self._publish()

    def _publish(self) -> None:
        """Write the facts beside the ledger, and send them on their way to the scheduler."""
        self._told = time.monotonic()
        with suppress(StoreError):  # a full disk is told by what must be written
            told = [facts.as_json() for facts in self.facts.values()]
            write_json_atomic(facts_file(self.folder.ledger), told)
        # On the client's own loop: a scheduler that does not answer must not hold up the run.
        if self.client.loop is not None:
            self.client.loop.add_callback(self._deliver, self._messages())

    def _messages(self) -> tuple[dict[str, Any], bytes | None]:
        blending = self._stage in ("blend", "pyramid")
        return self.facts[self._stage].as_json(), self.picture.png() if blending else None

    async def _deliver(self, messages: tuple[dict[str, Any], bytes | None]) -> None:
        facts, picture = messages
        scheduler = self.client.scheduler
        if scheduler is None:
            return
        try:
            await scheduler.log_event(topic=TOPIC, msg=facts)
            if picture is not None:
                await getattr(scheduler, PICTURE)(run=self.run, picture=picture)
        except Exception:  # a scheduler that is lost: those who wait for results tell it
            logger.debug("cemi: news were not delivered", exc_info=True)
