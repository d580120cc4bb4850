"""Input that is missing, broken or does not fit: used as far as it goes, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from cemi_dask import open_mosaic
from cemi_dask.cli import main
from tests.pipeline.pictures import (
    HEIGHT,
    WIDTH,
    blank,
    cut,
    row,
    texture,
    write_grid,
    write_video,
)

Stitch = Callable[..., int]


@pytest.fixture
def stitch(tmp_path: Path, scheduler: str) -> Stitch:
    """`cemi stitch` on a folder of the test into tmp_path/run, up to the mosaic."""

    def command(folder: Path, *options: str) -> int:
        out = str(tmp_path / "run")
        return main(["stitch", str(folder), "--out", out, "--cluster", scheduler, *options])

    return command


@pytest.fixture
def run(tmp_path: Path, scheduler: str) -> Stitch:
    """`cemi run` on a folder of the test into tmp_path/run, without any analysis."""

    def command(folder: Path, *, until: str = "solve", **changes: Any) -> int:
        config = {
            "input": {"paths": [str(folder)], "pixel_um": 0.2},
            "segment": None,
            "analyse": None,
            **changes,
        }
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps(config))
        options = ["--out", str(tmp_path / "run"), "--until", until, "--cluster", scheduler]
        return main(["run", str(file), *options])

    return command


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "run" / "tables" / f"{name}.csv")


def run_json(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run" / "run.json").read_text()))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed as the error: one paragraph without a traceback."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("cemi:")]) == 1, error
    return error


# ---------------------------------------------------------------- files that cannot be read


def make(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.mkv", b"", r"empty\.mkv cannot be read as a video: it is empty.*leave it out"),
        ("text.avi", b"hello\n", r"text\.avi .*text file .*'hello.*leave it out"),
        ("text.tif", b"hello\n", r"text\.tif cannot be read as a picture.*text file"),
        ("empty.png", b"", r"empty\.png cannot be read as a picture: it is empty"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_named(
    name: str, data: bytes, message: str, tmp_path: Path, run: Stitch, capsys: Any
) -> None:
    assert run(make(tmp_path / "in" / name, data)) == 1
    assert re.search(message, said(capsys), re.DOTALL)
    assert not (tmp_path / "run").exists()  # refused before anything was begun


def test_a_path_that_is_missing_empty_or_of_another_kind_is_named(
    tmp_path: Path, run: Stitch, capsys: Any
) -> None:
    assert run(tmp_path / "gone.mkv") == 1
    assert re.search(r"gone\.mkv does not exist\. Check input\.paths", said(capsys))
    (tmp_path / "nothing").mkdir()
    assert run(tmp_path / "nothing") == 1
    assert re.search(r"No videos or pictures found at .*nothing", said(capsys))
    assert run(make(tmp_path / "notes.txt", b"x")) == 2
    assert re.search(r"notes\.txt has the suffix '\.txt'.*Known suffixes", said(capsys))


def test_an_mp4_without_its_index_is_told_so(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    video = write_video(tmp_path / "in" / "a.mp4", row(texture(1), 12), "mpeg4")
    data = video.read_bytes()
    start = data.index(b"moov") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    video.write_bytes(data[:start] + data[start + size :])
    assert run(video) == 1
    assert re.search(r"a\.mp4 cannot be read.*cut short: its index", said(capsys))


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "ffv1"), ("avi", "mjpeg"), ("mp4", "mpeg4")])
def test_good_frames_of_a_truncated_video_are_used_and_the_loss_recorded(
    suffix: str, codec: str, tmp_path: Path, run: Stitch
) -> None:
    specimen = texture(1)
    write_video(tmp_path / "in" / f"a.{suffix}", row(specimen, 16), codec)
    cut(write_video(tmp_path / "in" / f"b.{suffix}", row(specimen, 16, y=60), codec), 0.6)
    assert run(tmp_path / "in") == 0
    warnings = [text for text in run_json(tmp_path)["warnings"] if text.startswith(f"b.{suffix}")]
    assert any("announces" in text or "lost" in text for text in warnings), warnings
    positions = table(tmp_path, "positions")
    cut_row = positions[positions["row"] == 1]
    # 60 % of 16 frames; the last one taken cannot lie beyond them, nor far before
    assert 6 <= cut_row["source_index"].max() <= 10
    assert len(cut_row) >= 3
    true_x = 30.0 * positions["source_index"] + 0.0
    true_y = 60.0 * positions["row"]
    # lossless or nearly so, without noise: the registration's own precision
    assert np.ptp(positions["x_px"] - true_x) < 0.5
    assert np.ptp(positions["y_px"] - true_y) < 0.5


# ---------------------------------------------------------------- files that do not fit together


def test_videos_of_mixed_size_are_both_named(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    write_video(tmp_path / "in" / "a.mkv", row(texture(1), 4))
    write_video(tmp_path / "in" / "b.mkv", [f[:80] for f in row(texture(1), 4)])
    assert run(tmp_path / "in") == 1
    assert re.search(r"a\.mkv is 160 x 96 px uint8 and .*b\.mkv is 160 x 80 px", said(capsys))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (texture(1)[:HEIGHT, : WIDTH - 1], "159 x 96 px uint8"),
        (texture(1)[:HEIGHT, :WIDTH].astype(np.uint16), "160 x 96 px uint16"),
    ],
    ids=["size", "grey type"],
)
def test_tiles_of_mixed_kind_are_both_named(
    other: np.ndarray, told: str, tmp_path: Path, run: Stitch, capsys: Any
) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    tifffile.imwrite(folder / "tile_r1_c1.tif", other)
    assert run(folder) == 1
    error = said(capsys)
    assert "tile_r0_c0.tif is 160 x 96 px uint8" in error
    assert f"tile_r1_c1.tif is {told}" in error


def test_a_stack_of_pictures_is_no_tile(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    tile = tifffile.imread(folder / "tile_r0_c0.tif")
    tifffile.imwrite(folder / "tile_r0_c1.tif", np.stack([tile, tile]), photometric="minisblack")
    assert run(folder) == 1
    assert re.search(r"tile_r0_c1\.tif holds an array of shape \(2, 96, 160\)", said(capsys))


# ---------------------------------------------------------------- frames that do not overlap


def unrelated(folder: Path, names: str) -> Path:
    folder.mkdir()
    for k in range(3):
        picture = texture(10 + k)[:HEIGHT, :WIDTH]
        tifffile.imwrite(folder / names.format(k="abc"[k], c=k), picture)
    return folder


def test_unrelated_pictures_are_islands_named_by_file(
    tmp_path: Path, run: Stitch, capsys: Any
) -> None:
    assert run(unrelated(tmp_path / "in", "pic{k}.tif")) == 1
    error = said(capsys)
    assert "3 frames form 3 islands" in error
    assert "1 frame from picb.tif on; 1 frame from picc.tif on" in error
    assert "Give stage positions" in error
    assert run_json(tmp_path)["state"] == "failed"


def test_a_grid_that_nothing_links_is_refused(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    assert run(unrelated(tmp_path / "in", "tile_r0_c{c}.tif")) == 1
    assert re.search(
        r"None of the 2 pairs .*tile_r0_c0\.tif and tile_r0_c1\.tif.*positions", said(capsys)
    )


def test_stage_positions_place_what_does_not_overlap_and_a_warning_says_so(
    tmp_path: Path, run: Stitch
) -> None:
    folder = unrelated(tmp_path / "in", "tile_r0_c{c}.tif")
    place = {"file": [f"tile_r0_c{c}.tif" for c in range(3)], "x_px": [0, 130, 260], "y_px": 0}
    pd.DataFrame(place).to_csv(tmp_path / "stage.csv", index=False)
    tiles = {"positions": str(tmp_path / "stage.csv")}
    paths = {"paths": [str(folder)], "pixel_um": 0.2, "tiles": tiles}
    assert run(folder, input=paths) == 0
    assert table(tmp_path, "positions")["x_px"].tolist() == pytest.approx([0, 130, 260])
    (warning,) = run_json(tmp_path)["warnings"]
    assert re.search("3 islands .*expected positions.*tile_r0_c1.tif on; .*tile_r0_c2", warning)


def test_rows_without_a_common_part_are_refused(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    write_video(tmp_path / "in" / "a.mkv", row(texture(1), 10))
    write_video(tmp_path / "in" / "b.mkv", row(texture(2), 10))
    assert run(tmp_path / "in") == 1
    error = said(capsys)
    assert re.search(r"2 islands.*frames from b\.mkv frame 0 on", error)
    assert "Row 1 shows nothing in common with row 0." in run_json(tmp_path)["warnings"]


def test_a_video_that_jumps_is_placed_with_a_warning(tmp_path: Path, run: Stitch) -> None:
    specimen, elsewhere = texture(1), texture(2)
    write_video(tmp_path / "in" / "a.mkv", row(specimen, 10) + row(elsewhere, 10))
    assert run(tmp_path / "in") == 0
    positions = table(tmp_path, "positions")
    after = positions["source_index"] >= 10
    assert positions["component"][~after].nunique() == positions["component"][after].nunique() == 1
    assert positions["component"].nunique() == 2
    warnings = " ".join(run_json(tmp_path)["warnings"])
    assert re.search(r"2 islands .*from a\.mkv frame 1\d on", warnings)


# ---------------------------------------------------------------- nothing to see


def test_a_video_of_blank_frames_is_refused(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    assert run(write_video(tmp_path / "in" / "a.mkv", [blank()] * 8)) == 1
    error = said(capsys)
    assert re.search(r"a\.mkv holds no usable frame \(8 recorded: 1 blank, 7 duplicate\)", error)
    assert "Leave it out, or lower frames.blank_correlation" in error


@pytest.mark.parametrize("what", ["noise", "pictures"])
def test_a_video_of_frames_that_share_nothing_is_refused(
    what: str, tmp_path: Path, run: Stitch, capsys: Any
) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8) for _ in range(8)]
    if what == "pictures":
        frames = [texture(k)[:HEIGHT, :WIDTH] for k in range(8)]
    assert run(write_video(tmp_path / "in" / "a.mkv", frames)) == 1
    assert re.search(
        r"a\.mkv( holds no usable frame|: no two of its 8 recorded frames share)", said(capsys)
    )


def test_blank_tiles_alone_are_refused(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    assert run(write_grid(tmp_path / "in", np.full((320, 1200), 80, np.uint8))) == 1
    assert re.search(r"None of the 6 pictures can be used \(6 blank\)", said(capsys))


def test_rejected_frames_are_listed_with_their_reasons(tmp_path: Path, run: Stitch) -> None:
    frames = row(texture(1), 16)
    frames[5] = blank()
    frames[9] = blank(255)
    write_video(tmp_path / "in" / "a.mkv", frames)
    assert run(tmp_path / "in", until="frames") == 0
    listed = table(tmp_path, "frames")
    refused = listed[~listed["used"]].set_index("source_index")
    assert set(refused.index) == {5, 9}
    assert refused["reason"].notna().all()
    assert refused.loc[5, "reason"] == "blank"
    assert (refused["frame"] == -1).all()
    assert run_json(tmp_path)["frames"]["rejected"] == 2


def test_a_standing_picture_gives_one_frame_and_a_warning(tmp_path: Path, run: Stitch) -> None:
    write_video(tmp_path / "in" / "a.mkv", [row(texture(1), 1)[0]] * 8)
    assert run(tmp_path / "in", until="frames") == 0
    listed = table(tmp_path, "frames")
    assert listed["used"].sum() == 1
    assert listed["reason"].tolist()[1:] == ["duplicate"] * 7
    assert any("does not move in 8 recorded" in text for text in run_json(tmp_path)["warnings"])


# ---------------------------------------------------------------- small and odd, but good


@pytest.mark.parametrize(("count", "step", "taken"), [(1, 0, 1), (2, 80, 2)])
def test_a_row_of_one_or_two_frames_is_a_mosaic(
    count: int, step: int, taken: int, tmp_path: Path, run: Stitch
) -> None:
    write_video(tmp_path / "in" / "a.mkv", row(texture(1), count, step=step))
    assert run(tmp_path / "in", until="pyramid") == 0
    assert len(table(tmp_path, "positions")) == taken
    mosaic = open_mosaic(tmp_path / "run" / "mosaic.ome.zarr")
    # the second frame may lie some 0.01 px off, and touch one more row or column
    true = np.array([HEIGHT, WIDTH + step * (count - 1)])
    assert np.all(np.abs(np.subtract(mosaic.shape, true)) <= count - 1)
    apart = np.asarray(mosaic.levels[0])[8:80, 8:70].astype(int) - texture(1)[8:80, 8:70]
    assert np.abs(apart).max() <= 2


def test_16_bit_tiles_stay_16_bit(tmp_path: Path, run: Stitch) -> None:
    specimen = texture(1).astype(np.uint16) * 200
    assert run(write_grid(tmp_path / "in", specimen), until="pyramid") == 0
    levels = np.asarray(open_mosaic(tmp_path / "run" / "mosaic.ome.zarr").levels[0])
    assert levels.dtype == np.uint16
    inner = np.abs(levels[5:150, 5:350].astype(int) - specimen[5:150, 5:350]).max()
    assert inner <= 0.01 * 65535  # subpixel positions of 0.01 px on slopes of some % a px


def test_float_tiles_work_and_nan_is_refused(tmp_path: Path, run: Stitch, capsys: Any) -> None:
    specimen = texture(1).astype(np.float32) / 255
    folder = write_grid(tmp_path / "in", specimen)
    assert run(folder, until="blend") == 0
    assert open_mosaic(tmp_path / "run" / "mosaic.ome.zarr").levels[0].dtype == np.float32
    tile = tifffile.imread(folder / "tile_r1_c2.tif")
    tile[3, 4:9] = np.nan
    tifffile.imwrite(folder / "tile_r1_c2.tif", tile)
    capsys.readouterr()
    assert run(folder) == 1
    assert re.search(r"tile_r1_c2\.tif holds 5 pixels that are NaN.*leave the file", said(capsys))


def test_colour_jpegs_become_grey(tmp_path: Path, run: Stitch) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    for tile in sorted(folder.glob("*.tif")):
        grey = tifffile.imread(tile)
        cv2.imwrite(str(tile.with_suffix(".jpg")), cv2.merge([grey, grey, grey]))
        tile.unlink()
    assert run(folder, until="blend") == 0
    mosaic = np.asarray(open_mosaic(tmp_path / "run" / "mosaic.ome.zarr").levels[0]).astype(int)
    apart = np.abs(mosaic[8:150, 8:350] - texture(1)[8:150, 8:350])
    assert np.median(apart) <= 3  # JPEG of quality 95


# ---------------------------------------------------------------- where tiles lie


def test_a_grid_with_holes_is_stitched(tmp_path: Path, run: Stitch) -> None:
    folder = write_grid(tmp_path / "in", texture(1), rows=3)
    (folder / "tile_r1_c1.tif").unlink()
    (folder / "tile_r0_c2.tif").unlink()
    assert run(folder) == 0
    found = table(tmp_path, "positions")
    place = found["file"].str.extract(r"r(\d)_c(\d)").astype(float)
    assert np.ptp(found["x_px"] - 100 * place[1]) < 0.1
    assert np.ptp(found["y_px"] - 60 * place[0]) < 0.1


def test_a_pattern_gives_rows_and_columns(tmp_path: Path, stitch: Stitch, capsys: Any) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    assert stitch(folder, "--pattern", "tile_{row}_{col}.tif") == 1
    assert re.search(r"tile_r0_c0\.tif does not fit tiles\.pattern", said(capsys))
    assert stitch(folder, "--pattern", "tile.tif") == 2
    assert re.search(r"'tile\.tif' holds neither \{row\} nor \{col\}", said(capsys))


COMPLETE = "file,x_px,y_px\n" + "".join(
    f"tile_r{r}_c{c}.tif,{100 * c},{60 * r}\n" for r in range(2) for c in range(3)
)


@pytest.mark.parametrize(
    ("csv", "status", "message"),
    [
        (None, 1, r"stage\.csv cannot be read as a table.*No such file"),
        ("", 1, r"stage\.csv cannot be read as a table of stage positions"),
        (COMPLETE.replace("y_px", "z_px"), 1, r"stage\.csv has no column for y among"),
        (COMPLETE.replace("tile_r1_c2.tif,200,60\n", ""), 1, r"no position for 1 of 6.*r1_c2"),
        (COMPLETE.replace("x_px,y_px", "x,y"), 2, r"states no unit\. Set tiles\.position_unit"),
        (COMPLETE.replace("x_px,y_px", "x_um,y_um"), 2, r"in um, and no pixel size.*pixel_um"),
        (COMPLETE.replace("200,60", "far,60"), 1, r"stage\.csv, line 7: x_px is 'far'"),
    ],
    ids=["missing", "empty", "column", "tile", "unit", "pixel size", "number"],
)
def test_stage_positions_that_do_not_fit_are_refused_by_name(
    csv: str | None, status: int, message: str, tmp_path: Path, stitch: Stitch, capsys: Any
) -> None:
    folder = write_grid(tmp_path / "in", texture(1))
    if csv is not None:
        (tmp_path / "stage.csv").write_text(csv)
    assert stitch(folder, "--positions", str(tmp_path / "stage.csv")) == status
    assert re.search(message, said(capsys))
