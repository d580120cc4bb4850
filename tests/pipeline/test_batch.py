"""Many ingots at once: each as if it were alone, one that is broken stops no other."""

from __future__ import annotations

import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cemi_dask.errors import ConfigError
from cemi_dask.measures import measures_of
from cemi_dask.pipeline import RunResult, run, run_many
from cemi_dask.pipeline.batch_list import list_ingots
from tests.pipeline.conftest import Words, contents, reused, same_results, write_config
from tests.pipeline.pictures import cut


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


class Links(HTMLParser):
    """The targets of the links and pictures of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.fixture(scope="module")
def batch(ingot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a table of three ingots of which the second is broken, where its run folders go)."""
    folder = tmp_path_factory.mktemp("batch")
    broken = folder / "broken"
    broken.mkdir()
    for video in ingot.parent.glob("row_*"):
        shutil.copy(video, broken)
    cut(sorted(broken.iterdir())[-1], 0.001)
    rows = [
        {"name": "videos", "input.paths": "", "blend.method": ""},
        {"name": "broken", "input.paths": f"{broken}/row_*", "blend.method": ""},
        {"name": "averaged", "input.paths": "", "blend.method": "average"},
    ]
    return write_table(folder / "ingots.csv", rows), folder / "out"


@pytest.fixture(scope="module")
def error(batch: tuple[Path, Path], ingot: Path) -> str:
    """What `cemi batch` prints on that table, which must end with status 1."""
    import contextlib
    import io

    from cemi_dask.cli import main

    table, out = batch
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert main(["batch", str(table), "--config", str(ingot), "--out", str(out)]) == 1
    return told.getvalue()


def test_a_broken_ingot_is_named_and_stops_no_other(batch: tuple[Path, Path], error: str) -> None:
    _, out = batch
    assert "1 of 3 ingots failed: broken." in error
    assert "row_001.mkv" in error
    assert "Traceback" not in error
    table = pd.read_csv(out / "batch.csv").set_index("name")
    assert table["state"].to_dict() == {
        "videos": "finished",
        "broken": "failed",
        "averaged": "finished",
    }
    assert "row_001.mkv" in table.loc["broken", "error"]
    cells = pd.read_csv(out / "videos" / "tables" / "cells.csv")
    mean = (cells["bcc_fraction"] * cells["valid_fraction"]).sum() / cells["valid_fraction"].sum()
    assert table.loc["videos", "bcc_fraction"] == pytest.approx(mean, rel=1e-9)
    assert table.loc["videos", "frames_used"] == 12


def test_the_others_are_as_if_they_were_alone(
    batch: tuple[Path, Path], error: str, ingot: Path, finished: RunResult, tmp_path: Path
) -> None:
    _, out = batch
    assert finished.summary["name"] == "videos"  # it is in the figures
    same_results(out / "videos", finished.out)
    alone = write_config(ingot, blend={"method": "average"})
    single = run(alone, out=tmp_path / "run", until="analyse")
    for part in ("mosaic.ome.zarr", "tables"):
        assert contents(out / "averaged" / part) == contents(single.out / part)


def test_the_page_shows_all_and_needs_no_other_file(batch: tuple[Path, Path], error: str) -> None:
    _, out = batch
    found = Links(out / "index.html").found
    links = [link for link in found if not link.startswith(("data:", "#"))]
    assert links == ["videos/report.html", "averaged/report.html"]
    assert all((out / link).is_file() for link in links)
    pictures = [link for link in found if link.startswith("data:image/png")]
    measures = measures_of(pd.read_csv(out / "videos" / "tables" / "cells.csv"))
    assert len(pictures) == len(measures) >= 3
    text = (out / "index.html").read_text()
    for part in ("3 ingots, 2 finished, 1 failed", "BCC phase fraction", "row_001.mkv"):
        assert part in text


def test_a_batch_resumes_and_redoes_nothing(
    batch: tuple[Path, Path], error: str, ingot: Path
) -> None:
    table, out = batch
    result = run_many(table, config=ingot, out=out)
    assert [entry.name for entry in result.failed] == ["broken"]
    for name in ("videos", "averaged"):
        assert all(items == skipped for items, skipped in reused(out / name).values())


# ---------------------------------------------------------------- which ingots


def plain(path: Path, **values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"input": {"paths": "row_*"}, **values}))
    return path


def test_a_folder_of_configs_and_of_ingots(tmp_path: Path) -> None:
    plain(tmp_path / "b.yaml")
    plain(tmp_path / "a" / "ingot.yaml")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old-run" / "ledger").mkdir(parents=True)
    found = list_ingots(tmp_path)
    assert [(one.name, one.base, one.config.name) for one in found] == [
        ("b", tmp_path, "b"),
        ("a", tmp_path / "a", "a"),
    ]
    plain(tmp_path / "a" / "other.yaml")
    with pytest.raises(ConfigError, match="a holds 2 YAML files"):
        list_ingots(tmp_path)


def test_a_folder_of_ingots_under_one_config(tmp_path: Path) -> None:
    for name in ("ingot 2", "ingot 1"):
        (tmp_path / "data" / name).mkdir(parents=True)
    base = plain(tmp_path / "base.yaml", denoise="median")
    found = list_ingots(tmp_path / "data", base)
    assert [one.name for one in found] == ["ingot-1", "ingot-2"]
    assert found[0].config.input.paths == (str(tmp_path / "data" / "ingot 1"),)
    assert found[0].config.denoise.method == "median"
    assert found[0].base == tmp_path


def test_cells_of_a_table_replace_keys_of_the_config(tmp_path: Path) -> None:
    plain(tmp_path / "own" / "own.yaml", name="own")
    base = plain(tmp_path / "base.yaml", denoise="median")
    rows = [
        {"config": "own/own.yaml", "name": "", "input.pixel_um": "0.3", "denoise.size_px": ""},
        {"config": "", "name": "007", "input.pixel_um": "", "denoise.size_px": 5},
    ]
    first, second = list_ingots(write_table(tmp_path / "t.csv", rows), base)
    assert (first.name, first.base) == ("own", tmp_path / "own")
    assert first.config.input.pixel_um == 0.3
    assert first.config.denoise is None
    assert (second.name, second.base) == ("007", tmp_path)
    assert (second.config.denoise.method, second.config.denoise.size_px) == ("median", 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,input.paths\n", "names no ingots"),
        ("name,input.paths\na,x\na,y\n", "Two ingots are called 'a'"),
        ("name,input.paths\n..,x\n", "cannot be called '..'"),
        ("name,input.paths\na/b,x\n", "line 2"),
        ("name,input.path\na,x\n", "line 2"),
        ("name,input.paths\na,x,y\n", "has not one cell for each of the 2 columns"),
        ("name,input.paths\na,[x\n", "column input.paths"),
    ],
)
def test_wrong_tables_are_refused_before_anything_starts(
    text: str, told: str, tmp_path: Path, refused: Words
) -> None:
    file = tmp_path / "ingots.csv"
    file.write_text(text)
    assert told in refused(2, "batch", file, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_configs_must_agree_on_the_cluster(tmp_path: Path, refused: Words) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        plain(tmp_path / f"{name}.yaml", cluster={"workers": workers})
    assert "a and b differ in `cluster`" in refused(2, "batch", tmp_path)
    assert "Cannot read" in refused(2, "batch", tmp_path / "none.csv")
