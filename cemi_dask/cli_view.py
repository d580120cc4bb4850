"""`cemi view`: the mosaic of a run in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cemi_dask.view import ViewServer


def view(
    path: Annotated[Path, typer.Argument(help="run folder or OME-Zarr mosaic", metavar="OUT")],
    host: Annotated[
        str, typer.Option(help="address to listen at; beyond loopback the link holds a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page")] = True,
) -> None:
    """Show a mosaic, and what was measured on it, in the browser until interrupted."""
    from cemi_dask.view import serve

    def say(server: ViewServer) -> None:
        print(f"The mosaic is shown at {server.url}", flush=True)
        if server.elsewhere:
            print(f"From other machines: {server.elsewhere}", flush=True)
        if server.token:
            print("Whoever has the link can see it. The connection is not encrypted.", flush=True)
        print("End with Ctrl-C.", flush=True)
        if browser:
            import webbrowser

            webbrowser.open(server.url)

    try:
        serve(path, host=host, port=port, started=say)
    except KeyboardInterrupt:
        print("The viewer has ended.")
