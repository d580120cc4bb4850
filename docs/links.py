"""Links of pages to files of the repository outside docs/, for the built pages.

On a repository's host ``../configs/demo.yaml`` leads to the file itself. In the built pages the
same link leads to a copy under ``source/``, so that pages need no host; a folder is a page that
lists its files. Files that do not exist are left as they are, and mkdocs warns of them.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.links")
ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)([)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages link to outside docs/."""
    known = set()
    for page in files.documentation_pages():
        text = page.content_string
        for _, target, _ in LINK.findall(text):
            known.add(outside(page.src_uri, target))
    for name in sorted(filter(None, known)):
        path = ROOT / name
        if path.is_dir():
            listed = File.generated(config, f"source/{name}/index.md", content=listing(name))
            files.append(listed)
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"\]\((?!https?:)[^)]*\)", "]", text)  # its own links stay behind
            files.append(File.generated(config, f"source/{name}", content=text))
        elif path.is_file():
            # As text, which browsers show instead of saving it.
            files.append(File.generated(config, f"source/{name}.txt", abs_src_path=str(path)))
    return files


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Warn of a fence that was not understood: the page would show it as running text."""
    if "```" in html:
        log.warning("%s: a fence in a list must be indented by 4 spaces.", page.file.src_uri)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs/ to what `on_files` added."""

    def repointed(found: re.Match[str]) -> str:
        name = outside(page.file.src_uri, found[2])
        if name is None:
            return found[0]
        path = ROOT / name
        ending = "/index.md" if path.is_dir() else "" if path.suffix == ".md" else ".txt"
        start = posixpath.dirname(page.file.src_uri) or "."
        return found[1] + posixpath.relpath(f"source/{name}{ending}", start) + found[3]

    return LINK.sub(repointed, markdown)


def outside(page: str, target: str) -> str | None:
    """The path in the repository of a link that leaves docs/ and leads somewhere, or None."""
    joined = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    inside = joined.startswith(("docs/", "../")) or joined == "docs"
    return None if inside or not (ROOT / joined).exists() else joined


def listing(name: str) -> str:
    """A page that lists the files of a folder."""
    found = (path for path in (ROOT / name).rglob("*") if path.is_file())
    shown = sorted(path.relative_to(ROOT) for path in found if path.suffix != ".pyc")
    lines = [f"* `{path.as_posix()}`" for path in shown]
    return "\n".join([f"# {name}/", "", "In the repository:", "", *lines, ""])
