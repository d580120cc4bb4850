"""The zoom goes from the whole mosaic to the place asked for, and plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cemi_dask import store
from cemi_dask.errors import StoreError
from cemi_dask.report import ReportOptions, write_report
from cemi_dask.report.zoom import FINEST, Camera, Look, plan_flight, write_zoom
from cemi_dask.report.zoom_options import ZoomOptions, ZoomStop
from tests.view.view_run import SMALL, write_patched_mosaic, write_view_run

QUICK = ZoomOptions(speed=20, frames_per_s=5, width_px=160, height_px=90, hold_s=0.4)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> store.Mosaic:
    path = tmp_path_factory.mktemp("zoom") / "mosaic.ome.zarr"
    write_patched_mosaic(path, SMALL, labels=False)
    return store.open_mosaic(path)


def test_the_way_leads_from_the_whole_to_the_target_at_an_even_speed() -> None:
    flight = plan_flight((4000, 30_000), ZoomOptions(), pixel_um=0.222, target=(9000, 1000))
    assert flight is not None
    first, last = flight.looks[0], flight.looks[-1]
    assert first == Look(15_000, 2000, 480 / 30_000)
    assert (last.x, last.y, last.scale) == pytest.approx((9000, 1000, FINEST))
    scales = np.array([look.scale for look in flight.looks])
    assert (np.diff(scales) > 0).all()
    # The place aimed at nears the middle of the screen and never leaves the straight line there.
    aside = np.array([[(9000 - k.x) * k.scale, (1000 - k.y) * k.scale] for k in flight.looks])
    assert (np.diff(np.hypot(*aside.T)) < 0).all()
    np.testing.assert_allclose(aside[:-1, 1] / aside[:-1, 0], 1000 / 6000, rtol=1e-9)
    moving = sum(flight.seconds) - 2 * ZoomOptions().hold_s
    assert moving == pytest.approx(np.log(last.scale / first.scale) / np.log(3), rel=0.02)


def test_stops_are_visited_in_micrometres_and_the_number_of_pictures_is_bounded() -> None:
    stops = (ZoomStop(x=100, y=50, width=40), ZoomStop(x=300, y=60, width=40))
    options = ZoomOptions(stops=stops, most_frames=30)
    flight = plan_flight((4000, 30_000), options, pixel_um=0.5, target=(0, 0))
    assert flight is not None
    assert len(flight.looks) <= 33
    last = flight.looks[-1]
    assert (last.x, last.y, last.scale) == pytest.approx((600, 120, 480 * 0.5 / 40))
    assert any(abs(k.x - 200) < 1e-6 and abs(k.y - 100) < 1e-6 for k in flight.looks)


def test_the_end_shows_the_stored_pixels_in_the_right_place(mosaic: store.Mosaic) -> None:
    stored = mosaic.levels[0].compute()
    shown = Camera(mosaic, (90, 160)).picture(Look(1200, 400, 4))
    low, high = store.sampled_window(store.level_arrays(mosaic)[0])
    # Pixel 1200 has its middle in the middle of the screen, between its pixels 79 and 80.
    y = np.rint(400 + (np.arange(50) - 44.5) / 4).astype(int)
    x = np.rint(1200 + (np.arange(160) - 79.5) / 4).astype(int)
    expected = np.clip((stored[np.ix_(y, x)].astype(float) - low) / (high - low) * 255, 0, 255)
    above_the_bar = shown[:50]
    assert np.abs(above_the_bar - expected).mean() < 1
    assert shown.shape == (90, 160)


def test_gif_and_mp4_play(mosaic: store.Mosaic, tmp_path: Path) -> None:
    options = QUICK.model_copy(update={"format": "both"})
    flight = plan_flight(mosaic.shape, options, pixel_um=0.222, target=(1200, 400))
    assert flight is not None
    gif, mp4 = write_zoom(mosaic, tmp_path, options, target=(1200, 400))
    with Image.open(gif) as animation:
        assert (animation.size, animation.n_frames) == ((160, 90), len(flight.looks))
        total = 0
        for k in range(animation.n_frames):
            animation.seek(k)
            total += animation.info["duration"]
        assert total == pytest.approx(1000 * sum(flight.seconds), abs=10 * animation.n_frames)
        end = np.asarray(animation.convert("L"), int)
    wanted = Camera(mosaic, (90, 160)).picture(flight.looks[-1]).astype(int)
    assert np.abs(end - wanted).mean() < 8  # 32 greys
    with av.open(str(mp4)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 160, 90)
        pictures = [frame.to_ndarray(format="gray") for frame in film.decode(stream)]
        length = float(film.duration) / av.time_base
    assert length == pytest.approx(sum(flight.seconds), rel=0.2)
    assert np.abs(pictures[-1].astype(int) - wanted).mean() < 10


def test_a_small_mosaic_needs_none_and_a_large_one_its_pyramid(
    mosaic: store.Mosaic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan_flight((200, 300), ZoomOptions(), pixel_um=None, target=(0, 0)) is None
    monkeypatch.setattr("cemi_dask.report.zoom._MOST_PX", 10_000)
    with pytest.raises(StoreError, match="pyramid"):
        write_zoom(mosaic, tmp_path, QUICK, target=(9, 9))
    assert list(tmp_path.iterdir()) == []


def test_the_report_shows_it_and_null_takes_it_away(tmp_path: Path) -> None:
    run = write_view_run(tmp_path / "run", replace(SMALL, shape=(420, 1600)))
    page = write_report(run, options=ReportOptions(zoom=QUICK)).read_text("utf-8")
    assert "data:image/webp;base64," in page
    assert (run / "zoom.gif").is_file()
    page = write_report(run, options=ReportOptions(zoom=None)).read_text("utf-8")
    assert "image/webp" not in page
    assert not (run / "zoom.gif").exists()
