"""What the Dockerfile says, held against the repository and the chart; no docker needed."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.deploy.charts import CHART, ROOT, deploy_environment

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def of(name: str) -> list[str]:
    """The rest of every such instruction."""
    return [rest for instruction, rest in instructions() if instruction == name]


def test_the_base_image_is_pinned_and_of_a_python_we_support() -> None:
    arguments = dict(rest.split("=", 1) for rest in of("ARG"))
    image, tag = arguments["PYTHON_IMAGE"].split(":")
    assert image == "python"
    assert re.fullmatch(r"3\.11\.\d+-slim-bookworm", tag)
    assert "3.11" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    variants = {m for rest in of("FROM") for m in re.findall(r" AS torch-(\w+)$", rest)}
    assert variants == {"cpu", "cuda"}
    assert arguments["VARIANT"] in variants


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    copied = [rest.split()[:-1] for rest in of("COPY") if not rest.startswith("--from")]
    sources = [source for group in copied for source in group]
    assert len(sources) == len(let_in)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, name) for name in let_in), source
    # What the build needs of the project: the files its metadata name.
    assert {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= set(sources)


def test_every_package_is_pinned() -> None:
    installs = [rest for rest in of("RUN") if "pip install" in rest]
    assert len(installs) == 2
    for command in installs:
        assert "-c constraints.txt" in command
    (extras,) = re.findall(r"'\.\[(.*)\]'", installs[1])
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_it_runs_as_the_charts_user_and_not_as_root() -> None:
    names = [name for name, _ in instructions()]
    chart = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["securityContext"]
    (user,) = of("USER")
    assert user == f"{chart['runAsUser']}:{chart['runAsGroup']}"
    after = names[names.index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_it_writes_only_to_its_volumes() -> None:
    (volumes,) = of("VOLUME")
    assert volumes == '["/scratch", "/data"]'
    text = DOCKERFILE.read_text(encoding="utf-8")
    for name in ("HOME", "TMPDIR", "MPLCONFIGDIR"):
        assert re.search(rf"{name}=/scratch", text), name


def test_its_entry_point_is_the_command() -> None:
    assert of("ENTRYPOINT") == ['["cemi"]']
    assert "cemi" in PROJECT["project"]["scripts"]


class Health(BaseHTTPRequestHandler):
    """Answers as dask does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    """The health check of a container whose process listens at `port`."""
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "healthcheck.py"],
        env=os.environ | {"CEMI_HEALTH_PORTS": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_health_check_tells_who_answers() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        alive = check_health(port)
    finally:
        server.shutdown()
        server.server_close()
    assert (alive.returncode, alive.stdout) == (0, f"port {port}: ok\n")
    dead = check_health(port)
    assert dead.returncode == 1
    assert f"port {port}: " in dead.stderr


@pytest.mark.helm
def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    hadolint = deploy_environment() / "bin" / "hadolint"
    command = [hadolint, "--config", ROOT / "deploy" / "hadolint.yaml"]
    done = subprocess.run([*command, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python\nRUN cd /x && pip install dask\n")
    assert subprocess.run([*command, wrong], capture_output=True, timeout=60).returncode != 0
