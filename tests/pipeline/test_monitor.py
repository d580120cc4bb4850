"""What is told of a run while it works: facts, events, metrics, the page, the command status."""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cemi_dask.errors import StoreError
from cemi_dask.pipeline import RunResult, run
from cemi_dask.pipeline.cluster import open_client
from cemi_dask.pipeline.cluster_options import LocalOptions
from cemi_dask.pipeline.monitor import TOPIC, StageFacts, read_facts
from cemi_dask.pipeline.monitor.facts import facts_file
from cemi_dask.pipeline.monitor.growing import GrowingPicture
from cemi_dask.pipeline.monitor.page import page_html
from cemi_dask.pipeline.monitor.plugin import CemiMonitor
from cemi_dask.pipeline.progress import Lines
from cemi_dask.store import open_mosaic
from tests.browser import chromium
from tests.pipeline.conftest import write_config

FACTS = StageFacts("a", "/a", "blend", "running", 30, 100, 10, 40.0, 8_000_000, "px", 1e9)


def test_pace_and_time_left_count_what_this_run_has_done() -> None:
    assert FACTS.part == 0.3
    # 20 of 100 items in 40 s, 70 to go.
    assert FACTS.rate == pytest.approx(8e6 * 0.2 / 40)
    assert FACTS.left_s == pytest.approx(140)
    assert (FACTS.speed(), FACTS.left()) == ("0.04 Mpx/s", "2 min 20 s")
    assert replace(FACTS, done=10).left_s is None
    assert replace(FACTS, state="done", done=100).left_s is None
    assert StageFacts.from_json({**FACTS.as_json(), "of_a_later_version": 1}) == FACTS


def test_a_scheduler_keeps_the_newest_of_each_run_and_not_of_all_runs_ever() -> None:
    monitor = CemiMonitor()
    monitor.log_event(TOPIC, FACTS.as_json())
    monitor.log_event(TOPIC, replace(FACTS, done=29, at=FACTS.at - 1).as_json())
    monitor.log_event("other", {"at": 1})
    monitor.log_event(TOPIC, {"of": "another version"})
    assert monitor.runs["/a"]["blend"].done == 30
    for k in range(600):
        monitor.log_event(TOPIC, replace(FACTS, out=f"/{k}").as_json())
    assert len(monitor.runs) == 500
    assert "/a" not in monitor.runs


def test_names_and_errors_are_no_markup_on_the_page() -> None:
    class Idle:
        def __init__(self) -> None:
            self.workers: dict[str, object] = {}

    monitor = CemiMonitor()
    evil = "<script>alert(1)</script>"
    monitor.log_event(
        TOPIC, replace(FACTS, run=evil, out=evil, state="failed", error=evil).as_json()
    )
    text = page_html(Idle(), monitor)  # type: ignore[arg-type]
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 3


def test_the_growing_picture_is_the_mosaic_so_far(finished: RunResult) -> None:
    picture = GrowingPicture(finished.mosaic)
    shards = len([*(finished.mosaic / "0").glob("c/*/*")])
    data = [png for _ in range(shards) if (png := picture.png())][-1]
    assert picture.png() is None  # nothing has come since
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    height, width = open_mosaic(finished.mosaic).shape
    assert shown.shape[1] <= 600
    assert shown.shape[1] / shown.shape[0] == pytest.approx(width / height, rel=0.05)
    assert (shown[..., 3] == 255).mean() > 0.9
    assert GrowingPicture(finished.mosaic / "none").png() is None


def test_status_tells_the_facts_of_a_finished_run(finished: RunResult, done) -> None:
    facts = read_facts(finished.out / "ledger")
    assert {f.state for f in facts.values()} == {"done"}
    assert facts["register"].unit == "frames"
    assert facts["blend"].size == np.prod(open_mosaic(finished.mosaic).shape)
    told = json.loads(done("status", finished.out, "--json"))
    stages = {stage["stage"]: stage for stage in told[0]["stages"]}
    assert told[0]["state"] == "finished"
    assert stages["blend"]["done"] == stages["blend"]["total"] == facts["blend"].total
    assert "frames/s" in done("status", finished.out)


def test_damaged_facts_are_said_as_such(finished: RunResult, tmp_path: Path) -> None:
    facts_file(tmp_path).write_text("[{")
    with pytest.raises(StoreError, match="damaged"):
        read_facts(tmp_path)


class Waiting(Lines):
    """Holds the run up when the first item of the stage `at` is done, until `go` is set."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at
        self.here, self.go = threading.Event(), threading.Event()

    def advance(self) -> None:
        super().advance()
        if self.name == self.at and not self.here.is_set():
            self.here.set()
            self.go.wait(60)


@pytest.mark.browser
def test_the_page_shows_a_run_at_work(ingot: Path, tmp_path: Path) -> None:
    progress, out = Waiting("segment"), tmp_path / "run"
    with open_client(LocalOptions(workers=1, dashboard="127.0.0.1:0")) as client:
        config = write_config(ingot, name="seen")
        job = threading.Thread(
            target=run,
            args=(config,),
            kwargs={"out": out, "cluster": client.scheduler.address, "progress": progress},
        )
        job.start()
        try:
            assert progress.here.wait(120)
            address = client.dashboard_link.removesuffix("/status")
            with urllib.request.urlopen(f"{address}/metrics") as answer:
                metrics = answer.read().decode()
            assert 'cemi_items_done{ingot="seen",stage="blend"}' in metrics
            events = [StageFacts.from_json(event) for _, event in client.get_events(TOPIC)]
            assert {"frames", "register", "solve", "blend"} <= {f.stage for f in events}
            assert read_facts(out / "ledger")["segment"].state == "running"
            with chromium(tmp_path, (1200, 800)) as browser:
                browser.goto(f"{address}/cemi")
                page = browser.page
                page.get_by_text("segment running").wait_for(timeout=20_000)
                page.locator("img[alt='mosaic so far']").wait_for(timeout=20_000)
                page.wait_for_timeout(300)
                browser.shot("monitor")
                assert page.get_by_text("frames/s").count() >= 1
                assert page.get_by_role("link", name="Cemi").count() == 1
                assert not browser.errors
        finally:
            progress.go.set()
            job.join(120)
    assert read_facts(out / "ledger")["report"].state == "done"
