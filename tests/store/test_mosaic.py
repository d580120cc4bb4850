"""The mosaic on disk: valid OME-Zarr, one task per shard, resumable."""

from __future__ import annotations

import json

import dask
import dask.array as da
import numpy as np
import pytest
import yaozarrs
import zarr

from cemi_dask.errors import CemiError, ConfigError, StoreError
from cemi_dask.store import (
    Legend,
    MosaicOptions,
    fit_shard,
    open_mosaic,
    write_label,
    write_mosaic,
    write_pyramid,
)

SMALL = MosaicOptions(shard_px=128, chunk_px=32, levels=3)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def picture(shape=(300, 421), seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def lazy(pixels, shard_px=128):
    return da.from_array(pixels, chunks=shard_px)


def recording(log):
    """A Compute that writes down the items it is given and their results."""

    def compute(items):
        results = dict(zip(items, dask.compute(*items.values()), strict=True))
        log.update(results)
        return results

    return compute


def test_what_is_written_is_read_back_in_shards(tmp_path):
    pixels = picture()
    mosaic = write_mosaic(lazy(pixels), tmp_path / "m.zarr", pixel_um=0.222, options=SMALL)
    assert mosaic.shape == (300, 421)
    assert mosaic.pixel_um == 0.222
    assert mosaic.levels[0].chunks == ((128, 128, 44), (128, 128, 128, 37))
    np.testing.assert_array_equal(mosaic.levels[0].compute(), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_every_type_and_codec_survives(tmp_path, dtype, codec):
    pixels = picture(dtype=dtype)
    options = MosaicOptions(shard_px=128, chunk_px=32, codec=codec, levels=2)
    write_mosaic(lazy(pixels), tmp_path / "m.zarr", pixel_um=None, options=options)
    mosaic = write_pyramid(tmp_path / "m.zarr")
    np.testing.assert_array_equal(mosaic.levels[0].compute(), pixels)
    yaozarrs.validate_zarr_store(str(tmp_path / "m.zarr"))


def test_one_item_per_shard_with_stable_names_and_json_results(tmp_path):
    log = {}
    write_mosaic(
        lazy(picture()), tmp_path / "m", pixel_um=1.0, options=SMALL, compute=recording(log)
    )
    assert sorted(log) == sorted(f"blend-shard/{r}-{c}" for r in range(3) for c in range(4))
    assert log["blend-shard/2-3"] == {"bytes": 44 * 37}
    assert json.loads(json.dumps(log)) == log
    log.clear()
    write_pyramid(tmp_path / "m", compute=recording(log))
    assert {name.rsplit("/")[0] for name in log} == {"pyramid-shard"}
    assert "pyramid-shard/2-0-0" in log


def test_metadata_pass_both_validators_and_state_micrometres(tmp_path):
    from ome_zarr_models.v05.image import Image
    from ome_zarr_models.v05.image_label import ImageLabel

    path = tmp_path / "m.zarr"
    mosaic = write_mosaic(lazy(picture()), path, pixel_um=0.25, options=SMALL)
    write_pyramid(path)
    legend = Legend(meaning={1: "BCC", 2: "FCC"}, colors={2: (1, 2, 3, 4)})
    write_label((mosaic.levels[0] > 99).astype(np.uint8), path, "bcc", legend=legend)
    write_pyramid(path, label="bcc")
    yaozarrs.validate_zarr_store(str(path))
    image = Image.from_zarr(zarr.open_group(str(path), mode="r")).attributes.ome.multiscales[0]
    assert [(axis.name, axis.unit) for axis in image.axes] == [
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    scales = [d.coordinateTransformations[0].scale for d in image.datasets]
    starts = [d.coordinateTransformations[1].translation for d in image.datasets]
    assert scales == [[0.25, 0.25], [0.5, 0.5], [1.0, 1.0]]
    # The first pixel of level i is centred (2^i - 1) / 2 px from that of level 0.
    assert starts == [[0.0, 0.0], [0.125, 0.125], [0.375, 0.375]]
    label = ImageLabel.from_zarr(zarr.open_group(str(path / "labels" / "bcc"), mode="r"))
    meanings = {p.label_value: p.model_dump() for p in label.attributes.ome.image_label.properties}
    assert meanings[1]["meaning"] == "BCC"
    assert open_mosaic(path).labels == ("bcc",)


def test_unknown_pixel_size_is_said_not_guessed(tmp_path):
    path = tmp_path / "m.zarr"
    assert write_mosaic(lazy(picture()), path, pixel_um=None, options=SMALL).pixel_um is None
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    image = attributes["ome"]["multiscales"][0]
    assert all("unit" not in axis for axis in image["axes"])
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 1.0]
    assert "unknown" in attributes["cemi"]["note"]
    assert open_mosaic(path).pixel_um is None


def test_blocks_that_are_not_the_shards_are_refused_with_both_sizes(tmp_path):
    with pytest.raises(ConfigError, match=r"100 x 100 px.*128 x 128 px"):
        write_mosaic(lazy(picture(), 100), tmp_path / "m", pixel_um=1.0, options=SMALL)
    assert not (tmp_path / "m").exists()
    with pytest.raises(ValueError, match=r"100.*32"):
        MosaicOptions(shard_px=100, chunk_px=32)


@pytest.mark.parametrize("shape", [(10, 20), (33, 500), (128, 128), (129, 40)])
def test_small_mosaics_shrink_the_shard_to_whole_chunks(tmp_path, shape):
    pixels = picture(shape)
    blocks = lazy(pixels, fit_shard(shape, SMALL))
    mosaic = write_mosaic(blocks, tmp_path / "m", pixel_um=1.0, options=SMALL)
    np.testing.assert_array_equal(mosaic.levels[0].compute(), pixels)
    shards = zarr.open_array(str(tmp_path / "m" / "0")).shards
    assert shards == tuple(min(128, -(-n // 32) * 32) for n in shape)


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_resumed_mosaic_is_byte_identical_and_keeps_finished_shards(tmp_path):
    blocks = lazy(picture())
    write_mosaic(blocks, tmp_path / "whole", pixel_um=1.0, options=SMALL)
    finished = {}

    def killed_half_way(items):
        for name, item in items.items():
            if len(finished) == 5:
                raise KeyboardInterrupt
            finished[name] = item.compute()
        return finished

    path = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=killed_half_way)
    with pytest.raises(StoreError, match="no OME-Zarr mosaic"):
        open_mosaic(path)
    (path / "0" / "c" / "0" / "3.0123456789abcdef.partial").write_bytes(b"torn")
    before = {p: p.stat().st_mtime_ns for p in (path / "0" / "c").rglob("*") if p.is_file()}

    def only_the_rest(items):
        rest = {n: i.compute() for n, i in items.items() if n not in finished}
        return {**finished, **rest}

    write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=only_the_rest)
    assert files_of(path) == files_of(tmp_path / "whole")
    kept = [p for p, t in before.items() if p.exists() and p.stat().st_mtime_ns == t]
    assert len(kept) == 5


def test_calling_again_with_nothing_to_do_changes_nothing(tmp_path):
    path, log = tmp_path / "m", {}
    blocks = lazy(picture())
    mosaic = write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=recording(log))
    write_pyramid(path)
    write_label((mosaic.levels[0] > 9).astype(np.uint8), path, "bcc")
    before = files_of(path)
    write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=lambda items: log)
    assert files_of(path) == before


def test_new_pixels_drop_levels_and_labels_of_the_old_ones(tmp_path):
    path = tmp_path / "m"
    mosaic = write_mosaic(lazy(picture()), path, pixel_um=1.0, options=SMALL)
    write_pyramid(path)
    write_label((mosaic.levels[0] > 9).astype(np.uint8), path, "bcc")
    again = write_mosaic(lazy(picture(seed=1)), path, pixel_um=1.0, options=SMALL)
    assert len(again.levels) == 1
    assert again.labels == ()
    np.testing.assert_array_equal(again.levels[0].compute(), picture(seed=1))


def test_a_mosaic_being_rewritten_counts_as_unfinished(tmp_path):
    path = tmp_path / "m"
    write_mosaic(lazy(picture()), path, pixel_um=1.0, options=SMALL)

    def killed_after_one(items):
        next(iter(items.values())).compute()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mosaic(
            lazy(picture(seed=1)), path, pixel_um=1.0, options=SMALL, compute=killed_after_one
        )
    with pytest.raises(StoreError, match="no OME-Zarr mosaic"):
        open_mosaic(path)


def test_a_shard_lost_after_its_task_was_done_is_an_error_not_black(tmp_path):
    path, log = tmp_path / "m", {}
    blocks = lazy(picture())
    write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=recording(log))
    (path / "0" / "c" / "1" / "2").unlink()
    with pytest.raises(StoreError, match=r"c/1/2 is missing"):
        write_mosaic(blocks, path, pixel_um=1.0, options=SMALL, compute=lambda items: log)


