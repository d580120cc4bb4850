"""How results show themselves: as a figure by `plot`, as HTML at the end of a notebook's cell.

Value types lie below the report, which draws them. It is therefore looked up by name, and not
before something is shown: whoever computes needs neither the report nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_BY = "cemi_dask.report.displays"


class Displayed:
    """A result that notebooks show as its facts and a figure."""

    def _figure(self, **options: Any) -> Figure:
        figure: Figure = import_module(_DRAWN_BY).figure_of(self, **options)
        return figure

    def _repr_html_(self) -> str:
        return str(import_module(_DRAWN_BY).html_of(self))
