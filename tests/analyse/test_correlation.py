import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d

from cemi_dask.analyse import (
    CorrelateOptions,
    Hardness,
    correlate,
    correlation_points,
    fit_models,
    read_hardness,
)
from cemi_dask.analyse.correlation import CORRELATION_COLUMNS
from cemi_dask.analyse.dependence import effective_sample_size, shift_p, spearman
from cemi_dask.errors import InputError, UnreadableError
from cemi_dask.simulate import SimulateOptions
from cemi_dask.simulate.truth import hardness_table


def written(tmp_path, text):
    path = tmp_path / "hardness.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_repeated_indents_are_averaged_with_their_error(tmp_path):
    path = written(tmp_path, "# by hand\nx_um,hardness_HV\n10,300\n20,310\n10,320\n10,310\n")
    found = read_hardness(path)
    assert found.x_um.tolist() == [10, 20]
    assert found.value.tolist() == [310, 310]
    assert found.error[0] == pytest.approx(10 / np.sqrt(3))
    assert np.isnan(found.error[1])


def test_other_ways_to_write_the_same(tmp_path):
    path = written(tmp_path, "position_mm;H_GPa;H_std\n0.01; 4.1; 0.2\n0.02; 4.3; 0.1\n")
    found = read_hardness(path)
    assert found.x_um == pytest.approx([10, 20])
    assert found.value.tolist() == [4.1, 4.3]
    assert found.error.tolist() == [0.2, 0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x_um,hardness\n1,300\n2,soft\n", r"line 3, column 'hardness': 'soft' is no number"),
        ("x_um,hardness\n1\n2,300\n", r"line 2, column 'hardness': '' is no number"),
        ("x_um,hardness\n1,nan\n", r"line 2, column 'hardness': 'nan' is no number"),
        ("place,hardness\n1,300\n", r"none of the columns .* is a position"),
        ("x_um,a,b\n1,2,3\n", r"is called hardness"),
        ("x_um,hardness\n", r"has no data"),
    ],
)
def test_a_bad_table_names_file_line_and_column(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_hardness(written(tmp_path, text))
    assert "hardness.csv" in str(caught.value)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableError, match=r"nowhere\.csv"):
        read_hardness(tmp_path / "nowhere.csv")


def along(values, se=0.01):
    x = np.arange(len(values)) * 100.0
    return pd.DataFrame({"x_um": x, "bcc_fraction": values, "bcc_fraction_se": se})


def test_pearson_of_independent_values_is_the_textbooks():
    rng = np.random.default_rng(3)
    values = rng.normal(size=200)
    hardness = Hardness(np.arange(200) * 100.0, values + rng.normal(size=200), np.zeros(200), "HV")
    found = correlate(along(values), hardness)
    assert tuple(found.columns) == CORRELATION_COLUMNS
    row = found.iloc[0]
    r = np.corrcoef(values, hardness.value)[0, 1]
    assert row["pearson_r"] == pytest.approx(r)
    assert row["n"] == 200
    # White series keep nearly all of their samples; the interval is Fisher's.
    assert row["n_effective"] > 150
    reach = 1.96 / np.sqrt(row["n_effective"] - 3)
    assert row["ci_low"] == pytest.approx(np.tanh(np.arctanh(r) - reach), abs=1e-4)
    assert row["ci_high"] == pytest.approx(np.tanh(np.arctanh(r) + reach), abs=1e-4)
    assert row["p_value"] < 1e-6


def test_independent_smooth_profiles_are_rarely_called_related():
    rng = np.random.default_rng(0)
    x = np.arange(80) * 100.0
    hits = naive = 0
    for _ in range(400):
        a, b = (gaussian_filter1d(rng.normal(size=200), 4.0)[60:140] for _ in range(2))
        row = correlate(along(a), Hardness(x, b, np.zeros(80), "HV")).iloc[0]
        hits += row["p_value"] < 0.05
        naive += abs(row["pearson_r"]) > 1.96 / np.sqrt(80)
    assert naive / 400 > 0.35  # what the naive test would say
    # 4.5 % is expected: 0.10 would be four standard deviations of chance above the 8 % allowed.
    assert hits / 400 <= 0.08


