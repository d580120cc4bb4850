"""The commands in the manifests, held against the programs that they start."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401 - its defaults are held against the settings
import pytest
from distributed.cli import dask_scheduler, dask_worker
from typer.main import get_command

from cemi_dask.cli import app
from tests.deploy.charts import VARIANTS, containers, of_kind, pods

pytestmark = pytest.mark.helm
each_variant = pytest.mark.parametrize("name", VARIANTS)

Charts = dict[str, Any]


def settings_of(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """The environment that all containers share."""
    (found,) = [
        c["data"] for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"].endswith("dask")
    ]
    return dict(found)


@each_variant
def test_dask_understands_its_commands(charts: Charts, name: str) -> None:
    programs = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    parsed = 0
    for where, _, spec in pods(charts[name]["manifests"]):
        for container in containers(spec):
            if container["command"][0] != "dask":
                continue
            program = programs[container["command"][1]]
            args = [re.sub(r"\$\((\w+)\)", r"\1", word) for word in container["args"]]
            with program.make_context("dask", args) as context:
                assert not context.args, where
            parsed += 1
    assert parsed >= 2


@each_variant
def test_variables_in_commands_are_set(charts: Charts, name: str) -> None:
    # The operator sets the worker's name itself.
    given = {"DASK_WORKER_NAME"} if name.startswith("operator") else set()
    for where, _, spec in pods(charts[name]["manifests"]):
        for container in containers(spec):
            known = {item["name"] for item in container.get("env", [])} | given
            used = re.findall(r"\$\((\w+)\)", " ".join(container["args"]))
            assert set(used) <= known, where


@each_variant
def test_cemi_understands_its_commands(charts: Charts, name: str) -> None:
    commands = get_command(app).commands
    for where, _, spec in pods(charts[name]["manifests"]):
        for container in containers(spec):
            if container["command"] != ["cemi"]:
                continue
            command, *args = container["args"]
            if command not in commands:
                pytest.skip(f"this version has no `cemi {command}`")
            with commands[command].make_context(command, args) as context:
                assert not context.args, where


@each_variant
def test_embedded_scripts_compile(charts: Charts, name: str) -> None:
    found = 0
    for where, _, spec in pods(charts[name]["manifests"]):
        for container in containers(spec):
            if container["command"] == ["python", "-c"]:
                compile(container["args"][0], where, "exec")
                found += 1
    assert found >= 1


@each_variant
def test_dask_knows_every_setting(charts: Charts, name: str) -> None:
    settings = settings_of(charts[name]["manifests"])
    told = [key for key in settings if key.startswith("DASK_")]
    assert told
    for key in told:
        dotted = key.removeprefix("DASK_").lower().replace("__", ".")
        dask.config.get(dotted)  # KeyError where there is no such key


class Cluster:
    """What the manifests start, here: a place for each path and port."""

    def __init__(self, manifests: list[dict[str, Any]], folder: Path) -> None:
        self.folder = folder
        self.scheduler, self.dashboard, self.worker, self.nanny, self.health = free_ports(5)
        certificates = folder / "tls"
        certificates.mkdir()
        for secret in of_kind(manifests, "Secret"):
            for name, content in secret["data"].items():
                (certificates / name).write_bytes(base64.b64decode(content))
        self.env = {key: self.here(text) for key, text in settings_of(manifests).items()}
        self.by_name = {
            container["name"]: container
            for _, _, spec in pods(manifests)
            for container in containers(spec)
        }

    def here(self, text: str) -> str:
        """A word of a command, or a setting, with the paths and ports of this machine."""
        text = text.replace("/etc/cemi/tls", str(self.folder / "tls"))
        text = text.replace("/scratch", str(self.folder))
        text = text.replace("demo-cemi-dask-scheduler.cemi.svc", "127.0.0.1")
        ports = {8786: self.scheduler, 8787: self.dashboard, 8788: self.health}
        for told, port in ({8790: self.worker, 8791: self.nanny} | ports).items():
            text = re.sub(rf"\b{told}\b", str(port), text)
        return "127.0.0.1" if text == "0.0.0.0" else text

    def words(self, name: str) -> list[str]:
        """The command of a container."""
        container = self.by_name[name]
        env = {e["name"]: self.here(e.get("value", "")) for e in container.get("env", [])}
        env |= {"DASK_WORKER_NAME": "worker-0", "MEMORY_LIMIT": str(1 << 30)}
        args = [
            re.sub(r"\$\((\w+)\)", lambda m: env[m.group(1)], self.here(word))
            for word in container["args"]
        ]
        program = container["command"]
        if program == ["python", "-c"]:
            return [sys.executable, "-c", *args]
        return [sys.executable, "-m", *program, *args]

    @contextmanager
    def started(self, name: str) -> Iterator[None]:
        """The process of a container, while the block lasts."""
        log = self.folder / f"{name}.log"
        with open(log, "w") as output:
            process = subprocess.Popen(
                self.words(name),
                env=os.environ | self.env,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait(30)

    def client(self, code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A Python process with this environment besides the usual one."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DASK_")}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=kept | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def test_processes_with_helms_certificates_meet_and_others_are_refused(
    charts: Charts, tmp_path: Path
) -> None:
    cluster = Cluster(charts["tls"]["manifests"], tmp_path)
    # Jobs have the wait in every variant that has one; the certificates are these.
    waiting = Cluster.__new__(Cluster)
    waiting.__dict__ = dict(cluster.__dict__)
    waiting.by_name = {
        c["name"]: c for _, _, s in pods(charts["tls-secret"]["manifests"]) for c in containers(s)
    }
    with cluster.started("scheduler"), cluster.started("worker"):
        waited = subprocess.run(
            waiting.words("wait-for-workers"), capture_output=True, text=True, timeout=60
        )
        assert waited.returncode == 0, waited.stderr
        assert waited.stdout.startswith("1 workers at ")
        tested = subprocess.run(
            cluster.words("client"),
            env=os.environ | cluster.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert tested.returncode == 0, tested.stderr
        assert "has cemi_dask" in tested.stdout
        address = f"127.0.0.1:{cluster.scheduler}"
        connect = "from distributed import Client; Client({!r}, timeout=5); print('connected')"
        for place in (f"tls://{address}", f"tcp://{address}"):
            stranger = cluster.client(connect.format(place), {})
            assert stranger.returncode != 0, place
            assert "connected" not in stranger.stdout, place


def test_waiting_for_workers_ends(charts: Charts, tmp_path: Path) -> None:
    cluster = Cluster(charts["tls-secret"]["manifests"], tmp_path)
    *command, _ = cluster.words("wait-for-workers")
    done = subprocess.run([*command, "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "After 1 s no worker at http://127.0.0.1:" in done.stderr
