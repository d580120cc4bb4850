"""The ledger remembers finished items, survives a kill, and forgets when inputs change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cemi_dask.errors import ResourceError, StoreError
from cemi_dask.pipeline.ledger import Ledger, digest_of


def test_finished_items_are_found_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path).stage("blend", "abc")
    assert ledger.was_reset
    ledger.record("a", {"x": 0.1 + 0.2})
    ledger.record("b", None)
    again = Ledger(tmp_path).stage("blend", "abc")
    assert not again.was_reset
    assert again.finished == {"a": {"x": 0.1 + 0.2}, "b": None}
    assert not again.complete
    again.finish({"n": 2})
    assert Ledger(tmp_path).stage("blend", "abc").summary == {"n": 2}


def test_another_digest_starts_anew(tmp_path: Path) -> None:
    Ledger(tmp_path).stage("blend", "abc").record("a", 1)
    assert Ledger(tmp_path).stage("blend", "other").finished == {}
    assert Ledger(tmp_path).stage("blend", "abc").finished == {}


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    ledger = Ledger(tmp_path).stage("blend", "abc")
    ledger.record("a", 1)
    ledger.record("b", 2)
    data = ledger.path.read_bytes()
    ledger.path.write_bytes(data[:-cut])
    torn = Ledger(tmp_path).stage("blend", "abc")
    assert torn.finished == {"a": 1}
    torn.record("b", 3)
    assert Ledger(tmp_path).stage("blend", "abc").finished == {"a": 1, "b": 3}


def test_damage_in_the_middle_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path).stage("blend", "abc")
    ledger.record("a", 1)
    ledger.path.write_bytes(ledger.path.read_bytes() + b"garbage\n")
    with pytest.raises(StoreError, match=r"blend\.jsonl is damaged"):
        Ledger(tmp_path).stage("blend", "abc")


def test_the_digest_sees_parameters_inputs_and_upstream() -> None:
    base = digest_of("blend", {"width_px": 64}, ["a"], ["u"])
    assert base == digest_of("blend", {"width_px": 64}, ["a"], ["u"])
    assert base != digest_of("blend", {"width_px": 65}, ["a"], ["u"])
    assert base != digest_of("blend", {"width_px": 64}, ["b"], ["u"])
    assert base != digest_of("blend", {"width_px": 64}, ["a"], ["v"])


def test_only_one_process_holds_a_run_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from cemi_dask.pipeline.ledger import Ledger\n"
        "with Ledger(pathlib.Path(sys.argv[1])).locked(): pass"
    )
    with Ledger(tmp_path).locked():
        child = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "Another process is running" in child.stderr
    with Ledger(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be")
    with (
        pytest.raises((StoreError, ResourceError), match="ledger"),
        Ledger(tmp_path / "ledger").locked(),
    ):
        pass
