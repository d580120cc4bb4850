"""The server of the viewer: the page, its tiles, and what lies on them, to read only."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web

from cemi_dask.errors import ResourceError
from cemi_dask.view.access import Access
from cemi_dask.view.handlers import routes
from cemi_dask.view.layers import Layers
from cemi_dask.view.source import ViewSource
from cemi_dask.view.tiles import TileReader

READERS = 2  # threads that read and encode tiles
MOST_WAITING = 512  # requests; further ones are told to come back later
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 (compared with, not bound to)
HEADER_BYTES, BODY_BYTES = 16 << 10, 1 << 10


@dataclass
class Shared:
    """What the handlers share: the mosaic's tiles, its layers, the threads that read."""

    source: ViewSource
    tiles: TileReader
    layers: Layers
    access: Access
    readers: ThreadPoolExecutor
    port: int
    stamp: str  # part of tile addresses, so that browsers may keep tiles of this server alone
    waiting: int = 0

    async def read(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, done on a reader; HTTP 503 where too many wait already."""
        if self.waiting >= MOST_WAITING:
            raise tornado.web.HTTPError(503, reason="Too many requests are waiting")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.readers, work)
        finally:
            self.waiting -= 1


class ViewServer:
    """A server on its own thread: ``with ViewServer(source) as server: server.url``.

    Port 0 takes a free one. Raises ResourceError where the address cannot be had.
    """

    def __init__(self, source: ViewSource, *, host: str = "127.0.0.1", port: int = 0) -> None:
        tiles, layers = TileReader(source), Layers(source)
        self._sockets = bind(host, port)
        self.port = int(self._sockets[0].getsockname()[1])
        self._shared = Shared(
            source,
            tiles,
            layers,
            Access.of(host),
            ThreadPoolExecutor(READERS, thread_name_prefix="tile"),
            self.port,
            secrets.token_hex(4),
        )
        self._stop: Callable[[], object] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="cemi-view", daemon=True)

    @property
    def token(self) -> str:
        """What a request must know; empty on loopback."""
        return self._shared.access.token

    @property
    def url(self) -> str:
        """The address of the page, with the token where there is one."""
        host = self._shared.access.host
        return self.address("localhost" if host in EVERYWHERE else host)

    @property
    def elsewhere(self) -> str:
        """The address for other machines; empty where they cannot reach this server."""
        return self.address(socket.gethostname()) if self._shared.access.host in EVERYWHERE else ""

    def address(self, host: str) -> str:
        """The address of the page by that name of this machine."""
        shown = f"[{host}]" if ":" in host else host
        token = f"?token={self.token}" if self.token else ""
        return f"http://{shown}:{self.port}/{token}"

    def __enter__(self) -> ViewServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self._stop()
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        application = tornado.web.Application(routes(self._shared), log_function=_no_log)
        server = tornado.httpserver.HTTPServer(
            application,
            max_header_size=HEADER_BYTES,
            max_body_size=BODY_BYTES,
            idle_connection_timeout=120,
            body_timeout=10,
        )
        server.add_sockets(self._sockets)
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = partial(loop.call_soon_threadsafe, ended.set)
        self._ready.set()
        await ended.wait()
        server.stop()
        await server.close_all_connections()
        self._shared.readers.shutdown(wait=False, cancel_futures=True)


def bind(host: str, port: int) -> list[Any]:
    """Listening sockets; ResourceError where the address or port cannot be had."""
    try:
        return list(tornado.netutil.bind_sockets(port, address=host or None))
    except OSError as error:
        raise ResourceError(
            f"Cannot listen at {host}, port {port}: {error.strerror}. Take another --port "
            "(0 takes a free one), or an address of this machine as --host."
        ) from error


def serve(
    path: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    started: Callable[[ViewServer], None] = lambda _: None,
) -> None:
    """Show the run folder or mosaic at `path` until interrupted; `started` is told the server."""
    from cemi_dask.view.source import open_source

    with ViewServer(open_source(path), host=host, port=port) as server:
        started(server)
        threading.Event().wait()


def _no_log(_: tornado.web.RequestHandler) -> None:
    """Requests are not logged: their addresses hold the token."""
