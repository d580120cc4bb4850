"""`cemi evaluate denoise`: pairs are aligned, methods measured, tables and pictures written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cemi_dask import denoise
from cemi_dask.errors import ConfigError
from cemi_dask.pipeline.evaluate import NOISY, evaluate_denoise, parse_methods
from cemi_dask.pipeline.evaluate_fields import simulated_fields
from cemi_dask.report.strip_figure import CROP_PX, ZOOM, Panel, best_crop, picture_strip
from tests.denoise.pairs import Askew, Pair, make_pair
from tests.pipeline.conftest import Words

SHAPE = (288, 384)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair(SHAPE, Askew(drift_px=1.0))


@pytest.fixture(scope="module")
def folders(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders LD and HD: field a fits, field b shows another place in HD."""
    base = tmp_path_factory.mktemp("pairs")
    other = make_pair(SHAPE, Askew(drift_px=1.0), place=(6000, 30_000))
    ld, hd = base / "ld", base / "hd"
    for folder, pictures in ((ld, (pair.ld, pair.ld)), (hd, (pair.hd, other.hd))):
        folder.mkdir()
        for name, picture in zip("ab", pictures, strict=True):
            assert cv2.imwrite(str(folder / f"{name}.png"), picture)
    return ld, hd


def test_pairs_are_aligned_measured_and_strangers_left_out(
    folders: tuple[Path, Path], tmp_path: Path, done: Words
) -> None:
    told = done("evaluate", "denoise", *folders, "--method", "median", "--out", tmp_path)
    assert "b is left out" in told
    assert "different fields" in told
    assert "LPIPS is unavailable without its weights" in told
    table = pd.read_csv(tmp_path / "metrics.csv").set_index("method")
    assert list(table.index) == [NOISY, "median"]
    assert set(table["picture"]) == {"a"}
    assert table["lpips"].isna().all()
    # The noise put on the picture is 25 levels, that of the reference 4.5: both are told apart.
    assert table.loc[NOISY, "residual_levels"] == pytest.approx(25, rel=0.03)
    assert table.loc[NOISY, "modulation"] == pytest.approx(1, abs=0.05)
    assert table.loc["median", "modulation"] < 0.8  # why it is not the default
    strip = cv2.imread(str(tmp_path / "strips" / "a.png"))
    assert strip.shape[1] > 3 * ZOOM * CROP_PX
    assert not (tmp_path / "strips" / "b.png").exists()


def test_aligned_pictures_are_taken_as_they_lie(
    folders: tuple[Path, Path], tmp_path: Path, done: Words, refused: Words
) -> None:
    sharp = folders[1] / "a.png"
    command = ["evaluate", "denoise", sharp, sharp, "--aligned", "--method", "median"]
    done(*command, "--out", tmp_path)
    table = pd.read_csv(tmp_path / "metrics.csv").set_index("method")
    assert table.loc[NOISY, "psnr_db"] == np.inf
    assert table.loc[NOISY, "bcc_error_points"] == 0
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), cv2.imread(str(sharp), cv2.IMREAD_GRAYSCALE)[:200])
    assert "Leave --aligned away" in refused(
        1, "evaluate", "denoise", small, sharp, "--aligned", "--out", tmp_path
    )


def test_simulated_fields_have_their_truth_and_come_again(tmp_path: Path) -> None:
    def fields():
        return simulated_fields(2, shape=(256, 320), noise_sigma=25.0, seed=1)

    first, second = list(fields()), list(fields())
    np.testing.assert_array_equal(first[1].noisy, second[1].noisy)
    assert not np.array_equal(first[0].reference, first[1].reference)
    found = evaluate_denoise(fields(), parse_methods(["fourier"])[0], tmp_path)
    summary = found.summary()
    assert list(summary.index) == [NOISY, "fourier"]
    # Noise has 25 levels at grey 128 and Poisson's share elsewhere; the specimen is about there.
    assert summary.loc[NOISY, "residual_levels"] == pytest.approx(25, rel=0.05)
    gained = summary["psnr_db"]["fourier"] - summary["psnr_db"][NOISY]
    assert gained > 5
    # Bradley's fraction of a noise-free picture is nearer to the truth's than a noisy one's.
    errors = summary["bcc_error_points"].abs()
    assert errors["fourier"] < max(1.0, errors[NOISY])
    assert len(list((tmp_path / "strips").iterdir())) == 2


def test_methods_are_names_or_mappings_and_by_default_all_that_work() -> None:
    made, _ = parse_methods(["fourier", "{method: nlm, strength: 20}"])
    assert list(made) == ["fourier", "nlm, strength 20"]
    assert made["nlm, strength 20"] == denoise.NonLocalMeans(strength=20)
    working, left_out = parse_methods([])
    assert {"fourier", "dct", "nlm", "median"} <= set(working)
    named = {note.partition(" is left out: ")[0] for note in left_out}
    assert set(working) | named == set(denoise.DENOISERS.classes())
    for wrong, message in (
        (["furier"], "did you mean 'fourier'"),
        (["{method: nlm, strenth: 2}"], "strenth"),
        (["{method: nlm"], "neither a name nor YAML"),
        (["median", "median"], "given twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_methods(wrong)


def test_wrong_inputs_are_told(folders: tuple[Path, Path], tmp_path: Path, refused: Words) -> None:
    ld, hd = folders
    evaluate = ["evaluate", "denoise"]
    out = ["--out", tmp_path / "out", "--method", "median"]
    assert "or --simulated alone" in refused(2, *evaluate, ld, *out)
    assert "or --simulated alone" in refused(2, *evaluate, ld, hd, "--simulated", *out)
    assert "both be pictures, or both folders" in refused(2, *evaluate, ld, hd / "a.png", *out)
    assert "No pair of pictures is left" in refused(1, *evaluate, ld / "b.png", hd / "b.png", *out)
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    (lonely / "c.png").write_bytes((ld / "a.png").read_bytes())
    assert "without a partner: a, b, c" in refused(1, *evaluate, ld, lonely, *out)
    assert "no complete set of weights" in refused(
        2, *evaluate, ld, hd, *out, "--lpips-weights", tmp_path
    )
    assert not (tmp_path / "out").exists()


def test_the_strip_shows_the_known_crop_of_most_contrast() -> None:
    rng = np.random.default_rng(0)
    reference = np.full((500, 700), 100, np.float32)
    reference[200:460, 400:660] += rng.normal(0, 20, (260, 260))
    reference[:, 690:] = np.nan
    rows, cols = best_crop(reference)
    assert (rows.start, cols.start) == pytest.approx((210, 410), abs=20)
    png = picture_strip([Panel(reference, "one\ntwo"), Panel(reference, "reference")])
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    crop = picture[-12 - ZOOM * CROP_PX : -12 : ZOOM, 12 : 12 + ZOOM * CROP_PX : ZOOM]
    shown = np.corrcoef(crop.ravel(), reference[rows, cols].ravel())[0, 1]
    assert shown > 0.99  # grey levels are clipped at 0.5 and 99.5 %
