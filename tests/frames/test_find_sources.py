"""Paths become sources: folders, globs, natural order, and errors that say what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tifffile import imwrite

from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.frames import InputOptions, SelectionOptions, find_sources, prepare


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def names(folder: Path, *paths: str) -> list[str]:
    found = find_sources(InputOptions(paths=paths), folder)
    return [Path(file).name for source in found for file in source.files]


def test_rows_are_sorted_as_people_count(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "row10.avi", "row2.avi", "Row1.AVI", "notes.txt", ".hidden.avi")
    sources = find_sources(InputOptions(paths=("videos",)), tmp_path)
    assert [Path(s.files[0]).name for s in sources] == ["Row1.AVI", "row2.avi", "row10.avi"]
    assert [s.row for s in sources] == [0, 1, 2]
    assert [s.key for s in sources] == ["000_Row1", "001_row2", "002_row10"]


def test_files_globs_and_folders_go_together_and_nothing_comes_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a1.mp4", "a2.mp4", "b.mkv", "c.tif")
    assert names(tmp_path, "a*.mp4", "b.mkv", "a1.mp4") == ["a1.mp4", "a2.mp4", "b.mkv"]


def test_names_with_brackets_are_files(tmp_path: Path) -> None:
    touch(tmp_path, "ex[Grid@0 1].jpg")
    assert names(tmp_path, "ex[Grid@0 1].jpg") == ["ex[Grid@0 1].jpg"]
    (source,) = find_sources(InputOptions(paths=("ex[Grid@0 1].jpg",)), tmp_path)
    assert source.key == "000_ex-Grid-0-1"


def test_tiles_are_grouped_sixteen_to_a_source(tmp_path: Path) -> None:
    touch(tmp_path, *(f"tile_{n}.tif" for n in range(40)))
    sources = find_sources(InputOptions(paths=(".",)), tmp_path)
    assert [len(s.files) for s in sources] == [16, 16, 8]
    assert len({s.key for s in sources}) == 3
    assert Path(sources[1].files[0]).name == "tile_16.tif"


def test_sources_survive_pickling(tmp_path: Path) -> None:
    imwrite(tmp_path / "t.tif", np.zeros((32, 32), np.uint8))
    options = InputOptions(paths=("t.tif",))
    sources = prepare(find_sources(options, tmp_path), options)
    assert repr(pickle.loads(pickle.dumps(sources))) == repr(sources)


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("empty", InputError, "Known suffixes"),
        ("*.avi", InputError, "Known suffixes"),
        ("missing.avi", UnreadableError, "does not exist"),
        ("notes.txt", ConfigError, "'.txt'"),
        (".", InputError, "input.kind"),
    ],
)
def test_what_cannot_be_found_is_named(
    tmp_path: Path, path: str, error: type[Exception], told: str
) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "notes.txt", "row.mp4", "tile.tif")
    with pytest.raises(error) as caught:
        find_sources(InputOptions(paths=(path,)), tmp_path)
    assert told in str(caught.value)


def test_kind_settles_what_a_mixed_folder_means(tmp_path: Path) -> None:
    touch(tmp_path, "row.mp4", "tile.tif")
    for kind, suffix in (("videos", ".mp4"), ("tiles", ".tif")):
        (source,) = find_sources(InputOptions(paths=(".",), kind=kind), tmp_path)
        assert source.files[0].endswith(suffix)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="overlap_min"):
        SelectionOptions(overlap_min=0.7, overlap_max=0.5)
    with pytest.raises(ValidationError, match="Extra inputs"):
        InputOptions(paths=("x",), pixels=3)
