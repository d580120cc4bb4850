import json

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cemi_dask.analyse import (
    CELL_COLUMNS,
    AnalyseOptions,
    BccFraction,
    GridOptions,
    LamellaWidth,
    analyse,
    profile,
)
from cemi_dask.compute import compute_items
from cemi_dask.errors import ConfigError, InputError
from cemi_dask.segment import segment
from cemi_dask.simulate import Specimen

GRID = GridOptions(cell_px=(300, 400))


@pytest.fixture(scope="module")
def ingot():
    """A mosaic with a stripe of missing data, and its labels, as arrays in memory."""
    clean = Specimen(width_px=1600, height_px=900, seed=1).image(0, 0, (900, 1600))
    noisy = clean + np.random.default_rng(0).normal(0, 5, clean.shape)
    grey = np.clip(np.rint(noisy), 1, 255).astype(np.uint8)
    grey[:, 400:720] = 0  # column 1 keeps a fifth of its area
    grey[300:600, 800:1200] = 0  # cell (1, 2) is lost
    with dask.config.set(scheduler="synchronous"):
        labels = {
            "lamellar": segment(grey, method="coherence").compute(),
            "bcc": segment(grey, method="bradley").compute(),
        }
    return grey, labels


def table_of(ingot, chunks=512, **options):
    grey, labels = ingot
    lazy = {name: da.from_array(label, chunks=chunks) for name, label in labels.items()}
    options.setdefault("grid", GRID)
    options.setdefault("pixel_um", 0.222)
    with dask.config.set(scheduler="synchronous"):
        return analyse(da.from_array(grey, chunks=chunks), lazy, **options)


def test_the_table_has_the_contracts_columns_first(ingot):
    cells = table_of(ingot)
    assert tuple(cells.columns[: len(CELL_COLUMNS)]) == CELL_COLUMNS
    assert {"x_px", "y_px", "lamella_width_px", "period_um", "lamella_width_paper_um"} <= {
        *cells.columns
    }
    assert not [c for c in cells.columns if c.startswith("_")]
    assert cells[["row", "col"]].to_numpy().tolist() == [[r, c] for r in range(3) for c in range(4)]


def test_positions_are_cell_centres(ingot):
    cells = table_of(ingot)
    assert cells["x_px"].iloc[1] == 400 + 399 / 2
    assert cells["y_um"].iloc[4] == pytest.approx((300 + 299 / 2) * 0.222)
    assert cells["width_um"].iloc[0] == pytest.approx(400 * 0.222)


@pytest.mark.parametrize("chunks", [(97, 131), (900, 1600), ((1, 500, 399), (777, 823))])
def test_the_table_does_not_depend_on_chunks(ingot, chunks):
    pd.testing.assert_frame_equal(table_of(ingot, chunks), table_of(ingot), check_exact=True)


def test_cells_with_little_data_are_nan_and_never_zero(ingot):
    cells = table_of(ingot).set_index(["row", "col"])
    measures = ["bcc_fraction", "lamellar_fraction", "lamella_width_um"]
    assert cells["valid_fraction"].loc[(0, 1)] == pytest.approx(0.2)
    for lost in ((0, 1), (1, 1), (1, 2)):
        assert cells.loc[lost, measures].isna().all()
        assert cells.loc[lost, [f"{m}_se" for m in measures]].isna().all()
    assert cells.loc[[(0, 0), (2, 3)], measures].notna().all(axis=None)


def test_pixels_and_micrometres_agree_or_micrometres_are_nan(ingot):
    cells = table_of(ingot)
    ratio = cells["lamella_width_um"] / cells["lamella_width_px"]
    assert ratio.dropna().to_numpy() == pytest.approx(0.222)
    unknown = table_of(ingot, pixel_um=None)
    assert unknown.filter(like="_um").isna().all(axis=None)
    pd.testing.assert_series_equal(unknown["lamella_width_px"], cells["lamella_width_px"])
    assert unknown["bcc_fraction"].notna().any()


def test_items_are_named_blocks_with_results_that_survive_json(ingot):
    grey, labels = ingot
    big = GridOptions(cell_px=(2000, 2100))
    mosaic = da.from_array(np.tile(grey, (5, 6)), chunks=2048)
    lazy = {k: da.from_array(np.tile(v, (5, 6)), chunks=2048) for k, v in labels.items()}
    seen = {}

    def through_json(items):
        seen.update(items)
        return {name: json.loads(json.dumps(r)) for name, r in compute_items(items).items()}

    options = AnalyseOptions(measures=["lamellar_fraction"], min_valid_fraction=0.01)
    cells = analyse(mosaic, lazy, grid=big, options=options, compute=through_json)
    assert [*seen] == [f"measure-cell/{r}-{c}" for r in (0,) for c in (0, 2, 4)]
    assert all(item.key.startswith("measure-cell-") for item in seen.values())
    pd.testing.assert_frame_equal(cells, analyse(mosaic, lazy, grid=big, options=options))