def test_the_offset_moves_indents_onto_the_mosaic():
    values = np.sin(np.arange(60) / 7.0)
    x = np.arange(10, 40) * 100.0
    hardness = Hardness(x - 1000.0, values[10:40], np.zeros(30), "HV")
    shifted = correlate(along(values), hardness, options=CorrelateOptions(x_offset_um=1000.0))
    assert shifted["pearson_r"].iloc[0] == pytest.approx(1.0)
    plain = correlate(along(values), hardness)
    assert plain["pearson_r"].iloc[0] < 0.9
    far = CorrelateOptions(x_offset_um=1e6)
    with pytest.raises(InputError, match="none meets it"):
        correlate(along(values), hardness, options=far)


def test_a_window_averages_the_profile_at_each_indent():
    values = np.where(np.arange(50) % 2, 1.0, 0.0) + np.arange(50) / 10
    hardness = Hardness(np.arange(5, 45) * 100.0, np.arange(5, 45) / 10, np.zeros(40), "HV")
    rough = correlate(along(values), hardness)["pearson_r"].iloc[0]
    options = CorrelateOptions(window_um=400.0)
    smooth = correlate(along(values), hardness, options=options)["pearson_r"].iloc[0]
    assert rough < 0.98 < 0.99 < smooth


def test_what_is_not_measured_is_left_out_and_too_little_is_nan():
    values = np.random.default_rng(0).normal(size=20)
    values[5:] = np.nan
    hardness = Hardness(np.arange(20) * 100.0, np.arange(20.0), np.zeros(20), "HV")
    assert correlate(along(values), hardness)["n"].iloc[0] == 5
    values[2:] = np.nan
    row = correlate(along(values), hardness).iloc[0]
    assert row["n"] == 2
    assert row[["pearson_r", "p_value", "ci_low", "ci_high"]].isna().all()


def test_smooth_series_carry_fewer_samples_than_they_have_points():
    rng = np.random.default_rng(1)
    smooth = [gaussian_filter1d(rng.normal(size=400), 5.0)[100:300] for _ in range(2)]
    # Gaussian smoothing by sigma 5: the product of two such autocorrelations sums to 12.5.
    assert effective_sample_size(*smooth) == pytest.approx(200 / 12.5, rel=0.6)


def test_the_points_are_what_the_correlation_says():
    rng = np.random.default_rng(5)
    values = rng.normal(size=30)
    values[4] = np.nan
    lengths = {"lamella_width_um": np.arange(30.0), "lamella_width_um_se": 0.1}
    table = along(values).assign(**lengths, lamella_width_px=1.0, lamella_width_px_se=0.1)
    hardness = Hardness(np.arange(-5, 20) * 100.0, rng.normal(size=25), np.zeros(25), "HV")
    options = CorrelateOptions(x_offset_um=200.0)
    points = correlation_points(table, hardness, options=options)
    assert [*points.columns] == [
        "x_um",
        "hardness",
        "bcc_fraction",
        "lamella_width_um",
        "hardness_error",
    ]
    # Indents at x = -500..1900 um, moved by 200 um; those left of the profile are left out.
    assert points["x_um"].tolist() == [100.0 * k for k in range(22)]
    assert points["hardness"].tolist() == hardness.value[3:].tolist()
    assert points["bcc_fraction"].to_numpy() == pytest.approx(values[:22], nan_ok=True)
    row = correlate(table, hardness, options=options).set_index("measure").loc["bcc_fraction"]
    known = points.dropna(subset=["bcc_fraction"])
    assert row["n"] == len(known) == 21
    assert row["pearson_r"] == pytest.approx(known["bcc_fraction"].corr(known["hardness"]))


