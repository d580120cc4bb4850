"""Real tiles under random names come out as those whose names state the grid."""

from __future__ import annotations

import shutil
from pathlib import Path

import dask
import numpy as np
import pytest

from cemi_dask.frames import InputOptions, TileOptions, open_frames
from cemi_dask.frameset import Frames
from cemi_dask.register import register
from cemi_dask.solve import solve

pytestmark = pytest.mark.real

CROPS = {
    "stitch_bse_zircon_row": {"bottom": 60},
    "stitch_cl_zircon_row_a": {"bottom": 69},
}


def tiles_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".bmp"))


def renamed(files: list[Path], folder: Path) -> dict[str, Path]:
    """Copies under names of random letters: name -> the file it is a copy of."""
    rng = np.random.default_rng(4)
    copies = {}
    for file in files:
        name = "".join(rng.choice(list("abcdefghijklm"), 9)) + file.suffix
        shutil.copy(file, folder / name)
        copies[name] = file
    return copies


def positions(frames: Frames) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Position and its sigma per file name, from registration and solving."""
    with dask.config.set(scheduler="sync"):
        layout = solve(register(frames))
    assert (layout.component == 0).all()
    names = [Path(f).name for f in frames.table["file"]]
    places = np.stack([layout.x_px, layout.y_px], axis=1)
    sigma = np.hypot(layout.sigma_x_px, layout.sigma_y_px)
    return dict(zip(names, places, strict=True)), sigma


def options_for(name: str, folder: Path, **tiles: object) -> InputOptions:
    crop = CROPS.get(name, "none")
    return InputOptions(
        paths=(str(folder),), kind="tiles", crop=crop, metadata="none", tiles=TileOptions(**tiles)
    )


@pytest.mark.parametrize(
    ("name", "tiles"),
    [
        ("stitch_bse_grid_2x3", {}),
        ("stitch_sem_mussel_3x3_s2", {"order": "row_col"}),
        ("stitch_bse_zircon_row", {}),
        ("stitch_cl_zircon_row_a", {}),
        ("stitch_robomet_2x3_positions", {"order": "col_row"}),
    ],
)
def test_tiles_under_random_names_come_out_as_with_known_layout(real_data, tmp_path, name, tiles):
    folder = real_data / name
    copies = renamed(tiles_of(folder), tmp_path)
    known_frames = open_frames(options_for(name, folder, **tiles))
    assert known_frames.nominal == "grid"
    known, sigma = positions(known_frames)
    frames = open_frames(options_for(name, tmp_path))
    assert frames.nominal == "none"
    found, _ = positions(frames)
    off = np.array([found[copy] - known[file.name] for copy, file in copies.items()])
    off -= np.median(off, axis=0)
    # 1 px, and where overlaps are so poor that sigma is more, that.
    assert np.abs(off).max() < max(1.0, float(sigma.max()))


def test_a_grid_with_a_hole_under_random_names_is_one_piece(real_data, tmp_path):
    copies = renamed(tiles_of(real_data / "stitch_alloy_dendrite_a"), tmp_path)
    found, _ = positions(open_frames(options_for("", tmp_path)))
    place = {file.stem: found[copy] for copy, file in copies.items()}
    # An independent (SIFT) measurement, good to 2 px.
    for a, b, shift in (
        ("1-003", "1-004", (2.3, 1810.0)),
        ("1-028", "1-027", (2.5, 1677.4)),
        ("1-029", "1-028", (2.5, 1778.2)),
        ("1-030", "1-029", (1.8, 1439.4)),
    ):
        np.testing.assert_allclose(place[b] - place[a], shift, atol=2)
