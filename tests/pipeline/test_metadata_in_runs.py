"""A run uses the pixel size and stage positions in its files, and starts anew when they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tifffile import imwrite

from cemi_dask import store
from cemi_dask.errors import InputError
from cemi_dask.pipeline import run
from cemi_dask.pipeline.plan import make_plan
from cemi_dask.pipeline.single import analyse_mosaic, denoise_files
from tests.frames.microscopes import FEI, FEI_VALUES, HITACHI, write_tagged
from tests.frames.recordings import look, specimen
from tests.pipeline.conftest import Words

SIZE = (128, 160)
CORNERS = [(0, 0), (110, 3), (2, 85), (112, 88)]
PIXEL_UM = 0.5


def tile_of(number: int) -> np.ndarray:
    x, y = CORNERS[number]
    ground = specimen(300, 240, seed=5)
    rng = np.random.default_rng(number)
    return look(ground[y : y + SIZE[0], x : x + SIZE[1]], rng, 6.0)


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """A config of four tiles that FEI tags describe: 0.5 um/px, x to the right, y up, a bar."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number, (x, y) in enumerate(CORNERS):
        pixels = np.vstack([tile_of(number), np.zeros((20, SIZE[1]), np.uint8)])
        values = {"pixel": "5e-7", "field": "8e-5", "width": SIZE[1], "height": SIZE[0]}
        stage = {"x": f"{x * PIXEL_UM}e-6", "y": f"{-y * PIXEL_UM}e-6"}
        text = FEI.format(**{**FEI_VALUES, **values, **stage})
        write_tagged(folder / f"{'axkb'[number]}.tif", 34682, text, pixels)
    return write(tmp_path, {"paths": ["tiles"]})


def write(folder: Path, source: dict[str, Any]) -> Path:
    config = folder / "tiles.yaml"
    values = {
        "input": source,
        "denoise": None,
        "segment": None,
        "analyse": None,
        "mosaic": {"shard_px": 256, "chunk_px": 64},
    }
    config.write_text(yaml.safe_dump(values))
    return config


def test_a_run_takes_everything_from_the_tags(tagged: Path, scheduler: str, tmp_path: Path) -> None:
    notes = " ".join(make_plan(tagged, out=tmp_path / "run").notes)
    for part in ("pixel size 0.5 um", "20 px at the bottom", "stage positions", "y grows up"):
        assert part in notes
    result = run(tagged, out=tmp_path / "run", cluster=scheduler)
    assert store.open_mosaic(result.mosaic).pixel_um == PIXEL_UM
    told = json.loads((result.out / "run.json").read_text())
    assert told["pixel_um"] == PIXEL_UM
    assert told["input"]["metadata"]["detector"] == "TLD"
    assert told["input"]["crop"]["bottom"] == 20
    assert not [text for text in told["warnings"] if "pixel size" in text]
    table = store.read_table(result.tables, "positions")
    placed = {Path(str(r["file"])).stem: (r["x_px"], r["y_px"]) for r in table.to_dict("records")}
    origin = placed["a"]
    for name, corner in zip("axkb", CORNERS, strict=True):
        found = np.subtract(placed[name], origin)
        assert found == pytest.approx(corner, abs=0.1)  # noise 6 of contrast 27
    page = result.report.read_text()
    for part in ("Acquisition", "Strata DB", "TLD", "3 kV", "0.5 µm", "20 px at the bottom"):
        assert part in page


def sidecars(folder: Path, pixel_nm: float) -> None:
    for number, (x, _) in enumerate(CORNERS[:2]):
        text = HITACHI.format(pixel=pixel_nm, x=1000 * x).replace("64x40", f"{SIZE[1]}x{SIZE[0]}")
        (folder / f"t_{number}.txt").write_text(text)


def test_a_changed_sidecar_is_not_overlooked(scheduler: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(2):
        imwrite(folder / f"t_{number}.tif", tile_of(number))
    sidecars(folder, 500.0)
    config = write(tmp_path, {"paths": ["tiles"], "crop": "none"})
    first = run(config, out=tmp_path / "run", cluster=scheduler)
    assert store.open_mosaic(first.mosaic).pixel_um == 0.5
    again = run(config, out=tmp_path / "run", cluster=scheduler)
    assert again.summary["stages"]["blend"]["skipped"] > 0
    sidecars(folder, 250.0)
    anew = run(config, out=tmp_path / "run", cluster=scheduler)
    assert store.open_mosaic(anew.mosaic).pixel_um == 0.25
    assert anew.summary["stages"]["blend"]["skipped"] == 0


def test_without_a_pixel_size_the_run_says_that_lengths_are_in_px(
    scheduler: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(2):
        imwrite(folder / f"t_{number}.tif", tile_of(number), resolution=(72, 72))
    result = run(write(tmp_path, {"paths": ["tiles"]}), out=tmp_path / "run", cluster=scheduler)
    assert result.summary["pixel_um"] is None
    assert any("lengths are in px" in text for text in result.summary["warnings"])
    assert store.open_mosaic(result.mosaic).pixel_um is None


def test_files_that_disagree_end_a_command_with_both_values(
    tagged: Path, scheduler: str, tmp_path: Path, refused: Words
) -> None:
    tile = tmp_path / "tiles" / "x.tif"
    tile.write_bytes(tile.read_bytes().replace(b"PixelWidth=5e-7", b"PixelWidth=6e-7"))
    error = refused(1, "plan", tagged, "--out", tmp_path / "run")
    for part in ("a.tif", "0.5 um", "x.tif", "0.6 um", "input.pixel_um"):
        assert part in error
    with pytest.raises(InputError):
        run(tagged, out=tmp_path / "run", cluster=scheduler)
    # Denoising needs no pixel size: pictures of all magnifications go together.
    assert denoise_files(str(tmp_path / "tiles"), tmp_path / "clean", method="fourier") == 4


def test_an_analysis_takes_the_pixel_size_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    values = {"pixel": "5e-7", "field": "", "width": SIZE[1], "height": SIZE[0]}
    write_tagged(path, 34682, FEI.format(**{**FEI_VALUES, **values}), tile_of(0))
    options = {"grid": {"cell_px": [64, 64]}}
    result = analyse_mosaic(path, tmp_path / "run", options=options)
    assert result.summary["pixel_um"] == 0.5
    given = analyse_mosaic(path, tmp_path / "run", options=options, pixel_um=0.25)
    assert store.open_mosaic(given.mosaic).pixel_um == 0.25