def test_float_mosaics_give_the_same_numbers(ingot):
    grey, labels = ingot
    as_float = np.where(grey == 0, np.nan, grey.astype(np.float32))
    floats = table_of((as_float, labels))
    whole = table_of(ingot)
    for name in ("bcc_fraction", "lamellar_fraction", "lamella_width_px"):
        assert floats[name].to_numpy() == pytest.approx(whole[name].to_numpy(), nan_ok=True)


def test_the_profile_averages_cells_by_their_area(ingot):
    cells = table_of(ingot)
    along = profile(cells)
    assert along["x_um"].tolist() == sorted(cells["x_um"].unique())
    column = cells[cells["col"] == 2].dropna(subset=["lamellar_fraction"])
    expected = np.average(column["lamellar_fraction"], weights=column["valid_fraction"])
    assert along["lamellar_fraction"].iloc[2] == pytest.approx(expected)
    assert along["cells"].tolist() == [3, 3, 2, 3]
    assert np.isnan(along["bcc_fraction"].iloc[1])
    assert np.isnan(along["bcc_fraction_se"].iloc[1])
    assert (along["bcc_fraction_se"].drop(1) > 0).all()


def test_profiles_run_along_either_axis_and_over_any_band(ingot):
    cells = table_of(ingot)
    down = profile(cells, along="y")
    assert down["y_um"].tolist() == sorted(cells["y_um"].unique())
    row = cells[cells["row"] == 2].dropna(subset=["bcc_fraction"])
    expected = np.average(row["bcc_fraction"], weights=row["valid_fraction"])
    assert down["bcc_fraction"].iloc[2] == pytest.approx(expected)
    last = float(cells["y_um"].max())
    band = profile(cells, band_um=(last - 1, last + 1))
    assert band["bcc_fraction"].iloc[0] == cells.set_index(["row", "col"])["bcc_fraction"][2, 0]
    with pytest.raises(InputError, match=r"No cell has its centre at y = 1..2 um"):
        profile(cells, band_um=(1.0, 2.0))
    with pytest.raises(InputError, match="needs the pixel size"):
        profile(table_of(ingot, pixel_um=None), band_um=(1.0, 2.0))


def test_standard_errors_of_a_profile_cover_the_scatter_of_cells():
    rng = np.random.default_rng(0)
    n_rows, n_cols = 8, 400
    values = rng.normal(0.3, 0.02, (n_rows, n_cols))
    rows, cols = np.indices(values.shape)
    cells = pd.DataFrame(
        {
            "row": rows.ravel(),
            "col": cols.ravel(),
            "x_um": cols.ravel() * 1.0,
            "x_px": cols.ravel() * 1.0,
            "width_px": 10.0,
            "height_px": 10.0,
            "valid_fraction": 1.0,
            "f": values.ravel(),
            "f_se": 0.02,
        }
    )
    along = profile(cells)
    inside = np.abs(along["f"] - 0.3) < 1.96 * along["f_se"]
    assert 0.94 < inside.mean() <= 1.0


def test_wrong_input_says_what_is_wrong(ingot):
    grey, labels = ingot
    with pytest.raises(ConfigError, match=r"label 'lamellar'.*given are \['bcc'\]"):
        analyse(da.from_array(grey), {"bcc": da.from_array(labels["bcc"])}, grid=GRID)
    with pytest.raises(InputError, match=r"'bcc' has the shape \(900, 1599\)"):
        analyse(da.from_array(grey), {"bcc": da.from_array(labels["bcc"][:, 1:])}, grid=GRID)
    with pytest.raises(InputError, match=r"two dimensions.*\(2, 5, 5\)"):
        analyse(da.zeros((2, 5, 5)), {}, grid=GRID)


def test_measures_come_by_name_or_with_options_and_only_once():
    options = AnalyseOptions(
        measures=["bcc_fraction", {"method": "lamella_width", "variant": "paper"}]
    )
    assert options.measures == (BccFraction(), LamellaWidth(variant="paper"))
    assert AnalyseOptions(**options.model_dump(mode="json")) == options
    with pytest.raises(ValidationError, match="lamella_widht"):
        AnalyseOptions(measures=["lamella_widht"])
    with pytest.raises(ValidationError, match="name each measure once"):
        AnalyseOptions(measures=["lamella_width", "lamella_width"])
