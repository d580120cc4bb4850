"""`cemi inspect` tells what is in the files, and hides nothing that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from cemi_dask.cli import main
from cemi_dask.frames import InputOptions, SelectionOptions, read_metadata
from cemi_dask.frames.video import decode_video, index_video
from cemi_dask.pipeline.inspect import inspect_files
from cemi_dask.pipeline.inspect_facts import FewFrames, motion_facts
from cemi_dask.simulate import SimulateOptions, simulate_videos
from cemi_dask.simulate.recording import Recording
from tests.pipeline.conftest import Words
from tests.pipeline.pictures import WIDTH, blank, cut, row, texture, write_grid, write_video

FPS, SCAN_FRAMES, LOOKS, PITCH_PX = 10.0, 3.3, 16, 200.0
TORN = {
    "rows": 1,
    "frames_per_row": 5,
    "looks": LOOKS,
    "frame_shape": (256, 384),
    "pitch_x_px": PITCH_PX,
    "seed": 3,
    "noise_sigma": 20.0,
    "data_bar_px": 40,
    "fps": FPS,
    "recording": Recording(scan_frames=SCAN_FRAMES, still_start=5, pauses=1, pause_frames=16),
}


def facts(*paths: Path | str, **options: Any) -> dict[str, Any]:
    """The facts of an inspection in this process, as they come out of JSON."""
    given = InputOptions(paths=tuple(map(str, paths)), **options)
    found = inspect_files(given, SelectionOptions())
    return json.loads(json.dumps(found.as_json(None), allow_nan=False))  # type: ignore[no-any-return]


def printed(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> tuple[str, str]:
    """(standard output, standard error) of a command that must end with a status."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == status
    return capsys.readouterr()


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torn video with a data bar, five still frames, a pause, and its truth."""
    folder = tmp_path_factory.mktemp("torn")
    simulate_videos(folder, SimulateOptions(**TORN))
    return folder


@pytest.fixture(scope="module")
def told(torn: Path) -> dict[str, Any]:
    """What the inspection tells of that video."""
    (entry,) = facts(torn / "row_000.mkv", pixel_um=0.2)["files"]
    return dict(entry)


# ---------------------------------------------------------------- facts equal the truth


def test_the_file_is_told_as_it_is(torn: Path, told: dict[str, Any]) -> None:
    frames = len(pd.read_csv(torn / "truth.csv"))
    video = told["video"]
    assert (video["codec"], video["bits"], video["lossless"]) == ("ffv1", 8, True)
    assert video["bytes"] == (torn / "row_000.mkv").stat().st_size
    assert (video["recorded"], told["recorded"], told["lost"], told["damaged"]) == (
        frames, frames, 0, 0,
    )  # fmt: skip
    assert video["rate"] == "constant"
    assert video["fps"] == pytest.approx(FPS, rel=1e-3)
    assert video["duration_s"] == pytest.approx(frames / FPS, rel=1e-3)
    assert (told["recorded_px"], told["frame_px"]) == ([296, 384], [256, 384])
    assert told["crop"] == {"top": 0, "bottom": 40, "left": 0, "right": 0}
    assert told["pixel_um"] == 0.2


def test_the_scan_is_told_as_simulated(torn: Path, told: dict[str, Any]) -> None:
    scan, truth = told["scan"], pd.read_csv(torn / "truth.csv")
    assert scan["refresh_line"]
    # The refresh line is seen to a line or two in some 25 scans.
    assert scan["period_frames"] == pytest.approx(SCAN_FRAMES, rel=0.005)
    assert scan["period_s"] == pytest.approx(SCAN_FRAMES / FPS, rel=0.005)
    assert scan["lines_per_s"] == pytest.approx(256 * FPS / SCAN_FRAMES, rel=0.005)
    assert scan["line_from"] == "the speed of the refresh line"
    moving = truth.loc[truth["shear"].abs() > 0.01, "shear"].median()
    # Shear is known to 0.002 where speed and line time are.
    assert scan["shear_px_per_px"] == pytest.approx(moving, abs=0.003)


def test_the_motion_is_told_as_simulated(told: dict[str, Any]) -> None:
    motion = told["motion"]
    assert motion["direction"] == "to the right"
    # Jitter of the simulated stage between frames is some per cent of a step.
    assert motion["speed_px_s"] == pytest.approx(PITCH_PX / LOOKS * FPS, rel=0.03)
    assert not motion["reversals"]
    pauses = [p["duration_s"] for p in motion["pauses"] if p["start_s"] > 1]
    # To within a scan: places are known once per scan.
    assert pauses == [pytest.approx(1.6, abs=SCAN_FRAMES / FPS)]


def test_the_overlaps_are_those_of_the_true_positions(torn: Path, told: dict[str, Any]) -> None:
    taken = [number for number, _ in told["taken_frames"]]
    assert told["taken"] == len(taken) == told["overlap"]["pairs"] + 1
    assert sum(told["refused"].values()) <= told["recorded"] - len(taken)
    # Where a recorded frame shows two scans its truth is that of the lower one: the one taken.
    x = pd.read_csv(torn / "truth.csv").set_index("source_index")["x_px"].loc[taken].to_numpy()
    # 2 px: one frame is taken while the stage stops, so that no one place is its own.
    assert np.allclose(told["overlap"]["values"], 1 - np.diff(x) / 384, atol=0.005)
    assert 0.3 <= told["overlap"]["min"] <= told["overlap"]["median"] <= told["overlap"]["max"]
    assert told["overlap"]["max"] <= 0.6


def test_the_bar_of_a_truncated_avi_is_found_without_its_index(tmp_path: Path) -> None:
    """Seeking in such a file gives its first frame always, in which everything is at rest."""
    options = {"rows": 1, "frames_per_row": 3, "looks": 12, "frame_shape": (160, 256), "seed": 8}
    simulate_videos(
        tmp_path, SimulateOptions(**options, data_bar_px=40, codec="mjpeg", noise_sigma=5)
    )
    whole = facts(tmp_path / "row_000.avi")["files"][0]
    cut(tmp_path / "row_000.avi", 0.7)
    (entry,) = facts(tmp_path / "row_000.avi")["files"]
    assert entry["crop"] == whole["crop"] == {"top": 0, "bottom": 40, "left": 0, "right": 0}
    assert entry["recorded"] < whole["recorded"] == entry["video"]["announced"]
    assert entry["motion"]["speed_px_s"] == pytest.approx(whole["motion"]["speed_px_s"], rel=0.05)


def test_the_noise_is_that_of_the_pixels_to_5_per_cent(tmp_path: Path) -> None:
    """Against the difference of two videos that differ by their noise alone."""
    pictures = []
    for noise in (15.0, 0.0):
        folder = tmp_path / f"{noise:.0f}"
        plain = {"rows": 1, "frames_per_row": 3, "looks": 3, "frame_shape": (256, 384), "seed": 5}
        simulate_videos(folder, SimulateOptions(**plain, noise_sigma=noise))
        video = folder / "row_000.mkv"
        pictures.append([p.image for p in decode_video(video, index_video(video))])
    noisy, clean = (np.stack(p).astype(float) for p in pictures)
    (entry,) = facts(tmp_path / "15" / "row_000.mkv")["files"]
    assert entry["noise"]["sigma"] == pytest.approx((noisy - clean).std(), rel=0.05)
    assert entry["noise"]["mean"] == pytest.approx(noisy.mean(), rel=0.05)
    assert not entry["scan"]["refresh_line"]
    assert entry["scan"]["period_s"] is None


def test_pauses_and_turns_of_any_motion() -> None:
    """Steps of 10 px each 0.1 s; a stop of 1 s at 2 s, back from 4 s to 5 s, then on."""
    speed = np.concatenate(
        [np.full(20, 1), np.zeros(10), np.full(10, 1), -np.ones(10), np.ones(10)]
    )
    x = 10 * np.concatenate(([0], np.cumsum(speed))) + np.random.default_rng(1).normal(0, 0.3, 61)
    trace = [[0.1 * n, n, x[n], 0.0] for n in range(61)]
    found = motion_facts({"motion": trace, "velocity_px_s": (0.0, 0.0), "shape": [200, 300]})
    assert found["speed_px_s"] == pytest.approx(100, rel=0.05)
    ((start, lasting),) = [(p["start_s"], p["duration_s"]) for p in found["pauses"]]
    assert (start, lasting) == (pytest.approx(2.0, abs=0.1), pytest.approx(1.0, abs=0.1))
    assert found["reversals"] == [pytest.approx(4.0, abs=0.15), pytest.approx(5.0, abs=0.15)]


def test_a_few_frames_spread_over_any_number_are_looked_at() -> None:
    few = FewFrames()
    for n in range(1000):
        few(np.full((16, 16), n, np.uint16))
    means = [look["mean"] for look in few.result()]
    assert len(few.kept) <= 16
    assert len(means) == 8
    assert means[0] == 0
    assert means[-1] > 800
    assert max(np.diff(means)) < 250


# ---------------------------------------------------------------- tiles


def test_tiles_are_told_with_layout_and_true_overlaps(tmp_path: Path) -> None:
    specimen = texture(7)
    noise = np.random.default_rng(2).normal(0, 6, specimen.shape)
    noisy = np.clip(np.rint(specimen + noise), 0, 255).astype(np.uint8)
    (entry,) = facts(write_grid(tmp_path / "tiles", noisy))["files"]
    assert (entry["kind"], entry["recorded"], entry["taken"]) == ("tiles", 6, 6)
    layout = entry["layout"]
    assert (layout["kind"], layout["rows"], layout["cols"], layout["holes"]) == ("grid", 2, 3, 0)
    # Steps of 100 of 160 px and 60 of 96 px; matched to about a pixel.
    for axis in ("x", "y"):
        assert entry["overlap"][axis]["measured"] == entry["overlap"][axis]["pairs"] > 0
        assert entry["overlap"][axis]["min"] == pytest.approx(0.375, abs=0.02)
        assert entry["overlap"][axis]["max"] == pytest.approx(0.375, abs=0.02)
    assert entry["noise"]["sigma"] == pytest.approx(6, rel=0.05)


def test_a_tile_that_cannot_be_read_or_does_not_fit_is_named_and_the_rest_told(
    tmp_path: Path,
) -> None:
    folder = write_grid(tmp_path / "tiles", texture(7), rows=3)
    cut(folder / "tile_r0_c1.tif", 0.5)
    tifffile.imwrite(folder / "tile_r1_c1.tif", np.zeros((96, 160), np.uint16))
    found = facts(folder)
    names = {Path(e["path"]).name for e in found["files"] if e["error"]}
    names |= {Path(f).name for e in found["files"] for f, _ in e.get("lost_files", [])}
    assert names == {"tile_r0_c1.tif", "tile_r1_c1.tif"}
    (entry,) = (e for e in found["files"] if "layout" in e)
    assert (entry["taken"], entry["layout"]["holes"]) == (7, 2)
    assert len(found["run"]["refused"]) == 2
    assert "uint16" in " ".join(found["run"]["refused"])


def test_tiles_of_which_none_can_be_used_are_refused(tmp_path: Path) -> None:
    for n in range(3):
        tifffile.imwrite(tmp_path / f"tile_{n}.tif", blank())
    found = facts(tmp_path)
    assert found["files"][0]["refused"] == {"blank": 3}
    assert found["run"]["frames"] == 0
    assert "None of the 3 pictures can be used (3 blank)" in found["run"]["refused"][0]


# ---------------------------------------------------------------- the command


def test_the_command_writes_one_figure_and_says_what_it_found(
    torn: Path, tmp_path: Path, done: Words
) -> None:
    out = tmp_path / "deep" / "what.png"
    told = done("inspect", torn / "row_000.mkv", "--out", out)
    for words in ("ffv1, lossless", "cut off 40 px bottom", "refresh line", "cemi run would take"):
        assert words in " ".join(told.split())
    picture = cv2.imread(str(out), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[1] >= 1600
    assert 300 <= picture.shape[0] <= 700
    # Something is drawn in the left, the middle and the right third.
    assert all(part.std() > 5 for part in np.array_split(picture, 3, axis=1))


def test_json_is_the_only_output_and_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_grid(tmp_path / "tiles", texture(7))
    out = tmp_path / "what.png"
    text, _ = printed(capsys, 0, "inspect", folder, "--json", "--out", out, "--crop", "8,0,0,0")
    found = json.loads(text)
    assert found["png"] == str(out)
    assert found["files"][0]["crop"]["top"] == 8
    assert found["run"] == {
        **found["run"], "frames": 6, "recorded": 6, "rows": 2, "refused": [],
        "overlap_min": 0.3, "overlap_max": 0.6, "pixel_um": None,
    }  # fmt: skip


def test_an_unreadable_file_among_several_has_a_row_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_video(tmp_path / "row_0.mkv", row(texture(3), 12))
    short = cut(write_video(tmp_path / "row_1.avi", row(texture(3), 12), "mjpeg"), 0.6)
    empty, text = tmp_path / "row_2.avi", tmp_path / "row_3.avi"
    empty.touch()
    text.write_text("not a video")
    nothing = write_video(tmp_path / "row_4.mkv", [blank()] * 5)
    files = [good, short, empty, text, nothing, tmp_path / "absent.avi", tmp_path / "a.xyz"]
    out = tmp_path / "what.png"
    told, error = printed(capsys, 1, "inspect", *files, "--json", "--out", out)
    found = {entry["name"]: entry for entry in json.loads(told)["files"]}
    assert set(found) == {file.name for file in files}
    assert found["row_0.mkv"]["taken"] >= 5
    assert not found["row_0.mkv"]["error"]
    assert 0 < found["row_1.avi"]["recorded"] < 12
    assert "12 frames" in " ".join(found["row_1.avi"]["video"]["problems"])
    assert "empty" in found["row_2.avi"]["error"]
    assert "text file" in found["row_3.avi"]["error"]
    assert "no usable frame" in found["row_4.mkv"]["error"]
    assert found["row_4.mkv"]["video"]["codec"] == "ffv1"
    assert "does not exist" in found["absent.avi"]["error"]
    assert "A run would refuse" in error
    assert "Traceback" not in error
    assert cv2.imread(str(out)).shape[1] >= 1600


def test_many_files_are_compared_in_one_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(8):
        write_video(tmp_path / f"row_{n}.mkv", row(texture(n), 8))
    out = tmp_path / "what.png"
    told, _ = printed(capsys, 0, "inspect", tmp_path, "--out", out)
    assert all(f"row_{n}.mkv" in told for n in range(8))
    # Six rows of panels of 3 in each, and the summary, at 120 px an inch.
    assert 6 * 360 < cv2.imread(str(out)).shape[0] < 9 * 360


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["absent.avi"], 1, "does not exist"),
        (["."], 1, "No videos or pictures found"),
        ([".", "--out", "what.pdf"], 2, "must end in .png"),
        ([".", "--overlap", "0.6"], 2, "not two numbers such as 0.3,0.6"),
        ([".", "--overlap", "0.6,0.3"], 2, "overlap_min (0.6) must be smaller"),
        ([".", "--crop", "1,2"], 2, "four numbers top,bottom,left,right"),
    ],
)
def test_what_cannot_be_inspected_is_one_error(
    arguments: list[str],
    status: int,
    words: str,
    refused: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(status, "inspect", *arguments)


def test_videos_that_do_not_go_together_are_told_each_and_refused_together(tmp_path: Path) -> None:
    wide = row(texture(1), 8)
    write_video(tmp_path / "row_0.mkv", wide)
    write_video(tmp_path / "row_1.mkv", [np.ascontiguousarray(f[:64]) for f in wide])
    found = facts(tmp_path)
    assert [e["frame_px"] for e in found["files"]] == [[96, WIDTH], [64, WIDTH]]
    assert all(e["taken"] for e in found["files"])
    assert "one size and grey type" in found["run"]["refused"][0]


@pytest.mark.real
def test_a_real_micrograph_is_told_with_its_metadata(real_data: Path) -> None:
    file = real_data / "lamellar_ti64_sem_nist" / "sem_alpha_beta_ti_6al_4v.tif"
    (entry,) = facts(file)["files"]
    assert entry["pixel_um"] == read_metadata(file).pixel_um == pytest.approx(0.1116, rel=1e-3)
    assert entry["metadata"]["accelerating_kv"] == 25
    assert entry["layout"]["kind"] == "none"


@pytest.mark.real
def test_a_real_grid_is_told_with_its_overlaps(real_data: Path) -> None:
    (entry,) = facts(real_data / "stitch_bse_grid_2x3")["files"]
    assert (entry["layout"]["rows"], entry["layout"]["cols"]) == (3, 2)
    # Measured from the stitched positions: 26 % along x, 10.5 % along y.
    assert entry["overlap"]["x"]["median"] == pytest.approx(0.26, abs=0.02)
    assert entry["overlap"]["y"]["median"] == pytest.approx(0.105, abs=0.02)
