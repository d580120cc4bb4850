"""Runs whose frames are averaged with the frames around them, where the layout puts them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cemi_dask.denoise import denoise, estimate_noise
from cemi_dask.pipeline import run
from cemi_dask.pipeline.plan import make_plan
from cemi_dask.pipeline.video_data import SolvedRun
from cemi_dask.store import open_frame_store
from tests.pipeline.conftest import Words, contents, redone, write_config

OVERLAP: dict[str, Any] = {"method": "overlap", "feather_px": 16.0}


@pytest.fixture(scope="module")
def config(ingot: Path) -> Path:
    return write_config(ingot, denoise=OVERLAP)


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that has come as far as blend."""
    return run(config, out=tmp_path_factory.mktemp("overlap") / "run", until="blend").out


def denoised(out: Path) -> np.ndarray:
    keys = [key.replace("raw/", "denoised/", 1) for key in SolvedRun.of(out).keys]
    return open_frame_store(out / "frames.zarr", keys).compute(scheduler="sync")


def test_frames_denoised_in_parts_equal_those_denoised_at_once(whole: Path) -> None:
    solved = SolvedRun.of(whole)
    raw = solved.frames()
    layout = solved.layout(raw.frame_shape)
    at_once = denoise(raw, method=OVERLAP, layout=layout).data.compute(scheduler="sync")
    assert np.array_equal(denoised(whole), at_once)
    noise = [np.mean([estimate_noise(frame) for frame in k]) for k in (raw.data.compute(), at_once)]
    # Two rows of six frames: 0.74 when written. Half of the pixels have one look alone.
    assert noise[1] < 0.85 * noise[0]


def test_frames_are_denoised_again_where_they_may_lie_elsewhere(config: Path, whole: Path) -> None:
    run(config, out=whole, until="blend")
    assert redone(whole) == set()
    out = whole.with_name("moved")
    shutil.copytree(whole, out)
    run(write_config(config, solve={"outlier_sigmas": 6.5}), out=out, until="blend")
    assert redone(out) == {"denoise", "blend"}
    # `outlier_px` is the larger limit: the same places, so the same frames.
    assert contents(out / "frames.zarr") == contents(whole / "frames.zarr")


def test_frames_denoised_alone_stay_where_they_may_lie_elsewhere(
    ingot: Path, tmp_path: Path
) -> None:
    config = write_config(ingot, denoise={"method": "median"}, name="alone")
    out = run(config, out=tmp_path / "run", until="denoise").out
    run(write_config(config, solve={"outlier_sigmas": 6.5}), out=out, until="denoise")
    assert redone(out) == set()


def test_the_plan_counts_the_neighbours(ingot: Path, config: Path) -> None:
    alone = write_config(ingot, denoise={"method": "median"}, name="alone")
    needs = [
        next(demand.memory for demand in make_plan(k).demands if demand.stage == "denoise")
        for k in (alone, config)
    ]
    assert needs[1] - needs[0] >= 30 * 208 * 320  # four frames and those around them


def test_single_frames_cannot_be_denoised_so(tmp_path: Path, refused: Words) -> None:
    words = ("denoise", tmp_path / "a.tif", tmp_path / "b.tif", "--method", "overlap")
    assert "'overlap' takes the frames around a frame" in refused(2, *words)
