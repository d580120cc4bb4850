"""The deep-zoom viewer: a page with the whole mosaic, and the server that answers it."""

from cemi_dask.view.server import ViewServer, serve
from cemi_dask.view.source import ViewSource, open_source

__all__ = ["ViewServer", "ViewSource", "open_source", "serve"]
