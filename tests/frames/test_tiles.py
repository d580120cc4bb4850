"""Tiles: what is read, where they lie, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from tifffile import imwrite

from cemi_dask.errors import ConfigError, InputError, UnreadableError
from cemi_dask.frames import (
    InputOptions,
    TileOptions,
    build_table,
    find_sources,
    prepare,
    scan_source,
)
from cemi_dask.frames.grid import grid_of
from cemi_dask.frames.images import image_header, read_image
from tests.frames.recordings import look, specimen

SIZE = (96, 128)


def tile(x: int = 0, y: int = 0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ground = specimen(700, 500)
    return look(ground[y : y + SIZE[0], x : x + SIZE[1]], rng, 6.0)


def table_of(folder: Path, **tiles: object) -> tuple[pd.DataFrame, str]:
    options = InputOptions(paths=(str(folder),), tiles=TileOptions(**tiles))
    sources = prepare(find_sources(options), options)
    table, nominal = build_table(sources, [scan_source(s) for s in sources])
    return table.assign(file=[Path(f).name for f in table["file"]]).set_index("file"), nominal


# --- reading -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
def test_grey_pictures_are_read_and_their_headers_agree(tmp_path: Path, suffix: str) -> None:
    path, picture = tmp_path / f"t{suffix}", tile()
    if suffix == ".tif":
        imwrite(path, picture)
    else:
        cv2.imwrite(str(path), picture)
    image = read_image(path)
    assert image_header(path) == (image.shape, image.dtype.name) == (SIZE, "uint8")
    assert np.abs(image.astype(int) - picture).max() <= (0 if suffix != ".jpg" else 12)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_deep_pictures_keep_their_levels(tmp_path: Path, dtype: str) -> None:
    picture = (tile().astype(np.float64) * 100).astype(dtype)
    imwrite(tmp_path / "t.tif", picture)
    image = read_image(tmp_path / "t.tif")
    assert image.dtype.name == dtype.replace("64", "32") == image_header(tmp_path / "t.tif")[1]
    assert np.array_equal(image, picture.astype(image.dtype))


def test_colour_becomes_luma_and_alpha_is_ignored(tmp_path: Path) -> None:
    colour = np.zeros((*SIZE, 4), np.uint8)
    colour[...] = (200, 100, 50, 7)  # red, green, blue, alpha
    imwrite(tmp_path / "t.tif", colour, photometric="rgb", extrasamples=["unassalpha"])
    cv2.imwrite(str(tmp_path / "t.png"), colour[..., [2, 1, 0, 3]])
    for name in ("t.tif", "t.png"):
        image = read_image(tmp_path / name)
        assert image.shape == SIZE
        assert np.all(image == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50))


def test_nan_is_refused_with_the_file_named(tmp_path: Path) -> None:
    picture = tile().astype(np.float32)
    picture[3, 4] = np.nan
    imwrite(tmp_path / "hole.tif", picture)
    with pytest.raises(InputError, match=r"hole\.tif holds 1 pixels that are NaN"):
        read_image(tmp_path / "hole.tif")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_cut_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".tif":
        imwrite(path, tile())
    else:
        cv2.imwrite(str(path), tile())
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UnreadableError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_mixed_sizes_and_depths_name_both_files(tmp_path: Path) -> None:
    imwrite(tmp_path / "t_0.tif", tile())
    for other, told in (
        (tile()[:-2], "128 x 94 px uint8"),
        (tile().astype(np.uint16), "128 x 96 px uint16"),
    ):
        imwrite(tmp_path / "t_1.tif", other)
        with pytest.raises(InputError) as caught:
            table_of(tmp_path)
        for part in ("t_0.tif", "t_1.tif", "128 x 96 px uint8", told, "Convert"):
            assert part in str(caught.value)


def test_blank_tiles_stay_in_the_table_unused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    imwrite(tmp_path / "t_0.tif", tile())
    imwrite(tmp_path / "t_1.tif", look(np.full(SIZE, 90.0), rng, 12.0))
    table, _ = table_of(tmp_path)
    assert table["used"].tolist() == [True, False]
    assert table["reason"].tolist() == ["", "blank"]


# --- where they lie ----------------------------------------------------------------------


def grid(*names: str, **options: object) -> tuple[str, list[tuple[int, int]]]:
    found = grid_of(names, TileOptions(**options))
    return found.kind, list(zip(found.rows, found.cols, strict=True))


def test_rows_and_columns_are_read_from_names() -> None:
    whole = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert grid(*(f"tile_r{r:03d}_c{c:03d}.tif" for r, c in whole)) == ("grid", whole)
    assert grid(*(f"s7 col{c + 1} row{r + 1}.png" for r, c in whole)) == ("grid", whole)
    assert grid(*(f"ex[Grid@{c} {r}].jpg" for r, c in whole)) == ("grid", whole)
    assert grid(*(f"2_{r + 1}_{c + 1}.bmp" for r, c in whole)) == ("grid", whole)
    assert grid(*(f"0938_{c:02d}_{r:02d}.bmp" for r, c in whole), order="col_row") == (
        "grid",
        whole,
    )
    numbered = [f"img{n:04d}_r{r}_c{c}.tif" for n, (r, c) in enumerate(whole)]
    assert grid(*numbered) == ("grid", whole)


def test_one_row_or_column_stated_by_name_is_that() -> None:
    assert grid("t_r0_c3.tif", "t_r0_c5.tif") == ("grid", [(0, 0), (0, 2)])
    assert grid("t_row1.tif", "t_row2.tif") == ("grid", [(0, 0), (1, 0)])


def test_holes_are_no_hindrance() -> None:
    places = [(r, c) for r in range(3) for c in range(4) if (r, c) != (1, 2)]
    assert grid(*(f"t_{r}_{c}.tif" for r, c in places)) == ("grid", places)


def test_numbered_pictures_are_a_sequence_also_with_a_few_missing() -> None:
    names = [f"LF0117-16-17-361-{n:02d}.jpg" for n in (1, 2, 3, 5)]
    assert grid(*names) == ("sequence", [(0, 0), (0, 1), (0, 2), (0, 4)])


@pytest.mark.parametrize(
    "names",
    [
        ["1-001.jpg", "1-003.jpg", "1-027.jpg"],  # numbering with gaps
        ["a1.tif", "b2.tif"],  # different names
        ["t_1_5.tif", "t_2_9.tif", "t_7_3.tif"],  # two numbers that fill no grid
        ["one.tif"],
    ],
)
def test_names_that_state_no_grid_are_not_guessed_at(names: list[str]) -> None:
    assert grid(*names)[0] == "none"


def test_a_pattern_says_which_number_is_which() -> None:
    names = ["x_5_s1_2.tif", "x_6_s9_2.tif"]
    assert grid(*names, pattern="x_{col}_s*_{row}.tif") == ("grid", [(0, 0), (0, 1)])
    with pytest.raises(InputError, match="does not fit"):
        grid("y_1_2.tif", pattern="x_{col}_{row}.tif")
    with pytest.raises(InputError, match="both lie in row 2, column 5"):
        grid("x_5_s1_2.tif", "x_5_s2_2.tif", pattern="x_{col}_s*_{row}.tif")
    with pytest.raises(ConfigError, match="neither"):
        grid("y_1_2.tif", pattern="y_*.tif")


@pytest.mark.parametrize("column_first", [False, True])
def test_overlaps_tell_rows_from_columns(tmp_path: Path, column_first: bool) -> None:
    for r in range(2):
        for c in range(3):
            first, second = (c, r) if column_first else (r, c)
            picture = tile(x=110 * c, y=82 * r, seed=10 * r + c)  # 14 % overlap
            imwrite(tmp_path / f"t_{first}_{second}.tif", picture)
    table, nominal = table_of(tmp_path)
    assert nominal == "grid"
    name = "t_2_1.tif" if column_first else "t_1_2.tif"
    assert (table.loc[name, "row"], table.loc[name, "col"]) == (1, 2)
    assert table.loc[name, "x_nominal_px"] == pytest.approx(2 * 0.9 * SIZE[1])
    assert table.loc[name, "y_nominal_px"] == pytest.approx(0.9 * SIZE[0])


def numbered(rows: int, cols: int, course: str) -> dict[int, tuple[int, int]]:
    """The place (row, col) of each number, from 0."""
    along = [(r, c) for r in range(rows) for c in range(cols)]
    down = [(r, c) for c in range(cols) for r in range(rows)]
    order = {
        "rows": along,
        "snake": sorted(along, key=lambda p: (p[0], p[1] if p[0] % 2 == 0 else -p[1])),
        "rows from the right, upwards": along[::-1],
        "columns": down,
        "column snake": sorted(down, key=lambda p: (p[1], p[0] if p[1] % 2 == 0 else -p[0])),
    }[course]
    return dict(enumerate(order))


def write_numbered(folder: Path, places: dict[int, tuple[int, int]], name: str) -> None:
    for n, (r, c) in places.items():
        picture = tile(x=110 * c, y=82 * r, seed=n)  # 14 % overlap
        path = folder / name.format(n=n, r=r, c=c)
        path.parent.mkdir(exist_ok=True)
        imwrite(path, picture)


@pytest.mark.parametrize("missing", [(), (4,)])
@pytest.mark.parametrize(
    "course", ["rows", "snake", "rows from the right, upwards", "columns", "column snake"]
)
def test_overlaps_tell_how_numbered_tiles_run(
    tmp_path: Path, course: str, missing: tuple[int, ...]
) -> None:
    places = {n: p for n, p in numbered(3, 4, course).items() if n not in missing}
    write_numbered(tmp_path, places, "im_{n:03d}.tif")
    table, nominal = table_of(tmp_path)
    assert nominal == "grid"
    for n, (r, c) in places.items():
        assert tuple(table.loc[f"im_{n:03d}.tif", ["row", "col"]]) == (r, c)


@pytest.mark.parametrize(("rows", "cols"), [(1, 5), (5, 1)])
def test_numbered_tiles_in_one_row_or_column_stay_one(tmp_path: Path, rows: int, cols: int) -> None:
    write_numbered(tmp_path, numbered(rows, cols, "rows"), "im_{n}.tif")
    table, _ = table_of(tmp_path)
    assert table["row"].tolist() == (list(range(5)) if rows == 5 else [0] * 5)
    assert table["col"].tolist() == (list(range(5)) if cols == 5 else [0] * 5)


def notes_of(folder: Path) -> str:
    options = InputOptions(paths=(str(folder),))
    return " ".join(prepare(find_sources(options), options)[0].notes)


def test_what_is_assumed_of_numbered_tiles_is_said(tmp_path: Path) -> None:
    write_numbered(tmp_path, numbered(3, 4, "snake"), "im_{n:03d}.tif")
    assert "12 numbered pictures form rows of 4 from left to right, to and fro" in notes_of(
        tmp_path
    )


def test_numbers_in_no_order_leave_the_layout_open(tmp_path: Path) -> None:
    places = numbered(3, 4, "rows")
    order = np.random.default_rng(3).permutation(12).tolist()
    write_numbered(tmp_path, {n: places[k] for n, k in enumerate(order)}, "im_{n:03d}.tif")
    _, nominal = table_of(tmp_path)
    assert nominal == "none"
    assert "cannot be told from their overlaps (set tiles.columns" in notes_of(tmp_path)


def test_columns_of_numbered_tiles_can_be_stated() -> None:
    names = [f"im_{n}.tif" for n in range(6)]
    rows = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert grid(*names, columns=3) == ("grid", rows)
    assert grid(*names, columns=3, snake=True) == ("grid", rows[:3] + rows[:2:-1])
    down = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert grid(*names, columns=3, order="col_row") == ("grid", down)
    with pytest.raises(ConfigError, match=r"tiles\.columns is 3, but the names are not"):
        grid("a.tif", "b.tif", columns=3)
    with pytest.raises(ValidationError, match="give columns as well"):
        TileOptions(snake=True)


# --- several folders ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("row_{r}/tile_{c}.tif", None),
        ("{c}/tile_{r}.tif", None),  # one folder per column
        ("r{r}/im_r{r}_c{c}.tif", None),
        ("night {r}/tile_{c}.tif", "night {row}/tile_{col}.tif"),
    ],
)
def test_one_folder_per_row_or_column(tmp_path: Path, name: str, pattern: str | None) -> None:
    places = numbered(3, 4, "rows")
    write_numbered(tmp_path, places, name)
    options = InputOptions(paths=(str(tmp_path / "*"),), tiles=TileOptions(pattern=pattern))
    (source,) = prepare(find_sources(options), options)
    assert source.nominal == "grid"
    found = {
        Path(f).relative_to(tmp_path).as_posix(): (p.row, p.col)
        for f, p in zip(source.files, source.places, strict=True)
    }
    assert found == {name.format(n=n, r=r, c=c): (r, c) for n, (r, c) in places.items()}


def test_folders_that_are_no_rows_leave_the_layout_open(tmp_path: Path) -> None:
    # Two halves of a 3 x 4 grid, each numbered row by row from 0.
    for r, c in numbered(3, 4, "rows").values():
        folder = tmp_path / f"session{c // 2 + 1}"
        folder.mkdir(exist_ok=True)
        imwrite(folder / f"im_{2 * r + c % 2}.tif", tile(x=110 * c, y=82 * r, seed=10 * r + c))
    options = InputOptions(paths=(str(tmp_path / "session1"), str(tmp_path / "session2")))
    (source,) = prepare(find_sources(options), options)
    assert source.nominal == "none"
    assert "numbers are no rows or columns, as the tiles overlap" in " ".join(source.notes)


def test_a_folder_of_folders_is_refused_with_what_to_give(tmp_path: Path) -> None:
    write_numbered(tmp_path, numbered(1, 2, "rows"), "row_{r}/tile_{c}.tif")
    with pytest.raises(InputError, match=r"The folders in .* hold some: give '.*\*'"):
        find_sources(InputOptions(paths=(str(tmp_path),)))


def test_two_tiles_of_one_place_are_named() -> None:
    files = [f"t_{r}_{c}.tif" for r in range(2) for c in range(2)]
    found = grid_of([*files, "t_1_1.png"], TileOptions())
    assert found.kind == "none"
    assert "t_1_1.tif and t_1_1.png have the same numbers" in found.how
    with pytest.raises(InputError, match=r"both lie in row 1, column 1.*with the folder"):
        grid("a/t_1_1.tif", "b/t_1_1.tif", pattern="t_{row}_{col}.tif")


# --- stage positions ---------------------------------------------------------------------


def write_grid(folder: Path, name: str) -> None:
    for r in range(3):
        for c in range(2):
            imwrite(folder / name.format(r=r, c=c), tile(seed=10 * r + c, x=70 * c, y=90 * r))


def test_positions_by_file_name_in_micrometres(tmp_path: Path) -> None:
    write_grid(tmp_path, "t_{r}_{c}.tif")
    lines = [f"t_{r}_{c}.tif,{50 * c},{30.5 * r}" for r in (2, 1, 0) for c in (0, 1)]
    (tmp_path / "positions.csv").write_text("file,x_um,y_um\n" + "\n".join(lines))
    options = {"positions": str(tmp_path / "positions.csv")}
    with pytest.raises(ConfigError, match=r"Set input\.pixel_um"):
        table_of(tmp_path, **options)
    choice = InputOptions(paths=(str(tmp_path),), pixel_um=0.5, tiles=TileOptions(**options))
    (source,) = prepare(find_sources(choice), choice)
    assert source.nominal == "stage"
    place = dict(zip((Path(f).name for f in source.files), source.places, strict=True))
    assert (place["t_2_1.tif"].x_px, place["t_2_1.tif"].y_px) == (100.0, 122.0)


def test_positions_by_column_and_row_as_a_robomet_writes_them(tmp_path: Path) -> None:
    write_grid(tmp_path, "09_{c:02d}_{r:02d}.tif")
    lines = [f"0,{c},{r},2181,{1227.5 * c},{920 * r}" for r in range(3) for c in range(2)]
    head = "ImageNumber, col#, row#, Focus, Xposition, Yposition\n"
    path = tmp_path / "Mosaic Focus Details.csv"
    path.write_text(head + "\n".join(lines))
    with pytest.raises(ConfigError, match=r"Set tiles\.position_unit"):
        table_of(tmp_path, positions=str(path))
    table, nominal = table_of(tmp_path, positions=str(path), position_unit="px")
    assert nominal == "stage"
    found = table.loc["09_01_02.tif"]
    assert (found["row"], found["col"]) == (2, 1)
    assert (found["x_nominal_px"], found["y_nominal_px"]) == (1227.5, 1840.0)
    up, _ = table_of(tmp_path, positions=str(path), position_unit="px", position_y="up")
    assert up.loc["09_01_02.tif", "y_nominal_px"] == -1840.0


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        ("file,x_px,y_px\nt_0_0.tif,0,0\n", InputError, "no position for 5 of 6 tiles"),
        ("file,x_px\nt_0_0.tif,0\n", InputError, "no column for y"),
        ("x_px,y_px\n0,0\n", InputError, "1 positions for 6 tiles"),
        ("file,x_px,y_px\nt_0_0.tif,0,far\n", InputError, "'far', not a number"),
    ],
)
def test_tables_of_positions_that_do_not_fit_are_refused(
    tmp_path: Path, content: str, error: type[Exception], told: str
) -> None:
    write_grid(tmp_path, "t_{r}_{c}.tif")
    (tmp_path / "positions.csv").write_text(content)
    with pytest.raises(error) as caught:
        table_of(tmp_path, positions=str(tmp_path / "positions.csv"))
    assert told in str(caught.value)
    assert "positions.csv" in str(caught.value)
