"""A real Chromium without a window: what a page shows, asks for and complains of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page: `errors` (console, scripts, failed requests) and `requests` grow as it works."""

    def __init__(self, page: Any, shots: Path) -> None:
        self.page = page
        self.shots = shots
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._failed)

    def _told(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"console: {message.text}")

    def _failed(self, request: Any) -> None:
        # Requests given up because the view moved on are no fault.
        if "ERR_ABORTED" not in str(request.failure):
            self.errors.append(f"request: {request.url}: {request.failure}")

    def goto(self, address: str) -> None:
        """Open `address`."""
        self.page.goto(address)

    def eval(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.page.evaluate(script)

    def wait(self, script: str, seconds: float = 20.0) -> float:
        """Seconds until the expression was true; the test fails if it does not become so."""
        begun = time.monotonic()
        while not self.eval(script):
            if time.monotonic() - begun > seconds:
                self.shot("waiting")
                raise AssertionError(f"not true within {seconds} s: {script}; {self.errors}")
            self.page.wait_for_timeout(20)
        return time.monotonic() - begun

    def click(self, selector: str) -> None:
        """Click what a CSS selector finds."""
        self.page.click(selector)

    def shot(self, name: str) -> Path:
        """A screenshot ``name.png`` in the folder of artefacts; its path."""
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path)
        return path


def artefacts(fallback: Path) -> Path:
    """The folder for screenshots: the one named by CEMI_ARTEFACTS, else `fallback`."""
    folder = Path(os.environ.get("CEMI_ARTEFACTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def chromium(shots: Path, size: tuple[int, int] = (1440, 900)) -> Iterator[Browser]:
    """A page of `size` px in headless Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium here (none of {', '.join(NAMES)})")
    with playwright.sync_playwright() as driver:
        # Containers run tests as root, for whom Chromium's own sandbox is not to be had.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            width, height = size
            page = browser.new_page(viewport={"width": width, "height": height})
            yield Browser(page, artefacts(shots))
        finally:
            browser.close()
