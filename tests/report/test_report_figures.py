"""The figures show the right thing at the right place."""

from __future__ import annotations

import io
import re
import time

import matplotlib
import numpy as np
import pandas as pd
import pytest

from cemi_dask.measures import measures_of
from cemi_dask.report import ReportOptions
from cemi_dask.report.hardness_figures import fit_line, p_text, scatter_plots
from cemi_dask.report.link_figures import Links, link_status, residual_vectors, seam_steps
from cemi_dask.report.map_figures import heat_maps, profiles, vertical_stretch
from cemi_dask.report.measures import cell_edges, to_grid
from cemi_dask.report.mosaic_figures import crop_figure, fold_count, overview, tinted, to_rgb
from cemi_dask.report.numbers import cell_mean, count_text, duration_text, uncertain
from cemi_dask.report.quality_figures import (
    closures,
    frame_size,
    placement,
    residuals,
    status_counts,
)
from cemi_dask.report.style import (
    drawing,
    length_text,
    length_unit,
    png_bytes,
    strip_height,
)
from cemi_dask.scalebar import nice_length
from cemi_dask.solve import loop_closures
from tests.report.fake_run import (
    FakeRun,
    cells_table,
    frames_table,
    pairs_table,
    positions_table,
    profile_table,
)


def as_pixels(figure: matplotlib.figure.Figure, dpi: float) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png_bytes(figure, dpi))).convert("RGB"))


