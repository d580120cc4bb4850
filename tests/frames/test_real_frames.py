"""Real micrographs: data bars and grids are found as a person sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    assert list(places(source).values()) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_the_black_strip_with_a_scale_bar_is_cropped(real_data: Path) -> None:
    source = prepared(real_data / "stitch_cl_zircon_row_a")
    assert source.crop == Crop(bottom=64)
    assert list(places(source).values()) == [(0, n) for n in range(10)]


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
