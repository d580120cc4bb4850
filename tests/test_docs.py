"""What README and docs say exists: files, Python code, commands with their options."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperOption
from typer.testing import CliRunner

from cemi_dask.cli import app
from cemi_dask.pipeline.config import RunConfig, config_model, parse_config
from cemi_dask.pipeline.train_segment import SegmentTraining

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Names in backticks that look like files of the repository.
FILE = re.compile(r"`((?:configs|examples|benchmarks|docs|tests)/[\w./-]+)`")
# Also those in lists, which are indented.
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def fenced(path: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a page in one language."""
    for found in FENCE.finditer(path.read_text(encoding="utf-8")):
        if found.group(2) == language:
            yield textwrap.dedent(found.group(3))


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


def yaml_blocks() -> list[Any]:
    """Every yaml block of every page, by page and number."""
    return [
        pytest.param(block, id=f"{name}-{k}")
        for name, path in zip(IDS, PAGES, strict=True)
        for k, block in enumerate(fenced(path, "yaml"))
    ]


@pytest.mark.parametrize("block", yaml_blocks())
def test_every_yaml_block_is_part_of_a_valid_config(block: str) -> None:
    values = yaml.safe_load(block)
    chart = yaml.safe_load((ROOT / "deploy/helm/cemi-dask/values.yaml").read_text())
    if set(values) <= set(chart):  # values of the chart, whose schema checks them
        assert_known(values, chart)
    elif "network" in values:
        SegmentTraining.model_validate(values)
    else:
        least = {"input": {"paths": ["videos"], "pixel_um": 0.222}}
        assert isinstance(parse_config({**least, **values}), RunConfig)
        assert set(values) <= set(config_model().model_fields)


def assert_known(values: dict[str, Any], known: dict[str, Any]) -> None:
    """Fail for a key that the chart's own values lack."""
    for key, value in values.items():
        assert key in known, key
        if isinstance(value, dict) and isinstance(known[key], dict) and known[key]:
            assert_known(value, known[key])


NOTEBOOKS = ROOT / "docs" / "howto" / "notebooks.md"
# What makes the tutorial's ingot small, and what would not end by itself.
SMALLER = {"simulate": ["--rows", "2", "--frames-per-row", "3", "--frame-size", "480x320"]}
ENDLESS = {"view"}


def test_the_commands_of_the_tutorial_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "tutorial.md"
    ran = []
    for words in cemi_lines(page):
        if words[0] in ENDLESS:
            continue
        words = [word for word in words if "row_002" not in word]
        done = CliRunner().invoke(app, [*words, *SMALLER.get(words[0], [])])
        assert done.exit_code == 0, (words, done.output, done.exception)
        ran.append(words[0])
        if words[0] == "simulate":  # drawing the zoom would take half of the time
            with (tmp_path / "demo/ingot/ingot.yaml").open("a") as config:
                config.write("report: {zoom: null}\n")
    assert {"simulate", "inspect", "plan", "run", "status", "export"} <= set(ran)
    blocks = [block for path in (page, NOTEBOOKS) for block in fenced(path, "python")]
    assert len(blocks) >= 3
    for block in blocks:  # those of the page on notebooks start from the tutorial's ingot too
        code = block.replace("[200:800, 5000:6000]", "[200:300, 500:600]")
        exec(compile(code, page.name, "exec"), {})
    # What the page names is there.
    for name in re.findall(r"`(demo/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert (tmp_path / name).exists(), name
    assert (tmp_path / "maps.png").stat().st_size > 5000


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: the extra [docs]")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site"
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page
    # Links that leave docs/ lead to copies; functions come with what they return.
    assert (site / "source" / "configs" / "demo.yaml.txt").is_file()
    api = (site / "api.html").read_text(encoding="utf-8")
    assert "The layout (positions, sigma, component, gain, offset, shear per frame)" in api


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
