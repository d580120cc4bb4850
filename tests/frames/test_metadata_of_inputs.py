"""What `prepare` makes of metadata: one pixel size, the crop, places of tiles, words about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import imwrite

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.frames import (
    Crop,
    InputOptions,
    Source,
    TileOptions,
    find_sources,
    open_frames,
    prepare,
)
from tests.frames.microscopes import (
    FEI,
    FEI_VALUES,
    HITACHI,
    JEOL,
    ZEISS,
    picture,
    tescan_tag,
    write_tagged,
)
from tests.frames.recordings import look, row_frames, specimen, write_video

SIZE = (96, 128)
PIXEL_UM = 0.5


def prepared(folder: Path, tiles: dict[str, Any] | None = None, **options: Any) -> Source:
    chosen = InputOptions(paths=(str(folder),), tiles=TileOptions(**(tiles or {})), **options)
    return prepare(find_sources(chosen), chosen)[0]


def fei(path: Path, pixels: np.ndarray, **values: Any) -> Path:
    """A picture with FEI tags: 0.5 um/px, no data bar, unless `values` say otherwise."""
    height, width = pixels.shape
    filled = {**FEI_VALUES, "pixel": f"{PIXEL_UM}e-6", "field": "", "width": width}
    text = FEI.format(**{**filled, "height": height, **values})
    return write_tagged(path, 34682, text, pixels)


def with_pixels(folder: Path, *pixel_m: str) -> None:
    for number, pixel in enumerate(pixel_m):
        fei(folder / f"t_{number}.tif", picture(*SIZE), pixel=pixel)


# --- the pixel size ----------------------------------------------------------------------


def test_the_pixel_size_of_all_files_counts_and_is_told(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "5.0004e-7")  # 0.08 % apart: rounding of what is written
    source = prepared(tmp_path)
    assert source.pixel_um == 0.5
    assert source.warnings == ()
    assert any("pixel size 0.5 um from FEI metadata" in note for note in source.notes)
    assert source.metadata is not None
    assert source.metadata.detector == "TLD"
    assert open_frames(tmp_path).pixel_um == 0.5
    assert open_frames(tmp_path, pixel_um=0.7).pixel_um == 0.7


def test_files_that_disagree_are_refused_with_both_values(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "5e-7", "5.006e-7")
    with pytest.raises(InputError) as caught:
        prepared(tmp_path)
    for part in ("t_0.tif", "t_2.tif", "0.5 um", "0.5006 um", "34682", "set input.pixel_um"):
        assert part in str(caught.value)


def test_the_config_overrides_and_says_what_files_state(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "6e-7")
    source = prepared(tmp_path, pixel_um=0.6)
    assert source.pixel_um == 0.6
    (warning,) = source.warnings
    assert "input.pixel_um says 0.6 um, t_0.tif states 0.5 um" in warning
    assert source.metadata is not None
    assert source.metadata.pixel_um is None  # the files state none alike


def test_an_equal_value_in_the_config_is_no_warning(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7")
    assert prepared(tmp_path, pixel_um=0.5).warnings == ()


def test_without_any_statement_the_pixel_size_is_unknown(tmp_path: Path) -> None:
    for number in range(2):
        imwrite(tmp_path / f"t_{number}.tif", picture(*SIZE), resolution=(72, 72))
    source = prepared(tmp_path)
    assert (source.pixel_um, source.metadata, source.warnings) == (None, None, ())


def test_metadata_can_be_left_unread(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "6e-7")
    source = prepared(tmp_path, metadata="none")
    assert (source.pixel_um, source.metadata) == (None, None)


def test_files_without_a_statement_follow_the_others_and_are_counted(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "", "5e-7")
    source = prepared(tmp_path)
    assert source.pixel_um == 0.5
    assert any("2 of 3 files, t_0.tif first" in note for note in source.notes)


def test_scaled_pictures_and_oblong_pixels_are_warned_about(tmp_path: Path) -> None:
    fei(tmp_path / "t.tif", picture(*SIZE), width=256, height=192)
    (warning,) = prepared(tmp_path).warnings
    assert "256 px wide, the files are 128 px wide" in warning
    write_tagged(tmp_path / "t.tif", 50431, tescan_tag(pixel_y="4.2e-008"), picture(*SIZE))
    (warning,) = prepared(tmp_path).warnings
    assert "not square: 0.041 um along x, 0.042 um along y" in warning


def test_numbers_that_cannot_be_read_are_a_warning(tmp_path: Path) -> None:
    for number in range(3):
        fei(tmp_path / f"t_{number}.tif", picture(*SIZE), hv="much")
    told = prepared(tmp_path).warnings
    assert "t_0.tif" in told[0]
    assert "EBeam.HV is 'much'" in told[0]


def test_the_sidecar_of_a_video_gives_its_pixel_size(tmp_path: Path) -> None:
    video = write_video(tmp_path, row_frames([0, 40, 80]))
    height, width = 240, 384
    text = JEOL.format(width=width, height=height, bar=100, marker="20um")
    video.with_suffix(".txt").write_text(text)
    source = prepared(video)
    assert source.kind == "video"
    assert source.pixel_um == 0.2
    assert source.metadata is not None
    assert source.metadata.instrument == "JSM-7800F"


# --- the data bar ------------------------------------------------------------------------


def test_the_stated_picture_height_is_the_crop(tmp_path: Path) -> None:
    for number in range(2):
        fei(tmp_path / f"t_{number}.tif", picture(*SIZE), height=80)
    source = prepared(tmp_path)
    assert source.crop == Crop(bottom=16)
    assert any("16 px at the bottom, as the metadata state 80 of 96" in n for n in source.notes)
    assert prepared(tmp_path, crop="none").crop == Crop()
    assert prepared(tmp_path, crop={"top": 3}).crop == Crop(top=3)


def test_files_that_state_different_heights_are_looked_at(tmp_path: Path) -> None:
    for number, height in enumerate((80, 96)):
        fei(tmp_path / f"t_{number}.tif", picture(*SIZE), height=height)
    assert prepared(tmp_path).crop == Crop()


def test_a_height_of_another_width_is_not_the_crop(tmp_path: Path) -> None:
    fei(tmp_path / "t_0.tif", picture(*SIZE), width=256, height=80)
    assert prepared(tmp_path).crop == Crop()


# --- places of tiles ---------------------------------------------------------------------

PLACES = [(0, 0), (100, 4), (196, 0), (3, 70), (98, 72), (200, 68)]


def write_tiles(
    folder: Path,
    signs: tuple[int, int] = (1, 1),
    *,
    places: list[tuple[int, int]] = PLACES,
    stated: list[tuple[float, float]] | None = None,
) -> None:
    """Tiles cut at `places` (x, y in px), their stage positions in FEI tags, names in no order."""
    rng = np.random.default_rng(1)
    ground = specimen(400, 300)
    for number, (x, y) in enumerate(places):
        pixels = look(ground[y : y + SIZE[0], x : x + SIZE[1]], rng, 6.0)
        u, v = (stated or places)[number]
        um = [sign * PIXEL_UM * place for sign, place in zip(signs, (u, v), strict=True)]
        name = f"{'qwertz'[number]}{number * 7}.tif"
        fei(folder / name, pixels, x=f"{um[0] + 9000.0:.4f}e-6", y=f"{um[1] - 500.0:.4f}e-6")


def corners(source: Source) -> np.ndarray:
    named = sorted(
        zip(source.files, source.places, strict=True),
        key=lambda n: "qwertz".index(Path(n[0]).name[0]),
    )
    return np.array([(place.x_px, place.y_px) for _, place in named])


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_tiles_lie_where_the_stage_was_whichever_way_it_counts(
    tmp_path: Path, signs: tuple[int, int]
) -> None:
    write_tiles(tmp_path, signs)
    source = prepared(tmp_path)
    assert source.nominal == "stage"
    assert corners(source) == pytest.approx(np.array(PLACES, float), abs=1e-3)
    words = ("right" if signs[0] > 0 else "left", "down" if signs[1] > 0 else "up")
    (note,) = [note for note in source.notes if "stage positions" in note]
    assert f"x grows {words[0]} (as the tiles overlap)" in note
    assert f"y grows {words[1]} (as the tiles overlap)" in note
    rows = {Path(f).name[0]: p.row for f, p in zip(source.files, source.places, strict=True)}
    assert rows == {"q": 0, "w": 0, "e": 0, "r": 1, "t": 1, "z": 1}


def test_directions_that_are_set_are_taken(tmp_path: Path) -> None:
    write_tiles(tmp_path, (-1, -1))
    tiles = {"positions": "tags", "position_x": "right", "position_y": "down"}
    found = corners(prepared(tmp_path, tiles))
    expected = np.array(PLACES, float).max(axis=0) - PLACES
    assert found == pytest.approx(expected, abs=1e-3)


def test_one_row_of_tiles_leaves_y_assumed(tmp_path: Path) -> None:
    write_tiles(tmp_path, (-1, 1), places=[(0, 0), (100, 2), (200, 0)])
    source = prepared(tmp_path)
    assert corners(source)[:, 0] == pytest.approx([0, 100, 200], abs=1e-3)
    assert any("y grows down (assumed: no neighbours along it)" in n for n in source.notes)


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        ([(5.0, 5.0)] * 6, "the same for all tiles"),
        ([(1e4 * n, 0.0) for n in range(6)], "6 of 6 tiles overlap no other"),
        ([PLACES[n] for n in (4, 2, 3, 1, 5, 0)], "do not overlap as they say"),
    ],
)
def test_positions_that_cannot_be_are_not_used_unasked(
    tmp_path: Path, stated: list[tuple[float, float]], why: str
) -> None:
    write_tiles(tmp_path, stated=stated)
    source = prepared(tmp_path)
    assert source.nominal == "none"
    assert any("are not used" in note and why in note for note in source.notes)
    asked = prepared(tmp_path, {"positions": "tags"})
    assert asked.nominal == "stage"
    assert any(why in note for note in asked.notes)


def test_names_that_state_a_grid_count_before_the_stage(tmp_path: Path) -> None:
    for r in range(2):
        for c in range(2):
            fei(tmp_path / f"row{r}_col{c}.tif", picture(*SIZE), x=f"{c}e-5")
    assert prepared(tmp_path).nominal == "grid"


def test_positions_that_are_asked_for_and_missing_are_an_error(tmp_path: Path) -> None:
    write_tiles(tmp_path)
    fei(tmp_path / "y1.tif", picture(*SIZE), x="", y="").write_bytes(
        (tmp_path / "q0.tif").read_bytes().replace(b"StageX", b"StegeX")
    )
    with pytest.raises(InputError, match=r"1 of 7 tiles state no stage position.*y1\.tif"):
        prepared(tmp_path, {"positions": "tags"})
    assert prepared(tmp_path).nominal == "none"


def test_positions_without_a_pixel_size_are_an_error(tmp_path: Path) -> None:
    for number in range(2):
        fei(tmp_path / f"t_{number}.tif", picture(*SIZE), pixel="", x=f"{number}e-5")
    with pytest.raises(ConfigError, match=r"Set input\.pixel_um"):
        prepared(tmp_path, {"positions": "tags"})
    assert prepared(tmp_path, {"positions": "tags"}, pixel_um=0.1).nominal == "stage"


def test_a_table_of_positions_uses_the_stated_pixel_size(tmp_path: Path) -> None:
    with_pixels(tmp_path, "5e-7", "5e-7")
    table = tmp_path / "positions.csv"
    table.write_text("file,x_um,y_um\nt_0.tif,0,0\nt_1.tif,40,10\n")
    options = {"positions": str(table), "position_x": "left"}
    place = prepared(tmp_path, options).places[1]
    assert (place.x_px, place.y_px) == (-80.0, 20.0)


def test_each_source_knows_the_stage_positions_of_its_files(tmp_path: Path) -> None:
    for number in range(18):
        fei(tmp_path / f"t_{number:02d}.tif", picture(24, 32), x=f"{number}e-6", y="0")
    options = InputOptions(paths=(str(tmp_path),))
    first, second = prepare(find_sources(options), options)
    assert len(first.stage_um) == 16
    assert [place[0] for place in second.stage_um if place] == pytest.approx([16.0, 17.0])


@pytest.mark.parametrize("vendor", ["zeiss", "hitachi"])
def test_other_vendors_place_tiles_alike(tmp_path: Path, vendor: str) -> None:
    rng = np.random.default_rng(2)
    ground = specimen(400, 200)
    for number, x in enumerate((0, 90, 180)):
        pixels = look(ground[: SIZE[0], x : x + SIZE[1]], rng, 6.0)
        path = tmp_path / f"{'abc'[number]}.tif"
        if vendor == "zeiss":  # 0.1 um are the last digit of a position
            values = {"width": 128, "height": 96, "pixel": "500 nm"}
            text = ZEISS.format(**values, x=f"{70 - 0.0005 * x:.4f}")
            write_tagged(path, 34118, text, pixels)
        else:
            imwrite(path, pixels)
            text = HITACHI.format(pixel="500", x=f"{7e7 - 500 * x:.0f}").replace("64x40", "128x96")
            path.with_suffix(".txt").write_text(text)
    source = prepared(tmp_path)
    assert source.nominal == "stage"
    # 0.1 um, the last digit that Zeiss writes, are 0.2 px.
    assert [p.x_px for p in source.places] == pytest.approx([0, 90, 180], abs=0.2)
