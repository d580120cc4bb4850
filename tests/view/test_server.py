"""The server of the viewer: right pixels and numbers for whom may ask, nothing for others."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cemi_dask import store
from cemi_dask.errors import ResourceError, StoreError
from cemi_dask.view import ViewServer, open_source
from cemi_dask.view.handlers import STATIC, packaged
from cemi_dask.view.tiles import TileReader, Window, grey_png
from tests.view.view_run import SMALL, write_view_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_view_run(tmp_path_factory.mktemp("view") / "run", SMALL)


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Iterator[ViewServer]:
    with ViewServer(open_source(run_folder)) as running:
        yield running


def ask(
    server: ViewServer, path: str, *, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers of a request whose path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def answer_to(server: ViewServer, request: bytes) -> bytes:
    """The first bytes of the answer; none where the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        try:
            raw.sendall(request)
            return raw.recv(1000)
        except ConnectionError:
            return b""


def ask_json(server: ViewServer, path: str) -> dict:
    status, body, _ = ask(server, path)
    assert status == 200, body
    return json.loads(body)


def test_a_tile_holds_the_stored_pixels_and_contrast_is_its_palette(
    server: ViewServer, run_folder: Path
) -> None:
    stored = store.open_mosaic(run_folder / "mosaic.ome.zarr").levels[0][512:, 1024:1536].compute()
    status, body, headers = ask(server, "/tile/mosaic/0/1/2.png?low=50&high=200")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    picture = Image.open(io.BytesIO(body))
    np.testing.assert_array_equal(np.asarray(picture), stored)
    grey = np.asarray(picture.convert("L"), int)
    expected = np.clip((stored.astype(float) - 50) / 150 * 255, 0, 255)
    assert np.abs(grey - expected)[stored > 0].max() <= 0.5


def test_pixels_without_data_are_transparent_in_every_type_of_mosaic() -> None:
    for dtype, missing in (("uint8", 0), ("uint16", 0), ("float32", np.nan)):
        values = np.linspace(10, 20, 64).reshape(8, 8).astype(dtype)
        values[2, 3] = missing
        picture = Image.open(io.BytesIO(grey_png(values, Window(10, 20)))).convert("LA")
        grey, alpha = (np.asarray(band) for band in picture.split())
        assert alpha[2, 3] == 0
        assert (np.delete(alpha.ravel(), 2 * 8 + 3) == 255).all()
        assert (grey[0, 0], grey[7, 7]) == (0, 255)


def test_a_float_mosaic_without_pixel_size_is_shown_between_any_grey_levels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1e-6, (600, 700)).astype(np.float32)
    values[:9] = np.nan
    options = store.MosaicOptions(shard_px=1024, chunk_px=256)
    chunks = options.shard_shape(values.shape)
    store.write_mosaic(
        da.from_array(values, chunks=chunks), tmp_path / "m", pixel_um=None, options=options
    )
    with ViewServer(open_source(tmp_path / "m")) as server:
        known = ask_json(server, "/info")
        low, high = known["window"]["low"], known["window"]["high"]
        assert low == pytest.approx(np.nanpercentile(values, 0.5), rel=0.1)
        status, body, _ = ask(server, f"/tile/mosaic/0/0/0.png?low={low!r}&high={high!r}")
        assert status == 200
        picture = np.asarray(Image.open(io.BytesIO(body)).convert("LA"))
        assert (picture[:9, :, 1] == 0).all()
        shown = picture[9:, :, 0].astype(float)
        expected = np.clip((values[9:512, :512] - low) / (high - low) * 255, 0, 255)
        assert np.abs(shown - expected).max() <= 1.1


def test_a_label_tile_shows_the_label_alone(server: ViewServer, run_folder: Path) -> None:
    stored = store.open_mosaic(run_folder / "mosaic.ome.zarr").label("bcc", 1)[:350, :512].compute()
    _, body, _ = ask(server, "/tile/label/bcc/1/0/0.png")
    alpha = np.asarray(Image.open(io.BytesIO(body)).convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha > 0, stored > 0)


