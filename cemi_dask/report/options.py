"""`ReportOptions`: what the report shows, and how large."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cemi_dask.report.zoom_options import ZoomOptions


class ReportOptions(BaseModel):
    """What the report shows, and how large. The defaults print well and stay below 10 MB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = Field(
        default=None, description="Heading of the report; the run's name where not given."
    )
    colormap: str = Field(
        default="viridis_r",
        description="Matplotlib colour map of the heat maps; darker should mean more. With any "
        "colour vision viridis_r and cividis_r are told apart.",
    )
    figure_dpi: int = Field(default=300, ge=72, le=1200, description="Of the files in figures/.")
    vector_formats: tuple[Literal["pdf", "svg"], ...] = Field(
        default=("pdf",),
        description="Formats in which drawings are kept in figures/ besides PNG: pdf, svg.",
    )
    page_dpi: int = Field(default=200, ge=72, le=600, description="Of the figures in the page.")
    detail_count: int = Field(default=3, ge=0, le=12, description="Detail crops at full size.")
    detail_px: int = Field(default=480, ge=128, le=2048, description="Width of a detail crop.")
    zoom: ZoomOptions | None = ZoomOptions()
    rejected_rows: int = Field(default=50, ge=0, description="Unused frames listed by name.")