def test_another_mosaic_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "m"
    write_mosaic(lazy(picture()), path, pixel_um=1.0, options=SMALL)
    other = lazy(picture((200, 200)))
    with pytest.raises(StoreError, match=r"shape.*300, 421.*200, 200"):
        write_mosaic(other, path, pixel_um=1.0, options=SMALL)
    replaced = write_mosaic(other, path, pixel_um=1.0, options=SMALL, overwrite=True)
    assert replaced.shape == (200, 200)


def test_overwriting_never_deletes_what_is_no_mosaic(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        write_mosaic(lazy(picture()), tmp_path, pixel_um=1.0, options=SMALL, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_shard_of_zeros_leaves_a_file_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "m"
    write_mosaic(lazy(picture()), path, pixel_um=1.0, options=SMALL)
    write_mosaic(lazy(np.zeros((300, 421), np.uint8)), path, pixel_um=1.0, options=SMALL)
    assert not open_mosaic(path).levels[0].compute().any()
    assert (path / "0" / "c" / "2" / "3").is_file()


def test_what_is_no_mosaic_gets_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="no such folder"):
        open_mosaic(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"has no zarr\.json"):
        open_mosaic(tmp_path)
    zarr.create_array(str(tmp_path / "a"), shape=(4, 4), dtype="u1")
    with pytest.raises(StoreError, match="give its parent"):
        open_mosaic(tmp_path / "a")
    zarr.create_group(str(tmp_path / "g"))
    with pytest.raises(StoreError, match="multiscales"):
        open_mosaic(tmp_path / "g")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"zarr\.json cannot be read"):
        open_mosaic(tmp_path / "bad")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_shard_is_an_error_not_black(tmp_path, damage):
    mosaic = write_mosaic(lazy(picture()), tmp_path / "m", pixel_um=1.0, options=SMALL)
    shard = tmp_path / "m" / "0" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[-2] ^= 255  # inside the index, which carries a checksum
    shard.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"):
        mosaic.levels[0].blocks[0, 0].compute()


