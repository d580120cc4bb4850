"""Figures and one self-contained HTML page that tell what a run found, from its folder alone."""

from cemi_dask.report.options import ReportOptions
from cemi_dask.report.write import write_report

__all__ = ["ReportOptions", "write_report"]
