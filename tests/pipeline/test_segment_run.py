"""Networks that find lamellar regions in a run, and segmenters measured against masks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cemi_dask.learn.weights import file_sha256
from cemi_dask.pipeline import parse_config
from cemi_dask.pipeline.evaluate_segment import judge, parse_segmenters, simulated_pictures
from cemi_dask.pipeline.plan import work
from cemi_dask.segment import Coherence, Network
from cemi_dask.store import open_mosaic
from tests.pipeline.conftest import Words
from tests.segment.networks import written_segmenter

TILES = {"tile_px": 96, "overlap_px": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :230]
    grey = 120 + 40 * np.sin(2 * np.pi * (x + y / 2) / 6) * (x > 90) + rng.normal(0, 20, x.shape)
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    cv2.imwrite(str(path), np.clip(grey, 1, 255).astype(np.uint8))
    return path


def test_a_run_labels_with_the_network_and_knows_its_weights(
    picture: Path, scheduler: str, tmp_path: Path, done: Words
) -> None:
    weights, out = written_segmenter(tmp_path / "small.safetensors"), tmp_path / "out"
    method = json.dumps({"method": "network", "model": str(weights), **TILES})

    def analyse() -> dict:
        cell = ("--cell", "100x100", "--cluster", scheduler)
        done("analyse", picture, "--out", out, "--lamellar", method, *cell)
        return json.loads((out / "run.json").read_text())

    told = analyse()
    assert told["segmenters"]["lamellar"]["sha256"] == file_sha256(weights)
    assert "sha256" not in told["segmenters"]["bcc"]
    wanted = Network(model=str(weights), **TILES)(cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE))
    assert 0.1 < wanted.mean() < 0.9
    found = open_mosaic(out / "mosaic.ome.zarr").label("lamellar").compute()
    np.testing.assert_array_equal(found, wanted)
    written_segmenter(weights, seed=1)  # other weights under the same name
    assert analyse()["stages"]["segment"]["skipped"] == 0


def test_what_the_stage_would_end_in_is_refused_at_once(
    picture: Path, tmp_path: Path, refused: Words
) -> None:
    weights = written_segmenter(tmp_path / "two.safetensors", labels=("pore", "crack"))
    for options, told in (
        ({"model": str(weights)}, "knows no label 'lamellar', only pore, crack"),
        ({"model": str(weights), "label": "pore", "tile_px": 100}, "must be a multiple of 32"),
        ({"model": "kompakt"}, "'kompakt' is no model"),
    ):
        method = json.dumps({"method": "network", **options})
        assert told in refused(2, "analyse", picture, "--out", tmp_path / "o", "--lamellar", method)
    assert not (tmp_path / "o").exists()


def test_the_plan_counts_the_networks_memory() -> None:
    def segmenting(lamellar: str) -> int:
        values = {"input": {"paths": ["x"]}, "segment": {"lamellar": lamellar}}
        rows = work(parse_config(values), sources=1, frames=20, shape=(690, 1024))
        return next(memory for stage, _, _, memory in rows if stage == "segment")

    assert segmenting("network") > segmenting("coherence")


def test_segmenters_are_measured_against_masks(
    picture: Path, tmp_path: Path, done: Words, refused: Words
) -> None:
    grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    for folder, image in (("p", grey), ("m", np.uint8(255) * Coherence()(grey))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), image)
    given = ("evaluate", "segment", tmp_path / "p", tmp_path / "m", "--out", tmp_path / "out")
    told = done(*given, "--method", "coherence", "--method", "{method: bandpass, period_px: 6}")
    assert "Mean of 1 picture(s)" in told
    table = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index("method")
    assert table.loc["coherence", "iou"] == table.loc["coherence", "boundary_f1"] == 1
    assert table.loc["coherence", "fraction_error_points"] == 0
    assert 0.3 < table.loc["bandpass, period_px 6", "iou"] < 1
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 2
    cv2.imwrite(str(tmp_path / "m" / "b.png"), grey)
    assert "without a partner: b" in refused(2, *given)
    assert "or --simulated alone" in refused(2, "evaluate", "segment", tmp_path / "p")


def test_simulated_pictures_have_their_truth_and_come_again() -> None:
    given = {"shape": (200, 300), "noise_sigma": 25.0, "seed": 1}
    (first,), (again,) = (list(simulated_pictures(1, **given)) for _ in range(2))
    np.testing.assert_array_equal(first.grey, again.grey)
    told, found = judge(parse_segmenters(["coherence"])["coherence"], first)
    assert told["fraction_error_points"] == pytest.approx(100 * (found.mean() - first.truth.mean()))
    assert told["iou"] > 0.8