def test_hardness_made_from_the_fraction_gives_its_r_within_the_interval():
    # As `cemi simulate` makes it: the fraction falls and rises along the ingot, cells scatter.
    rng, options = np.random.default_rng(9), SimulateOptions()
    covered, trials, n = 0, 300, 60
    trend = 0.34 + 0.009 * np.linspace(-1, 1, n) ** 2
    noise = options.hardness_noise / np.sqrt(5)
    for _ in range(trials):
        fraction = trend + rng.normal(0, 0.003, n)
        x = np.arange(n) * 100.0
        table = pd.DataFrame({"x_um": x, "bcc_fraction": fraction})
        made = hardness_table(table, options.model_copy(update={"seed": int(rng.integers(10**6))}))
        hardness = Hardness(x, made["hardness"].to_numpy(), made["error"].to_numpy(), "HV")
        row = correlate(along(fraction, se=0.001), hardness).iloc[0]
        signal = options.hardness_per_bcc * fraction.std()
        covered += row["ci_low"] <= signal / np.hypot(signal, noise) <= row["ci_high"]
    assert covered / trials >= 0.9


@pytest.mark.parametrize(("n", "sigma"), [(28, 2.0), (80, 4.0), (80, 8.0)])
def test_no_test_calls_independent_smooth_profiles_related_too_often(n, sigma):
    rng = np.random.default_rng(7)
    hits, trials = np.zeros(3), 600
    for _ in range(trials):
        a, b = (gaussian_filter1d(rng.normal(size=n + 120), sigma)[60 : n + 60] for _ in range(2))
        row = correlate(along(a), Hardness(np.arange(n) * 100.0, b, np.zeros(n), "HV")).iloc[0]
        found = (row["p_value"], row["spearman_p"], row["p_shift"])
        hits += [p < 0.05 for p in found]
    # Of 600, chance moves a rate of 5 % by 0.9; the bound is 8 %.
    assert (hits / trials <= 0.08).all()


def test_ranks_do_not_mind_a_bent_relation():
    x = np.random.default_rng(0).normal(size=60)
    found = spearman(x, np.exp(3 * x))
    assert found["r"] == pytest.approx(1.0)
    assert np.corrcoef(x, np.exp(3 * x))[0, 1] < 0.8


def test_circular_shifts_are_ranked_exactly():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 30))
    r = [abs(np.corrcoef(np.roll(a, k), b)[0, 1]) for k in range(30)]
    assert shift_p(a, b) == pytest.approx(np.mean(np.array(r) >= r[0] - 1e-12))


def test_a_partial_correlation_takes_a_common_cause_away():
    rng = np.random.default_rng(4)
    cause = rng.normal(size=150)
    table = along(cause + 0.3 * rng.normal(size=150)).assign(
        lamellar_fraction=cause, lamellar_fraction_se=0.01
    )
    hardness = Hardness(
        table["x_um"].to_numpy(), cause + 0.3 * rng.normal(size=150), np.zeros(150), "HV"
    )
    rows = correlate(table, hardness).set_index("measure")
    assert rows.loc["bcc_fraction", "pearson_r"] > 0.8
    assert abs(rows.loc["bcc_fraction", "partial_r"]) < 0.2
    assert rows.loc["lamellar_fraction", "partial_r"] > 0.5


def test_an_offset_is_found_and_the_search_is_paid_for():
    rng = np.random.default_rng(6)
    values = gaussian_filter1d(rng.normal(size=120), 2.0)
    x = np.arange(20, 100) * 100.0
    hardness = Hardness(x - 700.0, values[20:100] + 0.02 * rng.normal(size=80), np.zeros(80), "HV")
    options = CorrelateOptions(x_search_um=1000.0)
    row = correlate(along(values), hardness, options=options).iloc[0]
    assert row["x_offset_um"] == pytest.approx(700.0, abs=50.0)
    assert row["pearson_r"] > 0.95
    assert row["p_search"] < 0.05
    assert correlation_points(along(values), hardness, options=options)["x_um"][0] == x[0]