@pytest.fixture
def cells() -> pd.DataFrame:
    return cells_table(FakeRun(), np.random.default_rng(0))


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("shape", [(120, 161), (97, 128), (33, 331), (359, 211)])
def test_a_crop_is_drawn_pixel_for_pixel(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(1, 255, shape).astype(np.uint8)
    with drawing():
        shown = as_pixels(crop_figure(crop, pixel_um=0.2, bar=False), 300)
    assert np.array_equal(shown, to_rgb(crop))


def test_scale_bar_has_the_length_it_states() -> None:
    crop = np.full((150, 400), 200, np.uint8)
    with drawing():
        shown = as_pixels(crop_figure(crop, pixel_um=0.25), 300)
    # A quarter of 400 px is 25 µm at most: the bar says 20 µm, which are 80 px.
    dark = (shown[138] < 80).all(axis=1)
    assert dark.sum() == pytest.approx(80, abs=1.5)


def test_pixels_without_frame_are_pale_and_bcc_is_orange() -> None:
    crop = np.full((40, 40), 100, np.uint8)
    crop[5, 5] = 200
    crop[:10, 20:] = 0
    bcc = np.zeros_like(crop)
    bcc[30:, 30:] = 1
    rgb = tinted(crop, bcc=bcc, lamellar=None)
    assert tuple(rgb[2, 30]) == (236, 239, 241)
    red, green, blue = (int(v) for v in rgb[35, 35])
    assert red > green > blue + 50
    assert len(set(rgb[35, 5].tolist())) == 1


def test_a_long_strip_is_folded() -> None:
    assert [fold_count(a) for a in (1, 6.9, 15.8, 36, 500)] == [1, 1, 2, 3, 4]
    thumbnail = np.full((40, 640), 90, np.uint8)
    with drawing():
        figure = overview(thumbnail, (1000, 16000), [], pixel_um=0.222)
    assert [axes.get_xlim() for axes in figure.axes] == [
        pytest.approx((0.0, 1.776)),
        pytest.approx((1.776, 3.552)),
    ]


# ---------------------------------------------------------------- maps


def test_default_colour_map_is_darker_where_higher() -> None:
    colours = matplotlib.colormaps[ReportOptions().colormap](np.linspace(0, 1, 64))[:, :3]
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()


def test_map_shows_each_cell_at_its_place(cells: pd.DataFrame) -> None:
    cells = cells.copy()
    cells["bcc_fraction"] = 0.3
    cells.loc[(cells["row"] == 3) & (cells["col"] == 20), "bcc_fraction"] = 0.4
    cells.loc[(cells["row"] == 0) & (cells["col"] == 2), "bcc_fraction"] = np.nan
    measure = measures_of(cells)[0]
    unit = length_unit(2600, 0.222)
    grid = to_grid(cells, measure.values(cells))
    assert grid[3, 20] == pytest.approx(40)
    assert np.isnan(grid[0, 2])
    with drawing():
        figure = heat_maps(cells, [measure], unit, colormap="viridis_r")
        (mesh,) = (c for c in figure.axes[0].collections if hasattr(c, "get_coordinates"))
    corners = mesh.get_coordinates()
    assert np.allclose(corners[3, 20], [20 * 577.2 / 24, 3 * 93.24 / 4])
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "y points down"
    assert "nothing measurable" in figure.axes[0].get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("pixel_um", [0.222, None])
def test_cell_borders_lie_between_their_centres(pixel_um: float | None) -> None:
    fake = FakeRun(pixel_um=pixel_um)
    cells = cells_table(fake, np.random.default_rng(0))
    unit = length_unit(fake.shape[1], pixel_um)
    x, y = cell_edges(cells, unit)
    assert len(x) == 25
    assert len(y) == 5
    assert (x[0], y[0]) == pytest.approx((0, 0), abs=1e-9)
    assert x[-1] == pytest.approx(2600 * (pixel_um or 1.0))


def test_a_thin_strip_is_enlarged_and_a_block_is_not(cells: pd.DataFrame) -> None:
    unit = length_unit(2600, 0.222)
    assert vertical_stretch(cells, unit) == pytest.approx(1.0)
    thin = cells.assign(y_um=cells["y_um"] / 10, height_um=cells["height_um"] / 10)
    # 5.8 in x (9.3 / 577) = 0.094 in to scale, drawn 0.6 in high.
    assert vertical_stretch(thin, unit) == pytest.approx(6.4, rel=0.02)


def test_measures_of_plug_ins_follow_the_papers_three(cells: pd.DataFrame) -> None:
    cells = cells.assign(pore_area_um=1.0, pore_area_um_se=0.1, note=1.0, empty=np.nan, empty_se=1)
    found = [(m.column, m.label) for m in measures_of(cells)]
    assert found == [
        ("bcc_fraction", "BCC phase fraction (%)"),
        ("lamellar_fraction", "Lamellar area fraction (%)"),
        ("lamella_width_um", "Lamella width (µm)"),
        ("pore_area_um", "Pore area (µm)"),
    ]


def test_profile_band_is_one_standard_error(cells: pd.DataFrame) -> None:
    profile = profile_table(cells)
    unit = length_unit(2600, 0.222)
    with drawing():
        figure = profiles(profile, measures_of(profile), unit, (0, 577))
        axes = figure.axes[0]
        top = max(path.vertices[:, 1].max() for path in axes.collections[0].get_paths())
    expected = 100 * (profile["bcc_fraction"] + profile["bcc_fraction_se"]).max()
    assert top == pytest.approx(expected)


# ---------------------------------------------------------------- stitching, hardness


def test_frame_size_is_what_reaches_the_mosaics_far_corner() -> None:
    fake = FakeRun()
    rng = np.random.default_rng(0)
    positions = positions_table(fake, frames_table(fake, rng), rng)
    positions.loc[0, ["x_px", "y_px"]] = [2600 - 341, 420 - 230]
    assert frame_size(positions, fake.shape) == fake.frame


def tables_of(fake: FakeRun) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of positions and of pairs."""
    rng = np.random.default_rng(0)
    positions = positions_table(fake, frames_table(fake, rng), rng)
    return positions, pairs_table(fake, positions, rng)


@pytest.mark.parametrize("islands", [1, 3])
def test_islands_are_drawn_where_there_are_several(islands: int) -> None:
    fake = FakeRun(islands=islands)
    with drawing():
        figure = placement(tables_of(fake)[0], fake.shape, pixel_um=0.222)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any("Islands" in title for title in titles) == (islands > 1)


def test_frames_without_known_sigma_are_drawn_all_the_same() -> None:
    fake = FakeRun()
    positions, _ = tables_of(fake)
    positions["sigma_x_px"] = np.nan
    with drawing():
        along_x, along_y = placement(positions, fake.shape, pixel_um=None).axes[:2]
    assert len(along_x.collections[0].get_paths()) == len(positions)
    np.testing.assert_allclose(along_y.collections[0].get_array(), positions["sigma_y_px"])


def test_every_accepted_pair_and_loop_is_in_a_histogram() -> None:
    _, pairs = tables_of(FakeRun(shape=(1000, 5000)))
    loops = loop_closures(pairs)
    with drawing():
        figures = residuals(pairs), closures(loops)
        for figure, count in zip(
            figures, ((pairs["status"] == "ok").sum(), len(loops)), strict=True
        ):
            axes = figure.axes[0]
            told = [t.get_text() for t in axes.texts if "beyond" in t.get_text()]
            beyond = int(told[0].split()[0]) if told else 0
            assert sum(bar.get_height() for bar in axes.patches) + beyond == count
    assert sum(count for _, count in status_counts(pairs)) == len(pairs)


def test_a_pair_is_drawn_between_its_frames_in_the_colour_of_its_status() -> None:
    fake = FakeRun()
    positions, pairs = tables_of(fake)
    with drawing():
        axes = link_status(Links.of(pairs, positions, fake.shape), pixel_um=None).axes[0]
        lines = [[path.vertices for path in drawn.get_paths()] for drawn in axes.collections]
    assert [len(part) for part in lines] == [count for _, count in status_counts(pairs)]
    first = pairs[pairs["status"] == "rejected"].iloc[0]
    place = positions[["x_px", "y_px"]].to_numpy()[[first["i"], first["j"]]]
    height, width = frame_size(positions, fake.shape)
    np.testing.assert_allclose(lines[2][0], place + np.array([width, height]) / 2)


def test_pairs_of_frames_without_a_place_are_left_out() -> None:
    fake = FakeRun()
    positions, pairs = tables_of(fake)
    links = Links.of(pairs, positions[positions["frame"] != 3], fake.shape)
    assert len(links.status) == len(pairs) - ((pairs["i"] == 3) | (pairs["j"] == 3)).sum()


def test_arrows_are_measured_minus_solved_with_a_scale() -> None:
    fake = FakeRun(shape=(690 + 500, 1024 + 2 * 600), frame=(690, 1024))
    positions, pairs = tables_of(fake)
    pairs["status"] = "ok"
    i, j = pairs["i"], pairs["j"]
    for axis, off in (("x", 0.03), ("y", 0.04)):
        place = positions[f"{axis}_px"].to_numpy()
        pairs[f"d{axis}_px"] = place[j] - place[i] + off
    with drawing():
        figure, note = residual_vectors(Links.of(pairs, positions, fake.shape), pixel_um=None)
        arrows = next(c for c in figure.axes[0].collections if hasattr(c, "scale"))
        # a fifth of an arrow for 0.01 px, pointing down and right on the page
        np.testing.assert_allclose(arrows.U, 0.03, atol=1e-9)
        np.testing.assert_allclose(arrows.V, -0.04, atol=1e-9)
        assert arrows.scale * 0.15 == pytest.approx(0.05)
        key = next(a for a in figure.axes[0].artists if hasattr(a, "text"))
    assert key.text.get_text() == "0.05 px"
    assert note == ""


def test_seams_are_coloured_by_the_size_of_their_step() -> None:
    fake = FakeRun()
    positions, pairs = tables_of(fake)
    with drawing():
        axes = seam_steps(Links.of(pairs, positions, fake.shape), pixel_um=None).axes[0]
        shown = axes.collections[0].get_array()
    known = pairs["grey_step"].abs().dropna()
    np.testing.assert_allclose(np.sort(shown), np.sort(known))


def test_maps_of_3906_frames_are_drawn_in_seconds_and_stay_legible() -> None:
    fake = FakeRun(shape=(690 + 17 * 517, 1024 + 216 * 614), frame=(690, 1024))
    positions, pairs = tables_of(fake)
    assert len(positions) == 18 * 217
    pairs.loc[40, "status"] = "ok"
    pairs.loc[40, "dx_px"] += 5.0  # one pair that must not be lost among 11 000
    links = Links.of(pairs, positions, fake.shape)
    begun = time.process_time()
    with drawing():
        figure, note = residual_vectors(links, pixel_um=0.222)
        png_bytes(figure, 200)
        png_bytes(link_status(links, pixel_um=0.222), 200)
        png_bytes(seam_steps(links, pixel_um=0.222), 200)
        png_bytes(placement(positions, fake.shape, pixel_um=0.222), 200)
        arrows = next(c for c in figure.axes[0].collections if hasattr(c, "scale"))
    # 1.1 s of CPU time when written; generous for slow cores.
    assert time.process_time() - begun < 20
    x, y = arrows.XY.T * 1000 / 0.222
    per_in = fake.shape[1] / len(figure.axes) / 5.8
    cells = set(zip(x // (0.11 * per_in), y // (0.11 * per_in), strict=True))
    assert len(cells) == len(x)  # one arrow in each place
    assert re.fullmatch(rf"{len(x)} of \d+ accepted pairs.*Red: longer than drawn\.", note)


def test_scatter_tells_r_p_n_and_the_interval() -> None:
    x = np.linspace(0.3, 0.4, 11)
    points = pd.DataFrame({"bcc_fraction": x, "hardness": 200 + 300 * x})
    table = pd.DataFrame(
        {
            "measure": ["bcc_fraction"],
            "n": [11],
            "pearson_r": [-0.912],
            "p_value": [0.0004],
            "ci_low": [-0.97],
            "ci_high": [-0.7],
            "n_effective": [6.5],
        }
    )
    measures = measures_of(points.assign(bcc_fraction_se=0.0))
    with drawing():
        axes = scatter_plots(points, table, measures).axes[0]
    title = axes.get_title(loc="left")
    for text in ("r = −0.91", "[−0.97, −0.70]", "p < 0.001", "n = 11 (6.5 indep.)"):
        assert text in title
    line = axes.lines[1].get_ydata()
    assert line == pytest.approx([290, 320])
    assert fit_line(x, 200 + 300 * x) == pytest.approx((300, 200))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.6123, 0.0312, "0.61 ± 0.03\u00a0µm"),
        (0.6123, 0.0142, "0.612 ± 0.014\u00a0µm"),
        (33.9849, 0.0092, "33.985 ± 0.009\u00a0µm"),
        (123.4, 17.0, "123 ± 17\u00a0µm"),
        (0.612345, float("nan"), "0.612\u00a0µm"),
        (float("nan"), 0.1, "not measurable"),
    ],
)
def test_values_are_cut_at_their_error(value: float, error: float, text: str) -> None:
    assert uncertain(value, error, "µm") == text


def test_mean_over_cells_weighs_valid_area_and_propagates_errors() -> None:
    cells = pd.DataFrame(
        {
            "bcc_fraction": [0.3, 0.4, np.nan, 0.9],
            "bcc_fraction_se": [0.01, 0.02, 0.01, 0.01],
            "valid_fraction": [1.0, 0.5, 1.0, 0.0],
        }
    )
    mean = cell_mean(cells, measures_of(cells)[0])
    assert mean.mean == pytest.approx(100 * (0.3 + 0.2) / 1.5)
    assert mean.error == pytest.approx(100 * np.hypot(0.01, 0.5 * 0.02) / 1.5)
    assert mean.count == 2


def test_lengths_and_times_read_well() -> None:
    assert [nice_length(v) for v in (0.37, 5.0, 4.99, 130)] == pytest.approx([0.2, 5, 2, 100])
    assert length_text(0.05, "mm") == "50 µm"
    assert length_text(2000.0, "µm") == "2 mm"
    assert length_unit(123_672, 0.222).name == "mm"
    assert length_unit(1000, 0.222).name == "µm"
    assert length_unit(1000, None).name == "px"
    assert [duration_text(s) for s in (8.43, 185, 7800)] == ["8.4 s", "3 min 05 s", "2 h 10 min"]
    assert count_text(123_672) == "123\u202f672"
    assert [p_text(p) for p in (1e-9, 0.0042, 0.25, float("nan"))] == [
        "p < 0.001",
        "p = 0.004",
        "p = 0.25",
        "p unknown",
    ]


def test_strip_height_is_to_scale_within_limits() -> None:
    assert strip_height(58, 10, least_in=0.1) == pytest.approx(1.0)
    assert strip_height(5800, 10, least_in=0.6) == 0.6
    assert strip_height(10, 5800, least_in=0.6, most_in=4) == 4
