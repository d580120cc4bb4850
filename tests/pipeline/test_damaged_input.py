"""Videos with destroyed packets, through the command line: good frames used, losses recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from cemi_dask.cli import main
from tests.pipeline.pictures import blank, cut, row, texture, write_grid, write_video

COUNT, STEP, ROW_Y = 34, 30, 60
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, scheduler: str) -> Run:
    """`cemi run` on the folder in/ of the test into tmp_path/run, up to the positions."""

    def command(until: str = "solve") -> int:
        config = {
            "input": {"paths": [str(tmp_path / "in")], "pixel_um": 0.2},
            "segment": None,
            "analyse": None,
        }
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(config))
        options = ["--out", str(tmp_path / "run"), "--until", until, "--cluster", scheduler]
        return main(["run", str(file), *options])

    return command


def rows(folder: Path, codec: str, suffix: str) -> tuple[Path, Path]:
    """Two videos of one specimen, 60 px below each other."""
    a, b = (folder / "in" / f"{name}.{suffix}" for name in "ab")
    write_video(a, row(texture(1), COUNT, step=STEP), codec)
    write_video(b, row(texture(1), COUNT, step=STEP, y=ROW_Y), codec)
    return a, b


def destroy_packets(path: Path, *, share: float, seed: int) -> set[int]:
    """Overwrites most of the payload of randomly chosen packets; returns their numbers."""
    data, places, at = bytearray(path.read_bytes()), [], 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                payload = bytes(packet)
                at = data.index(payload[:64], at)  # containers differ in what `pos` means
                places.append((at, len(payload)))
                at += 1
    random = np.random.default_rng(seed)
    hit = random.choice(len(places), round(share * len(places)), replace=False)
    for number in hit:
        start, size = places[number]
        rest = random.integers(0, 256, size - size // 3, dtype=np.uint8).tobytes()
        data[start + size // 3 : start + size] = rest
    path.write_bytes(data)
    return set(hit.tolist())


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "run" / "tables" / f"{name}.csv")


def warnings_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "run" / "run.json").read_text())["warnings"])


def place_error_px(folder: Path) -> float:
    """Largest error of a solved position, px, less one common translation."""
    found = table(folder, "positions")
    error_x = found["x_px"] - STEP * found["source_index"]
    error_y = found["y_px"] - ROW_Y * found["row"]
    return float(max(np.abs(e - e.median()).max() for e in (error_x, error_y)))


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("ffv1", "mkv"), ("mjpeg", "avi"), ("mpeg4", "mp4"), ("libx264", "mp4"), ("wmv2", "wmv")],
)
def test_a_fifth_of_the_packets_destroyed_is_recorded_and_the_rest_used(
    codec: str, suffix: str, tmp_path: Path, run: Run
) -> None:
    _, b = rows(tmp_path, codec, suffix)
    hit = destroy_packets(b, share=0.2, seed=3)
    assert run() == 0
    frames = table(tmp_path, "frames")
    lost = frames[frames["reason"].isin(["damaged", "lost"])]
    if codec in ("ffv1", "wmv2"):  # frames refer to others; WMV's blocks hold parts of several
        assert hit <= set(lost["source_index"])
        assert len(lost) < 0.7 * COUNT
    else:
        assert set(lost["source_index"]) == hit
    assert set(lost["row"]) == {1}
    assert not lost["used"].any()
    taken = frames[frames["used"]]
    assert not set(taken[taken["row"] == 1]["source_index"]) & hit
    told = [text for text in warnings_of(tmp_path) if text.startswith(f"b.{suffix}")]
    assert any(re.search(r"\d+ of 34 recorded frames are (damaged|lost)", w) for w in told), told
    # noise-free; a codec's blocks move an edge by some hundredths of a pixel
    assert place_error_px(tmp_path) < 0.5


@pytest.mark.parametrize(("codec", "suffix"), [("wmv2", "wmv"), ("ffv1", "avi")])
def test_a_video_cut_within_a_frame_is_used_up_to_it_and_says_so(
    codec: str, suffix: str, tmp_path: Path, run: Run
) -> None:
    _, b = rows(tmp_path, codec, suffix)
    cut(b, 0.613)
    assert run() == 0
    frames = table(tmp_path, "frames")
    second = frames[frames["row"] == 1]
    last = second[second["used"]]["source_index"].max()
    assert 0.45 * COUNT < last < 0.65 * COUNT
    assert any(text.startswith(f"b.{suffix}") for text in warnings_of(tmp_path))
    assert place_error_px(tmp_path) < 0.5


def test_a_row_that_shows_nothing_is_refused_by_name(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(tmp_path, "ffv1", "mkv")
    write_video(tmp_path / "in" / "c.mkv", [blank()] * COUNT)
    assert run() == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(r"c\.mkv holds no usable frame \(34 recorded: .*blank.*Leave it out", error)


def test_a_truncated_tile_is_named_among_good_ones(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_grid(tmp_path / "in", texture(1), rows=3)
    cut(folder / "tile_r1_c1.tif", 0.5)
    assert run() == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(r"tile_r1_c1\.tif cannot be read as a picture.*leave it out", error)