def test_a_tile_reads_its_own_chunks_and_not_the_whole_shard(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = TileReader(open_source(run_folder))
    seen = []
    read = tiles.read
    monkeypatch.setattr(tiles, "read", lambda *a: seen.append(read(*a)) or seen[-1])
    for _ in range(2):
        tiles.picture(0, 0, 0, Window(0, 255))
    assert [values.shape for values in seen] == [(512, 512)]  # the second comes from the cache


def test_a_place_tells_what_cells_csv_and_the_frame_tables_say(
    server: ViewServer, run_folder: Path
) -> None:
    cells = pd.read_csv(run_folder / "tables" / "cells.csv")
    cell = cells.dropna(subset=["bcc_fraction"]).iloc[7]
    found = ask_json(server, f"/layer/at?x={cell['x_px'] + 3:.1f}&y={cell['y_px'] - 4:.1f}")
    assert (found["cell"]["row"], found["cell"]["col"]) == (cell["row"], cell["col"])
    for measure in found["cell"]["measures"]:
        assert measure["stored"] == cell[measure["column"]]
    frames = pd.read_csv(run_folder / "tables" / "frames.csv").set_index("frame")
    assert found["frame_count"] == len(found["frames"]) > 0
    for frame in found["frames"]:
        known = frames.loc[frame["frame"]]
        assert known["used"]
        assert (frame["file"], frame["time_s"]) == (known["file"], known["time_s"])
        x, y, wide, high = frame["box"]
        assert x <= cell["x_px"] + 3 <= x + wide
        assert y <= cell["y_px"] - 4 <= y + high


def test_maps_and_profiles_are_those_of_the_tables(server: ViewServer, run_folder: Path) -> None:
    cells = pd.read_csv(run_folder / "tables" / "cells.csv")
    shown = ask_json(server, "/map/lamella_width_um")
    grid = cells.pivot(index="row", columns="col", values="lamella_width_um").to_numpy()
    np.testing.assert_allclose(np.array(shown["values"], float), grid, rtol=1e-12)
    assert shown["x_edges"][0] == pytest.approx(0, abs=1e-6)
    assert shown["x_edges"][-1] == pytest.approx(SMALL.shape[1])
    assert shown["y_edges"] == pytest.approx(np.linspace(0, SMALL.shape[0], 4))
    profile = pd.read_csv(run_folder / "tables" / "profile.csv")
    curves = ask_json(server, "/layer/profile")
    np.testing.assert_allclose(curves["x"], profile["x_px"] + 0.5)
    np.testing.assert_allclose(
        curves["measures"][0]["values"], 100 * profile["bcc_fraction"], rtol=1e-12
    )


def test_doubtful_pairs_come_first(server: ViewServer, run_folder: Path) -> None:
    pairs = pd.read_csv(run_folder / "tables" / "pairs.csv")
    shown = ask_json(server, "/layer/pairs?x0=0&y0=0&x1=9999&y1=9999")["pairs"]
    status = [row[6] for row in shown]
    assert status == sorted(status, key=lambda s: s == "ok")
    assert 0 < status.count("ambiguous") <= (pairs["status"] == "ambiguous").sum()


def test_a_crop_is_a_tiff_with_its_pixel_size(server: ViewServer, run_folder: Path) -> None:
    stored = store.open_mosaic(run_folder / "mosaic.ome.zarr").levels[1][50:150, 100:300].compute()
    query = "x0=200&y0=100&x1=600&y1=300&level=1"
    status, body, _ = ask(server, f"/crop.tif?{query}")
    assert status == 200
    with tifffile.TiffFile(io.BytesIO(body)) as file:
        np.testing.assert_array_equal(file.asarray(), stored)
        up, down = file.pages[0].tags["XResolution"].value
        assert up / down == pytest.approx(1e4 / (2 * 0.222), rel=1e-4)
    _, body, _ = ask(server, f"/crop.tif?{query}&bar=1&low=1&high=255")
    drawn = tifffile.imread(io.BytesIO(body))
    assert drawn.shape == stored.shape
    # 50 um of 0.444 um a pixel at most a fifth of 200 px wide: the bar is 10 um, 22 or 23 px.
    white = [len(run) for line in (drawn == 255) for run in re.findall(rb"\x01+", line.tobytes())]
    assert max(white) in (22, 23, 24)


def test_contrast_can_suit_what_is_seen(server: ViewServer, run_folder: Path) -> None:
    stored = (
        store.open_mosaic(run_folder / "mosaic.ome.zarr").levels[0][100:300, 900:1400].compute()
    )
    found = ask_json(server, "/window?x0=900&y0=100&x1=1400&y1=300")
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(stored, (0.5, 99.5)))
    assert ask(server, "/window?x0=0&y0=-9&x1=5&y1=-1")[0] == 400


REFUSED = [
    "/../run.json",
    "/static/../run.json",
    "/static/../../../../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/handlers.py",
    "/static/..%2f..%2fhandlers.py",
    "/static/%252e%252e%252fhandlers.py",
    "/static//etc/passwd",
    "/static/vendor/../../handlers.py",
    "//etc/passwd",
    "/etc/passwd",
    "/run.json",
    "/tables/cells.csv",
    "/mosaic.ome.zarr/zarr.json",
    "/tile/label/../bcc/0/0/0.png",
    "/tile/label/..%2f..%2ftables/0/0/0.png",
    "/tile/label/none/0/0/0.png",
    "/tile/mosaic/0/-1/0.png?low=0&high=255",
    "/tile/mosaic/0/0/6.png?low=0&high=255",
    "/tile/mosaic/99/0/0.png?low=0&high=255",
    "/tile/mosaic/0/999999999999/0.png?low=0&high=255",
    "/tile/mosaic/0/0/0.png",
    "/tile/mosaic/0/0/0.png?low=nan&high=255",
    "/tile/mosaic/0/0/0.png?low=9&high=9",
    "/tile/mosaic/0/0/0.png?low=0&high=1e999",
    "/tile/mosaic/0/0/0.png?low=%ff&high=1",
    "/map/../info",
    "/map/sigma",
    "/layer/cells",
    "/window?x0=1",
    "/layer/at?x=a&y=1",
    "/layer/at?x=1",
    "/layer/at?x=1e300&y=1",
    "/layer/frames?x0=0&y0=0&x1=1e400&y1=1",
    "/crop.tif?x0=0&y0=0&x1=0&y1=0&level=0",
    "/crop.tif?x0=0&y0=0&x1=9&y1=9&level=-1",
    "/crop.tif?x0=0&y0=0&x1=9&y1=9&level=99",
]


