"""One handler per kind of address. No address names a file: names are looked up, never joined."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import tornado.web

from cemi_dask import __version__
from cemi_dask.errors import CemiError
from cemi_dask.geometry import Box
from cemi_dask.view.crop import MOST_CROP_PX, Crop, tiff_crop
from cemi_dask.view.tiles import TILE_PX, Window

if TYPE_CHECKING:
    from cemi_dask.view.server import Shared

# name in the address -> type. Everything else is not found.
STATIC = {
    "page.css": "text/css",
    "main.js": "text/javascript",
    "api.js": "text/javascript",
    "image.js": "text/javascript",
    "layers.js": "text/javascript",
    "overlay.js": "text/javascript",
    "profiles.js": "text/javascript",
    "contrast.js": "text/javascript",
    "details.js": "text/javascript",
    "scale.js": "text/javascript",
    "colours.js": "text/javascript",
    "share.js": "text/javascript",
    "vendor/openseadragon.min.js": "text/javascript",
    "vendor/openseadragon-LICENSE.txt": "text/plain",
}
# The one style sheet that OpenSeadragon writes into the page, for touch screens.
_OSD_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
SECURITY = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; worker-src blob:; style-src 'self' {_OSD_STYLE}; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "cemi",
}
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?")
FARTHEST_PX = 1e9  # no mosaic is that large
_KEPT = "private, max-age=86400, immutable"


class Handler(tornado.web.RequestHandler):
    """Checks who asks, sets the headers that protect the page, answers errors in one line."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, shared: Shared) -> None:
        """Keep what all handlers share."""
        self.shared = shared

    def set_default_headers(self) -> None:
        """Headers of every answer, errors too."""
        for name, value in SECURITY.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Refuse requests under another name than ours, and beyond loopback without token."""
        access = self.shared.access
        if not access.host_is_right(self.request.headers.get("Host", "")):
            raise tornado.web.HTTPError(403, reason="This server is asked under a wrong name")
        if not access.token:
            return
        cookie = access.cookie_name(self.shared.port)
        in_address = self.get_query_argument("token", "")
        if access.token_is_right(in_address):
            self.set_cookie(cookie, access.token, httponly=True, samesite="Strict", path="/")
        elif not access.token_is_right(self.get_cookie(cookie, "") or ""):
            raise tornado.web.HTTPError(
                403, reason="The token is missing or wrong: use the link that cemi view printed"
            )

    def head(self, *parts: str) -> Any:
        """The headers of the same request by GET."""
        return self.get(*parts)

    def number(self, name: str) -> float:
        """A finite number of the query; HTTP 400 for anything else."""
        text = self.get_query_argument(name, "")
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise tornado.web.HTTPError(400, reason=f"The query needs a number {name}")
        return value

    def box(self) -> Box:
        """The region x0, y0, x1, y1 (px of level 0) of the query, cut to the mosaic."""
        height, width = self.shared.source.mosaic.shape
        x0, y0, x1, y1 = (self.number(name) for name in ("x0", "y0", "x1", "y1"))
        box = Box(*(int(v) for v in (math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1))))
        return box.intersect(Box(0, 0, height, width))

    def window(self) -> Window:
        """The grey levels `low` and `high` of the query."""
        low, high = self.number("low"), self.number("high")
        if high <= low:
            raise tornado.web.HTTPError(400, reason="high must be more than low")
        return Window(low, high)

    async def png(self, work: Callable[[], bytes]) -> None:
        """Answer with the tile that `work` makes; browsers may keep it."""
        try:
            tile = await self.shared.read(work)
        except CemiError:
            raise tornado.web.HTTPError(500, reason="This part of the mosaic is damaged") from None
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", _KEPT)
        self.finish(tile)

    def write_error(self, status_code: int, **_: Any) -> None:
        """One line of plain text, without a traceback."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code} {self._reason}\n")