def test_unwritten_labels_are_named_with_those_there_are(tmp_path):
    mosaic = write_mosaic(lazy(picture()), tmp_path / "m", pixel_um=1.0, options=SMALL)
    with pytest.raises(StoreError, match="'bcc'"):
        mosaic.label("bcc")
    with pytest.raises(StoreError, match="'bcc'"):
        write_pyramid(tmp_path / "m", label="bcc")
    with pytest.raises(ConfigError, match=r"\(9, 9\).*\(300, 421\)"):
        write_label(lazy(picture((9, 9))), tmp_path / "m", "bcc")


def test_graphs_carry_paths_not_arrays(tmp_path):
    from distributed.protocol import dumps

    mosaic = write_mosaic(lazy(picture()), tmp_path / "m", pixel_um=1.0, options=SMALL)
    task = next(iter(mosaic.levels[0].__dask_graph__().values()))
    assert sum(memoryview(part).nbytes for part in dumps(task)) < 1500


def test_a_full_disk_is_named_with_the_path(tmp_path, monkeypatch):
    import errno
    from pathlib import Path

    def refuse(self, *args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match=r"Cannot write .*m.*: No space left.*Free some space"):
        write_mosaic(lazy(picture()), tmp_path / "m", pixel_um=1.0, options=SMALL)


def test_every_refusal_is_a_cemi_error():
    assert issubclass(StoreError, CemiError)
    assert issubclass(StoreError, OSError)
