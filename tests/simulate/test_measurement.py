"""Simulated measurements on disk: what the files show is what the truth says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import tifffile

from cemi_dask.compute import Items, compute_items
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.simulate import (
    GradientFilm,
    Microscope,
    SimulateOptions,
    Specimen,
    compare_positions,
    gradient_film_options,
    simulate_tiles,
    simulate_videos,
)
from cemi_dask.simulate.video import write_video

SMALL = SimulateOptions(
    rows=2,
    frames_per_row=4,
    looks=2,
    frame_shape=(120, 160),
    noise_sigma=0.0,
    cell_px=(80, 100),
    specimen=Specimen(colony_px=60.0),
    microscope=Microscope(vignetting=0.0, row_start_px=10.0, row_pitch_px=4.0),
)


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_every_frame_of_a_video_shows_the_specimen_at_its_true_corner(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path, SMALL.model_copy(update={"serpentine": True}))
    truth = pd.read_csv(made.truth_csv)
    assert list(truth.columns[:5]) == ["file", "source_index", "row", "x_px", "y_px"]
    assert len(truth) == 2 * 7
    for path in made.files:
        rows = truth[truth["file"] == path.name]
        for grey, row in zip(decode(path), rows.itertuples(), strict=True):
            clean = made.options.specimen.image(row.y_px, row.x_px, (120, 160), psf_sigma_px=0.6)
            # Half a grey level of rounding, and the corner's nine digits in the table.
            assert np.abs(grey - np.clip(clean * row.gain, 0, 255)).max() < 0.51


def test_tiles_show_the_specimen_at_their_true_corners(tmp_path: Path) -> None:
    made = simulate_tiles(tmp_path, SMALL)
    truth, stage = made.table("truth"), pd.read_csv(made.positions_csv)
    assert [p.name for p in made.files] == list(truth["file"]) == list(stage["file"])
    assert "tile_r001_c003.tif" in set(truth["file"])
    assert list(stage.columns) == ["file", "x_um", "y_um"]
    missed = truth["x_px"] - stage["x_um"] / made.options.specimen.pixel_um
    assert 0 < missed.abs().max() <= SMALL.microscope.stage_x_px
    for path, row in zip(made.files, truth.itertuples(), strict=True):
        clean = made.options.specimen.image(row.y_px, row.x_px, (120, 160), psf_sigma_px=0.6)
        assert np.abs(tifffile.imread(path) - clean * row.gain).max() < 0.51


def test_the_same_options_give_the_same_bytes_and_rows_do_not_depend_on_each_other(
    tmp_path: Path,
) -> None:
    noisy = SMALL.model_copy(update={"noise_sigma": 25.0, "rows": 3})

    def backwards(items: Items, /) -> dict[str, Any]:
        return {name: item.compute() for name, item in reversed(items.items())}

    simulate_videos(tmp_path / "a", noisy)
    simulate_videos(tmp_path / "b", noisy, compute=backwards)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
    simulate_videos(tmp_path / "c", noisy.model_copy(update={"seed": 1}))
    assert folder_bytes(tmp_path / "a") != folder_bytes(tmp_path / "c")


def test_items_have_stable_names_and_small_json_results(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def recording(items: Items, /) -> dict[str, Any]:
        seen.update(compute_items(items))
        return dict(seen)

    simulate_videos(tmp_path, SMALL, compute=recording)
    assert [n for n in seen if n.startswith("simulate-row/")] == [
        "simulate-row/000",
        "simulate-row/001",
    ]
    assert len(json.dumps(seen)) < 20_000


@pytest.mark.parametrize(
    ("codec", "suffix", "error"),
    [("ffv1", ".mkv", 0.0), ("mjpeg", ".avi", 4.0), ("h264", ".mp4", 4.0), ("mpeg4", ".mp4", 4.0)],
)
def test_each_codec_keeps_every_frame(
    tmp_path: Path, codec: Any, suffix: str, error: float
) -> None:
    options = SMALL.model_copy(update={"codec": codec, "noise_sigma": 25.0, "rows": 1})
    lossless = decode(
        simulate_videos(tmp_path / "lossless", options.model_copy(update={"codec": "ffv1"})).files[
            0
        ]
    )
    made = simulate_videos(tmp_path / codec, options)
    frames = decode(made.files[0])
    assert made.files[0].suffix == suffix
    assert len(frames) == len(lossless) == 7
    for grey, original in zip(frames, lossless, strict=True):
        difference = grey.astype(float) - original
        # At their highest qualities the codecs lose far less than the noise of 25.
        assert difference.std() <= error
        assert abs(difference.mean()) < 0.5


def test_odd_sizes_are_refused_where_the_codec_cannot_hold_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="even height and width, not 121 x 160"):
        write_video(tmp_path / "a.avi", [np.zeros((121, 160), np.uint8)], codec="mjpeg", fps=10)


def test_blank_frames_have_no_texture_and_are_marked(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path, SMALL.model_copy(update={"blank_fraction": 0.3}))
    truth = made.table("truth")
    assert truth.groupby("row")["blank"].sum().tolist() == [2, 2]
    flat = [float(np.std(g)) == 0 for path in made.files for g in decode(path)]
    assert flat == truth["blank"].tolist()


def test_truth_of_cells_and_profile_is_that_of_the_specimen(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path, SMALL)
    cells, profile = made.table("truth_cells"), made.table("truth_profile")
    (y0, x0), um = made.origin_px, made.options.specimen.pixel_um
    truth = made.table("truth")
    assert (y0, x0) == pytest.approx((truth["y_px"].min(), truth["x_px"].min()), abs=1e-6)
    cell = cells[(cells["row"] == 1) & (cells["col"] == 2)].iloc[0]
    window = made.options.specimen.truth_at(y0 + 80, x0 + 200, (80, 100))
    assert cell["bcc_fraction"] == pytest.approx(window["bcc"][window["valid"]].mean(), abs=1e-5)
    assert cell["lamella_width_um"] == pytest.approx(
        np.nanmean(window["period_px"]) / 2 * um, rel=1e-5
    )
    assert cell["x_um"] == pytest.approx((200 + 49.5) * um)
    assert cell["y_um"] == pytest.approx((80 + 39.5) * um)
    height, width = made.shape
    assert cells["width_um"].sum() / um == pytest.approx(width * -(-height // 80))
    column = cells[cells["col"] == 0]
    weight = column["height_um"] * column["valid_fraction"]
    expected = np.average(column["bcc_fraction"], weights=weight)
    assert profile["bcc_fraction"][0] == pytest.approx(expected, abs=1e-7)


def test_hardness_rises_with_the_dark_fraction(tmp_path: Path) -> None:
    options = SMALL.model_copy(update={"frames_per_row": 10, "hardness_noise": 0.5})
    made = simulate_videos(tmp_path, options)
    both = made.table("hardness").merge(made.table("truth_profile"), on="x_um")
    assert len(both) > 5
    predicted = 300 + 1500 * (both["bcc_fraction"] - 0.34)
    # The mean of five indentations with a standard deviation of 0.5.
    assert (both["hardness"] - predicted).abs().max() < 1.0


def test_truth_json_reproduces_the_measurement(tmp_path: Path) -> None:
    made = simulate_videos(tmp_path / "a", SMALL)
    content = json.loads((tmp_path / "a" / "truth.json").read_text())
    again = SimulateOptions.model_validate(content["options"])
    simulate_videos(tmp_path / "b", again)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
    assert (content["origin_px"]["y"], content["origin_px"]["x"]) == made.origin_px


def test_positions_are_compared_after_removing_one_translation() -> None:
    truth = pd.DataFrame(
        {"file": "row_000.mkv", "source_index": range(4), "x_px": [0.0, 10, 20, 30], "y_px": 5.0}
    )
    measured = truth.iloc[[0, 1, 3]].assign(file="/data/ingot/row_000.mkv")
    measured["x_px"] += [100.3, 99.7, 100.0]
    measured["y_px"] -= 7
    result = compare_positions(measured, truth)
    assert result["n"] == 3
    assert result["rms_px"] == pytest.approx(np.sqrt(2 * 0.09 / 3))
    assert result["max_px"] == pytest.approx(0.3)
    with pytest.raises(InputError, match="None of 3 positions matches"):
        compare_positions(measured.assign(file="other.mkv"), truth)


def test_the_gradient_film_is_one_row_of_9096_x_608_px() -> None:
    options = gradient_film_options().resolved()
    assert isinstance(options.specimen, GradientFilm)
    assert (options.rows, options.frames_per_row) == (1, 63)
    assert options.specimen.width_px == pytest.approx(9_096, abs=1)
    assert options.specimen.height_px == 608