class PageHandler(Handler):
    """The page."""

    def get(self) -> None:
        """index.html."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(packaged("index.html"))


class StaticHandler(Handler):
    """Scripts and styles of the page, by name."""

    def get(self, name: str) -> None:
        """A file of the package."""
        if name not in STATIC:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", f"{STATIC[name]}; charset=utf-8")
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(packaged(name))


class InfoHandler(Handler):
    """What there is to show."""

    async def get(self) -> None:
        """Size, levels, grey levels, labels, measures, and how much there is of each layer."""
        shared = self.shared
        tiles, mosaic = shared.tiles, shared.source.mosaic
        low, high, counts = await shared.read(tiles.histogram)
        window = await shared.read(tiles.window)
        self.finish(
            {
                "name": shared.source.name,
                "version": __version__,
                "height": mosaic.shape[0],
                "width": mosaic.shape[1],
                "pixel_um": mosaic.pixel_um,
                "tile_px": TILE_PX,
                "levels": tiles.level_count(),
                "dtype": mosaic.levels[0].dtype.name,
                "stamp": shared.stamp,
                "window": {"low": window.low, "high": window.high},
                "histogram": {"low": low, "high": high, "counts": counts},
                "most_crop_px": MOST_CROP_PX,
                "labels": [
                    {"name": n, "colour": tiles.colours[n], "levels": tiles.level_count(n)}
                    for n in shared.source.labels
                ],
                "measures": [
                    {"column": m.column, "title": m.title, "unit": m.unit}
                    for m in shared.layers.measures
                ],
                "counts": shared.layers.counts(),
            }
        )


class MosaicTileHandler(Handler):
    """Tiles of the mosaic."""

    async def get(self, level: str, row: str, col: str) -> None:
        """A tile as PNG between the grey levels of the query."""
        where, window = place(self.shared, "", (level, row, col)), self.window()
        await self.png(lambda: self.shared.tiles.picture(*where, window))


class LabelTileHandler(Handler):
    """Tiles of the labels."""

    async def get(self, name: str, level: str, row: str, col: str) -> None:
        """A tile as PNG, transparent outside of the label."""
        where = place(self.shared, name, (level, row, col))
        await self.png(lambda: self.shared.tiles.label(name, *where))


class MapHandler(Handler):
    """Heat maps."""

    async def get(self, column: str) -> None:
        """The values of one measure on the grid."""
        measure = self.shared.layers.measure(column)
        if measure is None:
            raise tornado.web.HTTPError(404)
        self.finish(await self.shared.read(lambda: self.shared.layers.heat_map(measure)))


class LayerHandler(Handler):
    """What lies on the mosaic, by kind and place."""

    async def get(self, kind: str) -> None:
        """profile and indents as a whole; frames and pairs in a region; what is at a place."""
        layers = self.shared.layers
        if kind in {"profile", "indents"}:
            self.finish(await self.shared.read(getattr(layers, kind)))
        elif kind in {"frames", "pairs"}:
            box = self.box()
            self.finish(await self.shared.read(lambda: getattr(layers, kind)(box)))
        else:
            x, y = self.number("x"), self.number("y")
            if max(abs(x), abs(y)) > FARTHEST_PX:
                raise tornado.web.HTTPError(400, reason="That place is far from any mosaic")
            self.finish(await self.shared.read(lambda: layers.at(x, y)))


class WindowHandler(Handler):
    """Grey levels that suit a region."""

    async def get(self) -> None:
        """The levels to show the region of the query with."""
        box = self.box()
        if box.empty:
            raise tornado.web.HTTPError(400, reason="Nothing of the mosaic lies there")
        try:
            found = await self.shared.read(lambda: self.shared.tiles.window_of(box))
        except CemiError:
            raise tornado.web.HTTPError(500, reason="This part of the mosaic is damaged") from None
        self.finish({"low": found.low, "high": found.high})


class CropHandler(Handler):
    """Crops of the mosaic as TIFF."""

    async def get(self) -> None:
        """Region and level of the query as a file; with bar=1 a scale bar is drawn into it."""
        level = int(self.number("level"))
        if not 0 <= level < self.shared.tiles.level_count():
            raise tornado.web.HTTPError(400, reason="There is no such level")
        window = self.window() if self.get_query_argument("bar", "") == "1" else None
        crop = Crop(self.box(), level, window)
        if crop.box.empty or crop.pixels > MOST_CROP_PX:
            raise tornado.web.HTTPError(
                400, reason=f"A crop holds 1 to {MOST_CROP_PX} px; cemi export writes larger ones"
            )
        try:
            data = await self.shared.read(lambda: tiff_crop(self.shared.tiles, crop))
        except CemiError:
            raise tornado.web.HTTPError(500, reason="This part of the mosaic is damaged") from None
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", self.shared.source.name)[:60]
        self.set_header("Content-Type", "image/tiff")
        self.set_header(
            "Content-Disposition",
            f'attachment; filename="{name}_x{crop.box.x0}_y{crop.box.y0}_level{level}.tif"',
        )
        self.finish(data)


class NothingHandler(Handler):
    """Every other address."""

    def get(self, *_: str) -> None:
        """Not found."""
        raise tornado.web.HTTPError(404)


def place(shared: Shared, label: str, numbers: tuple[str, str, str]) -> tuple[int, int, int]:
    """(level, row, column) of a tile that exists; HTTP 404 otherwise."""
    level, row, col = (int(n) for n in numbers)
    if label and label not in shared.source.labels:
        raise tornado.web.HTTPError(404)
    if level >= shared.tiles.level_count(label):
        raise tornado.web.HTTPError(404)
    rows, cols = shared.tiles.grid(level, label)
    if row >= rows or col >= cols:
        raise tornado.web.HTTPError(404)
    return level, row, col


def packaged(name: str) -> bytes:
    """A file of the page that ships with the package."""
    return files("cemi_dask.view").joinpath("static", *name.split("/")).read_bytes()


def routes(shared: Shared) -> list[tuple[str, type[Handler], dict[str, Shared]]]:
    """The addresses of the server."""
    tile = r"(\d{1,2})/(\d{1,6})/(\d{1,6})\.png"
    table: list[tuple[str, type[Handler]]] = [
        (r"/", PageHandler),
        (r"/static/([a-zA-Z0-9./-]{1,64})", StaticHandler),
        (r"/info", InfoHandler),
        (rf"/tile/mosaic/{tile}", MosaicTileHandler),
        (rf"/tile/label/([A-Za-z0-9_.-]{{1,64}})/{tile}", LabelTileHandler),
        (r"/map/([A-Za-z0-9_.-]{1,80})", MapHandler),
        (r"/layer/(profile|indents|frames|pairs|at)", LayerHandler),
        (r"/window", WindowHandler),
        (r"/crop\.tif", CropHandler),
        (r".*", NothingHandler),
    ]
    return [(pattern, handler, {"shared": shared}) for pattern, handler in table]
