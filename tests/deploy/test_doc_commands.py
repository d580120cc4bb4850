"""The commands in the pages on clusters, held against the files and programs they name."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed  # noqa: F401 - whose settings the pages name
import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from tests.deploy.charts import CHART, ROOT, deploy_environment, examine

PAGES = [ROOT / "docs" / "cluster.md", ROOT / "docs" / "guide.md", CHART / "README.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str, *pages: Path) -> Iterator[str]:
    """The fenced blocks in one language."""
    for page in pages or PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            if found.group(1) == language:
                yield found.group(2)


def lines(program: str) -> list[list[str]]:
    """The words of every command that starts with `program`."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [line[1:] for line in words if line[:1] == [program]]


def test_dask_understands_the_commands_in_the_pages() -> None:
    programs = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    found = lines("dask")
    assert len(found) >= 5
    for name, *args in found:
        with programs[name].make_context(name, args) as context:
            assert not context.args, args


def test_settings_in_the_pages_are_dasks() -> None:
    text = "\n".join(blocks("sh"))
    found = set(re.findall(r"\bDASK_(\w+)=", text))
    assert len(found) >= 8
    for name in found:
        dask.config.get(name.lower().replace("__", "."))


def test_images_are_built_from_what_is_there() -> None:
    arguments = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    builds = [words for words in lines("docker") if words[0] == "build"]
    assert len(builds) == 2
    for words in builds:
        assert (ROOT / words[words.index("--file") + 1]).is_file()
        assert words[-1] == "."
        if "--build-arg" in words:
            name, _, value = words[words.index("--build-arg") + 1].partition("=")
            assert f"ARG {name}=" in arguments
            assert f" AS torch-{value}\n" in arguments


def test_jobs_are_submitted_with_the_script_that_is_there() -> None:
    found = lines("sbatch")
    assert len(found) == 3
    for words in found:
        (script,) = [word for word in words if word.endswith(".sbatch")]
        assert (ROOT / script).is_file()
        command = words[words.index(script) + 1 :]
        assert command[0] == "run"
        assert "--out" in command


def test_the_chart_is_installed_from_where_it_is() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    found = [words for words in lines("helm") if words[0] == "install"]
    assert len(found) == 2
    for words in found:
        assert (ROOT / words[2] / "Chart.yaml").is_file()
        part = values
        for key in words[words.index("--set") + 1].partition("=")[0].split("."):
            part = part[key]


@pytest.mark.helm
def test_the_values_in_the_page_are_valid() -> None:
    deploy_environment()
    (text,) = [b for b in blocks("yaml", ROOT / "docs" / "cluster.md") if "existingClaim" in b]
    told = examine({"page": yaml.safe_load(text)})["page"]
    assert told.get("error") is None
    assert told["faults"] == []


def test_the_certificate_of_the_page_is_made(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    (words,) = lines("openssl")
    done = subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "key.pem").is_file()
    assert (tmp_path / "cert.pem").is_file()
