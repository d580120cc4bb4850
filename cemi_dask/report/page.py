"""The page: what sections are made of, and how they become one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cemi_dask.report.style import data_uri


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its PNG, what it shows in words, and its caption.

    ``plot`` pictures fill the width; ``pixels`` are shown at one screen pixel per pixel. `media`
    is what the bytes are, where they are no PNG.
    """

    png: bytes
    alt: str
    caption: str = ""
    kind: Literal["plot", "pixels"] = "plot"
    width_px: int = 0
    media: str = "image/png"

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.png, self.media)


@dataclass(frozen=True)
class Table:
    """A table of texts. `numeric` names the right-aligned columns; `bars` (0..1 per row) are
    drawn behind the last column; `links` (a URL or nothing per row) are those of the first."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""
    numeric: tuple[str, ...] = ()
    bars: tuple[float, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page. `missing` says which stage makes what is not there yet."""

    key: str
    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    code: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Number:
    """A summary number: its name, its value with unit, and a line of detail."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """Everything the template shows."""

    title: str
    subtitle: str
    numbers: Sequence[Number]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    failure: str = ""
    footer: str = ""
    colours: dict[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """The page as one HTML document; every text that comes from a file is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cemi_dask.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context: dict[str, Any] = {"page": page}
    return environment.get_template("template.html.j2").render(context)
