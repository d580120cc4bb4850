"""`cemi view` as a user starts it: says where, serves, ends quietly."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cemi_dask.cli import main
from tests.view.view_run import SMALL, write_patched_mosaic


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_until_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    write_patched_mosaic(tmp_path / "mosaic.ome.zarr", SMALL, labels=False)
    host = "0.0.0.0" if end == signal.SIGTERM else "127.0.0.1"
    command = [sys.executable, "-m", "cemi_dask.cli", "view", str(tmp_path), "--no-browser"]
    with subprocess.Popen(
        [*command, "--host", host], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        url = running.stdout.readline().split()[-1]
        with urllib.request.urlopen(url, timeout=20) as page:
            assert b"<title>cemi view</title>" in page.read()
        if host == "0.0.0.0":
            assert "?token=" in url
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(url.partition("?")[0], timeout=20)
        running.send_signal(end)
        told, errors = running.communicate(timeout=30)
        assert running.returncode == 0, errors
        assert "The viewer has ended." in told
        assert errors == ""


def test_what_is_no_mosaic_is_an_error_in_one_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(tmp_path), "--no-browser"]) == 1
    assert "is no OME-Zarr mosaic" in capsys.readouterr().err
    write_patched_mosaic(tmp_path / "m", SMALL, labels=False)
    assert main(["view", str(tmp_path / "m"), "--no-browser", "--host", "203.0.113.7"]) == 1
    assert "Cannot listen at 203.0.113.7" in capsys.readouterr().err
