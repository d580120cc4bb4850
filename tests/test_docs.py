"""What README and docs say exists: files, Python code, commands with their options."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.core import TyperOption

from cemi_dask.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [path.name for path in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Names in backticks that look like files of the repository.
FILE = re.compile(r"`((?:configs|examples|benchmarks|docs|tests)/[\w./-]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def fenced(path: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a page in one language."""
    for found in FENCE.finditer(path.read_text(encoding="utf-8")):
        if found.group(1) == language:
            yield found.group(2)


def cemi_lines(path: Path) -> list[list[str]]:
    """The words of every `cemi` command in the page's sh blocks."""
    text = "\n".join(fenced(path, "sh")).replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line[1:] for line in words if line[:1] == ["cemi"]]


def leaves() -> dict[str, Any]:
    """Every command by its words, such as "run", also those within groups."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {k}": c for k, c in inner.items()}
    return found


def anchors(path: Path) -> set[str]:
    """The anchors that headings get on the usual hosts."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_and_file_names_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(place), f"{path.name}: {target}"
    for name in FILE.findall(text):
        assert (ROOT / name).exists(), f"{path.name}: {name}"


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_python_blocks_compile_and_import_what_exists(path: Path) -> None:
    for block in fenced(path, "python"):
        compile(block, path.name, "exec")
        imports = [line for line in block.splitlines() if re.match(r"(from|import) ", line)]
        exec("\n".join(imports), {})


def test_there_are_python_blocks_and_commands_to_check() -> None:
    assert sum(len(list(fenced(path, "python"))) for path in PAGES) >= 3
    assert sum(len(cemi_lines(path)) for path in PAGES) >= 10


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_cemi_command_line_parses(path: Path) -> None:
    commands = leaves()
    for words in cemi_lines(path):
        # Placeholders such as DIR stand for themselves; parsing runs nothing.
        length = 1 if words[0] in commands else 2  # a command of a group
        name = " ".join(words[:length])
        assert name in commands, words
        with commands[name].make_context(name, words[length:]) as context:
            assert not context.args, words


def test_the_guide_names_every_command_and_option() -> None:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name, command in leaves().items():
        assert f"cemi {name}" in text, name
        for parameter in command.params:
            if isinstance(parameter, TyperOption):
                longest = max((*parameter.opts, *parameter.secondary_opts), key=len)
                assert longest in text, f"cemi {name} {longest}"


def test_the_config_reference_is_up_to_date() -> None:
    script = make_reference()
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), (
        "run: python docs/make_reference.py"
    )


def test_the_config_reference_leaves_no_key_unexplained() -> None:
    for line in make_reference().page().splitlines():
        if line.startswith("| `"):
            assert line.rsplit("|", 2)[1].strip(), line


def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
