"""Tables and small files: exact, whole or absent, with the columns others rely on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cemi_dask.errors import ConfigError, StoreError
from cemi_dask.frameset import FRAME_COLUMNS
from cemi_dask.store import (
    CONTRACT,
    read_table,
    write_json_atomic,
    write_table,
    write_text_atomic,
)


def pairs():
    return pd.DataFrame(
        {
            "i": [0, 1],
            "j": [1, 2],
            "dx_px": [1 / 3, np.nan],
            "dy_px": [1e-17, -0.1],
            "score": [0.9, np.nan],
            "status": ["ok", "empty"],
            "residual_px": [0.01, np.nan],
            "extra": [True, False],
        }
    )


def test_numbers_survive_both_formats_exactly(tmp_path):
    path = write_table(pairs(), tmp_path, "pairs")
    assert path == tmp_path / "pairs.csv"
    pd.testing.assert_frame_equal(read_table(tmp_path, "pairs"), pairs())
    (tmp_path / "pairs.parquet").unlink()
    pd.testing.assert_frame_equal(read_table(tmp_path, "pairs"), pairs())


def test_text_is_the_shortest_that_reads_back(tmp_path):
    text = write_table(pairs(), tmp_path, "pairs").read_text()
    assert text.splitlines() == [
        "i,j,dx_px,dy_px,score,status,residual_px,extra",
        "0,1,0.3333333333333333,1e-17,0.9,ok,0.01,True",
        "1,2,,-0.1,,empty,,False",
    ]


def test_same_table_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_table(pairs(), tmp_path / folder, "pairs")
    for suffix in ("csv", "parquet"):
        names = [tmp_path / folder / f"pairs.{suffix}" for folder in ("a", "b")]
        assert names[0].read_bytes() == names[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["pairs.csv", "pairs.parquet"]


def test_missing_contract_columns_are_named_and_nothing_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"'pairs' lacks .*'score'"):
        write_table(pairs().drop(columns="score"), tmp_path, "pairs")
    with pytest.raises(ConfigError, match="'notes'"):
        write_table(pairs(), tmp_path, "notes")
    write_table(pairs(), tmp_path, "notes", columns=["i"])
    assert list(tmp_path.glob("pairs*")) == []


def test_contract_agrees_with_the_frames_table():
    assert CONTRACT["frames"] == FRAME_COLUMNS
    assert set(CONTRACT) == {"frames", "pairs", "positions", "cells", "profile", "correlation"}


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="'cells'"):
        read_table(tmp_path, "cells")
    (tmp_path / "cells.parquet").write_bytes(b"no parquet")
    with pytest.raises(StoreError, match=r"cells\.parquet cannot be read"):
        read_table(tmp_path, "cells")


def test_text_and_json_are_whole_or_absent(tmp_path):
    target = tmp_path / "deep" / "run.json"
    write_json_atomic(target, {"µ": [1, None, 0.1]})
    assert json.loads(target.read_text("utf-8")) == {"µ": [1, None, 0.1]}
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(target, {"x": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(target, "\ud800")
    assert json.loads(target.read_text("utf-8")) == {"µ": [1, None, 0.1]}
    assert [p.name for p in target.parent.iterdir()] == ["run.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*file/run\.json: File exists"):
        write_text_atomic(tmp_path / "file" / "run.json", "x")
    with pytest.raises(StoreError, match=r"Cannot write .*deep/run\.json: Not a directory"):
        write_text_atomic(tmp_path / "file" / "deep" / "run.json", "x")


LIMITED = """
import resource, sys
import numpy as np
from cemi_dask.errors import StoreError
from cemi_dask.store import FrameWriter, write_text_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
frames = np.random.default_rng(0).integers(0, 255, (3, 200, 300)).astype(np.uint8)
try:
    if sys.argv[2] == "text":
        write_text_atomic(sys.argv[1] + "/t.txt", "x" * 100_000)
    else:
        with FrameWriter(sys.argv[1], "a") as writer:
            for frame in frames:
                writer.append(frame)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["text", "frames"])
def test_a_disk_that_refuses_more_bytes_is_reported(tmp_path, kind):
    # A limit on the size of files makes the operating system refuse, as a full disk would.
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in done.stdout
    assert str(tmp_path) in done.stdout
    assert not list(tmp_path.rglob("*.partial"))
