"""`open_frames`: lazy frames equal what the scan saw, whatever the input."""

from __future__ import annotations

import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
from tifffile import imwrite

from cemi_dask.errors import InputError
from cemi_dask.frames import (
    InputOptions,
    build_table,
    find_sources,
    open_frames,
    prepare,
    rejected_table,
    scan_source,
)
from cemi_dask.frameset import EXTRA_COLUMNS, FRAME_COLUMNS, plane
from tests.frames.recordings import HEIGHT, WIDTH, row_frames, write_video

X = np.arange(0, 900, 75)


@pytest.fixture(params=["ffv1", "mjpeg", "h264"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two row videos in a folder, the second with two blank frames."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for row, blank in ((0, []), (1, [3, 7])):
        made = write_video(tmp_path, row_frames(X, blank=blank, seed=row), request.param)
        shutil.move(made, folder / f"row_{row}{made.suffix}")
    return folder


def test_lazy_pixels_equal_those_of_the_scan(rows: Path) -> None:
    frames = open_frames(rows, pixel_um=0.2)
    options = InputOptions(paths=(str(rows),))
    seen: list[np.ndarray] = []
    for source in prepare(find_sources(options), options):
        scan_source(source, sink=seen.append)
    assert frames.nominal == "row"
    assert frames.pixel_um == 0.2
    assert frames.data.shape == (len(seen), HEIGHT, WIDTH)
    assert frames.data.chunks[0] == (1,) * len(seen)
    assert frames.data.name.startswith("read-frames-")
    assert np.array_equal(frames.data.compute(scheduler="synchronous"), np.stack(seen))
    (block,) = dask.compute(frames.delayed()[5], scheduler="threads")
    assert np.array_equal(plane(block), seen[5])


def test_the_table_has_the_columns_of_the_contract(rows: Path) -> None:
    table = open_frames(rows).table
    assert list(table.columns) == [*FRAME_COLUMNS, *EXTRA_COLUMNS]
    assert table["frame"].tolist() == list(range(len(table)))
    assert sorted(set(table["row"])) == [0, 1]
    assert table["used"].all()
    assert table.groupby("row")["x_nominal_px"].first().tolist() == [0.0, 0.0]
    assert table["time_s"].to_numpy() == pytest.approx(table["source_index"] / 10)


def test_refused_frames_have_their_own_table(rows: Path) -> None:
    options = InputOptions(paths=(str(rows),))
    sources = prepare(find_sources(options), options)
    scans = [scan_source(source) for source in sources]
    table, _ = build_table(sources, scans)
    refused = rejected_table(sources, scans)
    assert refused["source_index"].tolist() == [3, 7]
    assert refused["row"].tolist() == [1, 1]
    assert set(refused["reason"]) == {"blank"}
    assert not refused["used"].any()
    assert not set(refused["source_index"]) & set(table[table["row"] == 1]["source_index"])


def test_videos_of_different_size_are_refused(tmp_path: Path) -> None:
    for name, cut in (("a", 0), ("b", 16)):
        frames = [f[: HEIGHT - cut] for f in row_frames(X[:3])]
        shutil.move(write_video(tmp_path, frames), tmp_path / f"{name}.avi")
    with pytest.raises(InputError) as caught:
        open_frames([tmp_path / "a.avi", tmp_path / "b.avi"])
    for part in ("a.avi", "b.avi", "384 x 240 px", "384 x 224 px"):
        assert part in str(caught.value)


def test_tiles_are_read_lazily(tmp_path: Path) -> None:
    pictures = row_frames(range(0, 20 * 300, 300))
    for number, picture in enumerate(pictures):
        imwrite(tmp_path / f"tile_{number}.tif", picture)
    frames = open_frames(tmp_path)
    assert frames.nominal == "grid"
    assert frames.table["col"].tolist() == list(range(20))
    assert np.array_equal(frames.data[17].compute(scheduler="synchronous"), pictures[17])
