"""Real micrographs: data bars and grids are found as a person sees them."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import tifffile

from cemi_dask.frames import (
    Crop,
    InputOptions,
    Source,
    TileOptions,
    build_table,
    find_sources,
    prepare,
    scan_source,
)
from cemi_dask.frames.databar import detect_bar
from cemi_dask.frames.images import read_image

pytestmark = pytest.mark.real


def prepared(folder: Path, **tiles: object) -> Source:
    options = InputOptions(paths=(str(folder),), tiles=TileOptions(**tiles))
    (source,) = prepare(find_sources(options), options)
    return source


def places(source: Source) -> dict[str, tuple[int, int]]:
    named = zip(source.files, source.places, strict=True)
    return {Path(file).stem: (place.row, place.col) for file, place in named}


def test_the_bar_with_text_on_black_resin_is_cropped(real_data: Path) -> None:
    source = prepared(real_data / "stitch_bse_zircon_row")
    # The text begins in row 963 of 1024; there is no border, so a few px more may go.
    assert 61 <= source.crop.bottom <= 70
    assert source.crop.top == 0
    assert source.nominal == "grid"
    # Numbered from right to left, as the overlaps show.
    assert list(places(source).values()) == [(0, 3), (0, 2), (0, 1), (0, 0)]


def test_the_black_strip_with_a_scale_bar_is_cropped(real_data: Path) -> None:
    source = prepared(real_data / "stitch_cl_zircon_row_a")
    assert source.crop == Crop(bottom=64)
    assert list(places(source).values()) == [(0, 9 - n) for n in range(10)]


@pytest.mark.parametrize(
    "name",
    [
        "stitch_bse_grid_2x3",
        "stitch_sem_mussel_3x3_s2",
        "stitch_robomet_2x3_positions",
        "stitch_alloy_dendrite_a",
    ],
)
def test_sets_without_a_bar_stay_whole(real_data: Path, name: str) -> None:
    assert prepared(real_data / name).crop == Crop()


def test_bars_of_single_tiffs_end_where_their_frame_does(real_data: Path) -> None:
    # Seen with the eye: FEI's bar has 59 lines (943 in all, 884 scanned); its tags agree.
    assert detect_bar([read_image(str(real_data / "meta_fei_tfs_mit" / "REBCO.tif"))]) == Crop(
        bottom=59
    )
    zeiss = zipfile.ZipFile(real_data / "meta_zeiss_fei_gpl3" / "tiff_Zeiss_SEM.zip")
    # White bars with a black rule above them, at lines 691 of 768 and 350 of 384.
    for name, height in (("SEM_1k", 77), ("SEM_512pix", 34), ("multipage", 0)):
        (file,) = [n for n in zeiss.namelist() if name in n and n.endswith(".tif")]
        picture = tifffile.imread(BytesIO(zeiss.read(file)), key=0)
        assert detect_bar([picture]) == Crop(bottom=height), name


@pytest.mark.parametrize("name", ["test_image.tif", "test_image_2.tif"])
def test_single_tiffs_without_a_bar_stay_whole(real_data: Path, name: str) -> None:
    picture = read_image(str(real_data / "meta_fei_and_plain_tiff_mit" / name))
    assert detect_bar([picture]) == Crop()


def test_frames_of_one_place_without_a_bar_stay_whole(real_data: Path) -> None:
    assert prepared(real_data / "frames_fibsem_shale_drift").crop == Crop()


def test_grids_are_found(real_data: Path) -> None:
    bse = places(prepared(real_data / "stitch_bse_grid_2x3"))
    assert bse["stitch2d_ex[Grid@1 2]"] == (2, 1)
    mussel = places(prepared(real_data / "stitch_sem_mussel_3x3_s2"))
    assert mussel["2_1_3"] == (0, 2)
    robomet = places(prepared(real_data / "stitch_robomet_2x3_positions"))
    assert robomet["0938410_000000_01_02"] == (2, 1)
    assert prepared(real_data / "stitch_alloy_dendrite_a").nominal == "none"


def test_stage_positions_of_a_robomet_are_used(real_data: Path) -> None:
    folder = real_data / "stitch_robomet_2x3_positions"
    source = prepared(
        folder,
        positions=str(folder / "0938410_ Mosaic Focus Details.csv"),
        position_unit="px",
    )
    assert source.nominal == "stage"
    assert places(source)["0938410_000000_01_02"] == (2, 1)
    last = source.places[-1]
    assert (last.x_px, last.y_px) == (1227.31, 1839.55)


@pytest.mark.parametrize("name", ["stitch_bse_grid_2x3", "stitch_cl_zircon_row_a"])
def test_no_real_tile_is_taken_for_blank(real_data: Path, name: str) -> None:
    source = prepared(real_data / name)
    table, _ = build_table([source], [scan_source(source)])
    assert table["used"].all()
