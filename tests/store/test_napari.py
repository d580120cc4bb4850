"""napari opens a mosaic with its labels: what the reader named in the manifest gives it."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import cemi_dask
from cemi_dask.store import MosaicOptions, napari_layers, write_label, write_mosaic, write_pyramid

npe2 = pytest.importorskip("npe2", reason="npe2, the plug-in engine of napari, is not installed")
MANIFEST = Path(cemi_dask.__file__).with_name("napari.yaml")


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    path = tmp_path / "mosaic.ome.zarr"
    picture = np.random.default_rng(0).integers(60, 200, (600, 1500), np.uint8)
    options = MosaicOptions(shard_px=512, chunk_px=256)
    array = da.from_array(picture, chunks=options.shard_shape(picture.shape))
    write_mosaic(array, path, pixel_um=0.25, options=options)
    write_pyramid(path)
    write_label((array > 100).astype(np.uint8), path, "bcc")
    write_pyramid(path, label="bcc")
    return path


def test_the_manifest_leads_napari_to_picture_and_labels(mosaic: Path) -> None:
    manager = npe2.PluginManager.instance()  # `npe2.read` asks this one alone
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    manager.get_manifest("cemi-dask").validate_imports()
    picture, label = npe2.read([str(mosaic)], stack=False)
    assert [layer[2] for layer in (picture, label)] == ["image", "labels"]
    for levels, told, _ in (picture, label):
        assert [level.shape for level in levels] == [(600, 1500), (300, 750)]
        assert all(isinstance(level, da.Array) for level in levels)
        assert told["scale"] == (0.25, 0.25)
        assert told["units"] == ("um", "um")
    same = label[0][0].compute() == (picture[0][0] > 100).compute()
    assert same.all()


def test_other_folders_are_left_to_other_readers(tmp_path: Path, mosaic: Path) -> None:
    from cemi_dask.store.napari import napari_reader

    assert napari_reader(str(tmp_path)) is None
    assert napari_reader([str(mosaic), str(mosaic)]) is None
    assert napari_reader(str(mosaic)) is napari_layers