def test_a_search_in_unrelated_profiles_is_rarely_significant():
    rng = np.random.default_rng(8)
    options, x = CorrelateOptions(x_search_um=800.0), np.arange(15, 75) * 100.0
    paid = naive = 0
    for _ in range(150):
        a, b = (gaussian_filter1d(rng.normal(size=210), 2.0)[60:150] for _ in range(2))
        row = correlate(along(a), Hardness(x, b[:60], np.zeros(60), "HV"), options=options).iloc[0]
        paid += row["p_search"] < 0.05
        naive += row["p_value"] < 0.05
    assert naive / 150 > 0.2  # what choosing the best offset makes of the plain test
    assert paid / 150 <= 0.08


def features(n, seed, count=3):
    rng = np.random.default_rng(seed)
    values = {f"m{k}": rng.normal(size=n) for k in range(count)}
    return pd.DataFrame({"hardness": rng.normal(size=n), **values})


def test_a_model_of_random_features_is_exposed_as_over_fitted():
    r2, q2, told = [], [], 0
    for seed in range(60):
        models = fit_models(features(8, seed), ["m0", "m1", "m2"])
        full = models[(models["model"] == "linear") & (models["measures"] == "m0+m1+m2")].iloc[0]
        r2.append(full["r2"])
        q2.append(full["q2"])
        told += full["over_fitted"]
    assert np.median(r2) > 0.4
    assert np.median(q2) < -0.3
    assert told >= 54  # of 60


def test_a_true_model_keeps_its_q2_in_new_blocks():
    rng = np.random.default_rng(1)
    points = features(60, 0).assign(
        hardness=lambda p: 300 + 4 * p["m0"] - 2 * p["m1"] + rng.normal(size=60)
    )
    models = fit_models(points, ["m0", "m1", "m2"]).set_index(["model", "measures"])
    full = models.loc[("linear", "m0+m1+m2")]
    assert full["q2"] > 0.9
    assert full["q2_blocks"] > 0.9
    assert not full["over_fitted"]
    assert models.loc[("ridge", "m0+m1+m2"), "q2"] > 0.9
    assert models.loc[("linear", "m2"), "q2"] < 0.1


def test_leave_one_out_in_closed_form_is_that_of_refitting():
    points = features(20, 3)
    full = fit_models(points, ["m0", "m1"]).query("model == 'linear' and measures == 'm0+m1'")
    y, x = points["hardness"].to_numpy(), points[["m0", "m1"]].to_numpy()
    missed, alone = [], []
    for i in range(20):
        rest = np.arange(20) != i
        design = np.column_stack([np.ones(19), x[rest]])
        fit = np.linalg.lstsq(design, y[rest], rcond=None)[0]
        missed.append(y[i] - fit @ [1, *x[i]])
        alone.append(y[i] - y[rest].mean())
    expected = 1 - np.sum(np.square(missed)) / np.sum(np.square(alone))
    assert full["q2"].iloc[0] == pytest.approx(expected)


def test_smooth_random_features_are_exposed_more_often_than_leaving_one_out_would():
    rng = np.random.default_rng(5)
    told = fooled = 0
    for _ in range(30):
        smooth = gaussian_filter1d(rng.normal(size=(4, 220)), 6.0, axis=1)[:, 60:140]
        points = pd.DataFrame(smooth.T, columns=["hardness", "m0", "m1", "m2"])
        full = fit_models(points, ["m0", "m1", "m2"]).iloc[3]
        fooled += full["q2"] > 0.2  # neighbours give away what was left out
        told += full["over_fitted"]
    # Seven independent indents and three measures: some chance relations look real to any test.
    assert fooled >= 20
    assert told >= 18