@pytest.mark.parametrize("path", REFUSED)
def test_addresses_that_are_none_are_refused(server: ViewServer, path: str) -> None:
    status, body, headers = ask(server, path)
    assert status in {400, 404}
    assert len(body) < 200
    assert b"Traceback" not in body
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_server_only_reads_and_takes_no_large_requests(server: ViewServer) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, "/info", method=method)[0] == 405
    for request in (
        b"POST /info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xff nonsense\r\n\r\n",
    ):
        assert not answer_to(server, request).startswith(b"HTTP/1.1 200")
    assert ask(server, "/info")[0] == 200  # and goes on


def test_on_loopback_other_names_are_refused(server: ViewServer) -> None:
    assert server.token == ""
    port = server.port
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert ask(server, "/info", Host=name)[0] == 200
    for name in ("example.org", f"127.0.0.1.example.org:{port}", "", "[", f"10.0.0.1:{port}"):
        assert ask(server, "/info", Host=name)[0] in {400, 403}


def test_beyond_loopback_only_the_token_opens(run_folder: Path) -> None:
    source = open_source(run_folder)
    with ViewServer(source, host="0.0.0.0") as first, ViewServer(source, host="0.0.0.0") as second:
        assert len(first.token) >= 32
        assert first.token != second.token
        addresses = ("/", "/info", "/static/main.js", "/tile/mosaic/0/0/0.png?low=0&high=255")
        for path in addresses:
            assert ask(first, path)[0] == 403
            join = "&" if "?" in path else "?"
            assert ask(first, f"{path}{join}token={second.token}")[0] == 403
            assert ask(first, f"{path}{join}token={first.token}")[0] == 200
        link = urlsplit(first.url)
        status, _, headers = ask(first, f"{link.path}?{link.query}")
        assert status == 200
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        given = cookie.partition(";")[0]
        assert all(ask(first, path, Cookie=given)[0] == 200 for path in addresses)
        assert ask(second, "/info", Cookie=given)[0] == 403


@pytest.mark.parametrize("part", ["mosaic.ome.zarr", "mosaic.ome.zarr/labels/bcc", "tables"])
def test_links_out_of_the_run_folder_are_refused(
    run_folder: Path, tmp_path: Path, part: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    (copy / part).rename(tmp_path / "elsewhere")
    (copy / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="leads out of"):
        open_source(copy)


def test_a_label_with_a_path_for_a_name_is_left_out(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    group = copy / "mosaic.ome.zarr" / "labels" / "zarr.json"
    listed = json.loads(group.read_text())
    listed["attributes"]["ome"]["labels"] = ["bcc", "../../../other"]
    group.write_text(json.dumps(listed))
    assert open_source(copy).labels == ("bcc",)


def test_a_level_outside_of_the_mosaic_is_refused(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m"
    shutil.copytree(run_folder / "mosaic.ome.zarr", copy)
    (copy / "0").rename(tmp_path / "elsewhere")
    group = copy / "zarr.json"
    for level in ("../elsewhere", str(tmp_path / "elsewhere")):
        described = json.loads(group.read_text())
        described["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = level
        group.write_text(json.dumps(described))
        with pytest.raises(StoreError, match="does not lie in that folder"):
            open_source(copy)


def test_a_mosaic_alone_is_shown_and_a_run_without_one_is_told(
    run_folder: Path, tmp_path: Path
) -> None:
    with ViewServer(open_source(run_folder / "mosaic.ome.zarr")) as alone:
        known = ask_json(alone, "/info")
        assert (known["width"], known["measures"]) == (SMALL.shape[1], [])
        assert ask_json(alone, "/layer/at?x=5&y=5")["cell"] is None
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StoreError, match="has not reached the stage blend"):
        open_source(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        open_source(tmp_path / "nothing")


def test_a_port_that_is_taken_is_an_error_with_advice(server: ViewServer, run_folder: Path) -> None:
    with pytest.raises(ResourceError, match="Take another --port"):
        ViewServer(open_source(run_folder), port=server.port)


def test_every_file_of_the_page_ships() -> None:
    for name in ("index.html", *STATIC):
        assert len(packaged(name)) > 100
    scripts = b"".join(packaged(name) for name in STATIC if name.endswith((".js", ".css")))
    loaded = re.findall(rb'from "\./([a-z.]+)"', scripts)
    assert {name.decode() for name in loaded} <= set(STATIC)
    assert not re.search(rb"""(src|href)=["']https?:""", packaged("index.html"))
