"""The page of the viewer in a real Chromium, on a mosaic of 30 000 x 4 000 px."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cemi_dask import store
from cemi_dask.view import ViewServer, open_source
from tests.browser import Browser, chromium
from tests.view.view_run import LARGE, write_view_run

pytestmark = pytest.mark.browser
READY = "document.documentElement.dataset.ready === 'yes' && cemi.view.loaded()"
LOADED = "cemi.view.loaded()"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_view_run(tmp_path_factory.mktemp("page") / "run", LARGE)


@pytest.fixture
def browser(run_folder: Path, tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path) as page, ViewServer(open_source(run_folder)) as server:
        page.goto(server.url)
        page.wait(READY)
        yield page
        assert page.errors == []
        own = server.url.rstrip("/")
        assert all(url.startswith((own, "blob:", "data:")) for url in page.requests)


def settle(browser: Browser) -> None:
    """Wait until nothing moves and every tile is drawn, however slow the machine is."""
    before = None
    for _ in range(100):
        now = browser.eval("[cemi.view.transform(), cemi.view.loaded(), cemi.drawing === null]")
        if now == before and now[1] and now[2]:
            return
        before = now
        browser.page.wait_for_timeout(150)
    raise AssertionError(f"still moving or loading: {now}")


def pixels(picture: Path | bytes) -> np.ndarray:
    source = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    return np.asarray(Image.open(source).convert("RGB"), int)


def stage(browser: Browser) -> tuple[float, float]:
    """Left and top of the picture on the page."""
    box = browser.eval("cemi.view.viewer.canvas.getBoundingClientRect().toJSON()")
    return box["x"], box["y"]


def test_panning_and_zooming_reach_the_stored_pixels(browser: Browser, run_folder: Path) -> None:
    browser.shot("view-whole")
    assert browser.eval("document.getElementById('bartext').textContent") == "1 mm"
    middle = browser.eval("cemi.view.centre()")
    assert middle["x"] == pytest.approx(15_000, abs=20)
    page = browser.page
    left, top = stage(browser)
    browser.eval("cemi.view.goTo(9000, 2000, 0.5, true)")
    browser.wait(LOADED)
    page.mouse.move(left + 500, top + 250)
    page.mouse.down()
    page.mouse.move(left + 300, top + 250, steps=4)
    page.mouse.up()
    settle(browser)
    assert browser.eval("cemi.view.centre()")["x"] > 9300
    page.mouse.wheel(0, -240)
    settle(browser)
    assert browser.eval("cemi.view.scale()") > 0.55
    browser.click("#full")
    settle(browser)
    assert browser.eval("cemi.view.scale()") == pytest.approx(1, rel=1e-6)
    assert browser.eval("document.getElementById('zoom').textContent") == "1 : 1"
    t = browser.eval("cemi.view.transform()")
    assert t["x"] == pytest.approx(round(t["x"]), abs=1e-3)
    shown = pixels(browser.shot("view-full-size"))
    x0, y0 = round(100 - t["x"]), round(100 - t["y"])
    crop = shown[round(top) + 100 : round(top) + 400, round(left) + 100 : round(left) + 500, 0]
    mosaic = store.open_mosaic(run_folder / "mosaic.ome.zarr")
    low, high = browser.eval("[cemi.contrast.window.low, cemi.contrast.window.high]")
    stored = mosaic.levels[0][y0 : y0 + 300, x0 : x0 + 400].compute().astype(float)
    expected = np.clip((stored - low) / (high - low) * 255, 0, 255)
    assert np.abs(crop - expected).max() <= 2


def test_a_cell_reads_the_same_numbers_as_cells_csv(browser: Browser, run_folder: Path) -> None:
    cells = pd.read_csv(run_folder / "tables" / "cells.csv")
    cell = cells.dropna(subset=["lamella_width_um"]).query("row == 4 and col == 30").iloc[0]
    before = pixels(browser.shot("view-before"))
    browser.click("[data-layer=lamella_width_um]")
    browser.wait("cemi.overlay.map !== null")
    settle(browser)
    after = pixels(browser.shot("view-heat-map"))
    colourful = np.ptp(after, axis=2) > 40
    assert colourful[:, 300:].sum() > 10 * (np.ptp(before, axis=2) > 40)[:, 300:].sum() + 10_000
    left, top = stage(browser)
    t = browser.eval("cemi.view.transform()")
    x = left + t["x"] + cell["x_px"] * t["scale"]
    y = top + t["y"] + cell["y_px"] * t["scale"]
    browser.page.mouse.click(x, y)
    browser.wait("document.querySelector('#cell-measures') !== null")
    browser.shot("view-cell")
    assert "row 4, column 30" in browser.eval("document.querySelector('#details h3').textContent")
    rows = browser.eval(
        "[...document.querySelectorAll('#cell-measures tr')]"
        ".map((row) => [row.dataset.column, row.dataset.stored, row.lastChild.textContent])"
    )
    assert [row[0] for row in rows] == ["bcc_fraction", "lamellar_fraction", "lamella_width_um"]
    for column, stored, shown in rows:
        assert float(stored) == cell[column]
        factor = 1 if column.endswith("_um") else 100
        value, error = (float(part) for part in shown.rpartition(" ")[0].split(" ± "))
        assert value == pytest.approx(factor * cell[column], abs=factor * cell[f"{column}_se"] / 10)
        assert error == pytest.approx(factor * cell[f"{column}_se"], rel=0.05)
    assert browser.eval("cemi.profiles.chosenX") == pytest.approx(cell["x_px"] + 0.5)
    browser.page.keyboard.press("Escape")
    assert browser.eval("document.getElementById('details').hidden")


def test_layers_contrast_and_a_shared_link(browser: Browser) -> None:
    for layer in ("frames", "links", "indents"):
        browser.click(f"[data-layer={layer}]")
    settle(browser)
    browser.shot("view-frames-and-doubtful-pairs")
    browser.eval("cemi.view.goTo(12000, 2000, 0.35, true)")
    browser.click("[data-layer=seams]")
    browser.wait("cemi.overlay.pairs !== null")
    settle(browser)
    browser.shot("view-seams")
    for layer in ("frames", "links", "indents", "seams"):
        browser.click(f"[data-layer={layer}]")
    for label in ("bcc", "lamellar"):
        browser.click(f"[data-layer={label}]")
    browser.eval("cemi.contrast.set({ low: 20, high: 200 })")
    settle(browser)
    browser.wait(f"{LOADED} && cemi.view.viewer.world.getItemCount() === 3")
    seen = pixels(browser.shot("view-labels"))
    link = browser.eval("location.href")
    assert "low=20&high=200" in link
    assert "labels=bcc:0.5,lamellar:0.5" in link
    browser.goto("about:blank")
    browser.goto(link)
    browser.wait(READY)
    browser.wait(f"{LOADED} && cemi.view.viewer.world.getItemCount() === 3")
    settle(browser)
    again = pixels(browser.shot("view-from-link"))
    left, top = map(round, stage(browser))
    part = np.s_[top + 20 : top + 400, left + 20 : left + 900]
    assert np.abs(seen[part] - again[part]).mean() < 1


def test_a_view_is_saved_as_png_and_as_tiff(browser: Browser, tmp_path: Path) -> None:
    browser.eval("cemi.view.goTo(12000, 2000, 0.25, true)")
    settle(browser)
    size = browser.eval("cemi.view.size()")
    for button, name in (("#png", "view.png"), ("#tiffbar", "bar.tif"), ("#tiff", "view.tif")):
        with browser.page.expect_download() as download:
            browser.click(button)
        download.value.save_as(tmp_path / name)
    saved = Image.open(tmp_path / "view.png")
    assert saved.size == (round(size["width"]), round(size["height"]))
    saved.save(browser.shots / "view-saved.png")
    stored, drawn = tifffile.imread(tmp_path / "view.tif"), tifffile.imread(tmp_path / "bar.tif")
    assert stored.shape == drawn.shape
    assert stored.shape[1] == pytest.approx(size["width"], abs=3)  # level 2: 1 px a screen pixel
    Image.fromarray(drawn).save(browser.shots / "view-saved-tiff.png")


def test_a_narrow_screen_and_the_keyboard(run_folder: Path, tmp_path: Path) -> None:
    with (
        chromium(tmp_path, (420, 800)) as browser,
        ViewServer(open_source(run_folder)) as server,
    ):
        browser.goto(server.url)
        browser.wait(READY)
        browser.page.keyboard.press("l")
        settle(browser)
        browser.shot("view-narrow")
        assert browser.eval("document.documentElement.scrollWidth") <= 420
        browser.page.keyboard.press("1")
        settle(browser)
        assert browser.eval("cemi.view.scale()") == pytest.approx(1, rel=1e-6)
        browser.page.focus("#image .openseadragon-canvas")
        before = browser.eval("cemi.view.centre().x")
        browser.page.keyboard.press("ArrowRight")
        settle(browser)
        assert browser.eval("cemi.view.centre().x") > before
        assert browser.errors == []


def test_the_link_with_its_token_is_all_that_is_needed(run_folder: Path, tmp_path: Path) -> None:
    source = open_source(run_folder)
    with chromium(tmp_path) as browser, ViewServer(source, host="0.0.0.0") as server:
        assert "?token=" in server.url
        browser.goto(server.url)
        browser.wait(READY)
        settle(browser)
        assert server.token in browser.eval("location.href")  # so that a copied link opens as well
        assert any("/tile/mosaic/" in url for url in browser.requests)
        assert not any(server.token in url for url in browser.requests[1:])
        assert browser.errors == []
