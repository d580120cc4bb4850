"""The section with the animation from the whole mosaic into its finest detail."""

from __future__ import annotations

from cemi_dask import store
from cemi_dask.errors import StoreError
from cemi_dask.report.details import choose_details
from cemi_dask.report.folder import RunFolderData
from cemi_dask.report.options import ReportOptions
from cemi_dask.report.page import Picture, Section
from cemi_dask.report.sections import MADE_BY
from cemi_dask.report.zoom import preview, write_zoom

SHOWN_PX = 480  # wide, on the page
TITLE = ("zoom", "From the whole into detail")


def zoom_section(data: RunFolderData, options: ReportOptions) -> list[Section]:
    """Writes ``zoom.gif`` or ``zoom.mp4`` and shows a small copy; nothing where none is wanted.

    Old ones are deleted first: they must not outlive the mosaic they show.
    """
    with store.storing(data.path):
        for ending in ("gif", "mp4"):
            (data.path / f"zoom.{ending}").unlink(missing_ok=True)
    if options.zoom is None:
        return []
    if data.mosaic is None:
        return [Section(*TITLE, missing=MADE_BY.format(what="the animation", stage="blend"))]
    height, width = data.mosaic.shape
    details = choose_details(data, options)
    target = (width / 2, height / 2)
    if details:
        box = details[0].box
        target = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    try:
        written = write_zoom(data.mosaic, data.path, options.zoom, target=target)
    except StoreError as error:
        return [Section(*TITLE, missing=f"Not drawn: {error}")]
    if not written:
        return []
    names = " and ".join(path.name for path in written)
    picture = Picture(
        preview(data.mosaic, options.zoom, target=target),
        "Animation from the whole mosaic into one place",
        f"Larger as {names}, beside this page.",
        "pixels",
        min(options.zoom.width_px, SHOWN_PX),
        "image/webp",
    )
    return [Section(*TITLE, pictures=(picture,))]
