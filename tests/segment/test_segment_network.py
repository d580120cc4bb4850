"""Labels by a network: tiles and chunks, values without data, models that are wrong."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import torch

from cemi_dask.errors import ConfigError, InputError, ResourceError, UnreadableError
from cemi_dask.geometry import Box, ChunkGrid
from cemi_dask.learn.weights import save_weights
from cemi_dask.segment import SEGMENTERS, Network, segment
from cemi_dask.segment.checkpoints import load_model
from cemi_dask.segment.lazy import seen_by
from cemi_dask.segment.networks import PRESETS, SegmenterSpec, build_network
from cemi_dask.segment.tiles import TileGrid, standardised
from tests.segment.networks import SMALL, card_of, written_segmenter

SHAPE = (200, 261)
CHUNKINGS = [(97, 131), (64, 300), ((3, 150, 47), (1, 170, 90))]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_segmenter(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def method(weights: Path) -> Network:
    return Network(model=str(weights), tile_px=96, overlap_px=32, device="cpu")


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1, SHAPE), 0), 1)
    picture = 120 + 30 * np.sin(smooth / 40) + rng.normal(0, 20, SHAPE)
    picture = np.clip(np.rint(picture), 1, 255).astype(np.uint8)
    picture[100:150, 180:260] = 0
    picture[:, :7] = 0
    return picture


def chunk_boxes(chunks: tuple) -> list[Box]:
    rows, cols = da.core.normalize_chunks(chunks, SHAPE)
    tops, lefts = np.cumsum((0, *rows)), np.cumsum((0, *cols))
    return [
        Box(int(tops[r]), int(lefts[c]), int(tops[r + 1]), int(lefts[c + 1]))
        for r in range(len(rows))
        for c in range(len(cols))
    ]


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_chunks_equal_whole(grey: np.ndarray, method: Network, chunks: tuple) -> None:
    whole_logits, whole = method.logits(grey), method(grey)
    assert 0.1 < whole.mean() < 0.9
    logits = np.full_like(whole_logits, np.nan)
    for box in chunk_boxes(chunks):
        seen = seen_by(method, box).intersect(Box(0, 0, *SHAPE))
        part = method.logits(grey[seen.slices], box.relative_to(seen))
        logits[(slice(None), *box.slices)] = part
    np.testing.assert_allclose(logits, whole_logits, atol=1e-4)
    with dask.config.set(scheduler="synchronous"):
        lazy = segment(da.from_array(grey, chunks=chunks), method=method)
        np.testing.assert_array_equal(lazy.compute(), whole)


def test_parts_of_a_block_equal_the_block(grey: np.ndarray, method: Network) -> None:
    whole = method(grey)
    for _, _, part in ChunkGrid(SHAPE, (110, 140)):
        np.testing.assert_array_equal(method.label_part(grey, part), whole[part.slices])


def test_tiles_cover_every_pixel_with_weights_that_sum_to_one() -> None:
    grid = TileGrid(96, 64)
    for size in (1, 95, 96, 97, 160, 161, 1000):
        assert (grid.totals(0, size, size) > 0).all()
        assert max(grid.starts(0, size, size)) < size
    with_ones = TileGrid(96, 64).starts(100, 140, 1000)
    assert list(with_ones) == [64, 128]


def test_pixels_without_data_get_no_label(grey: np.ndarray, method: Network) -> None:
    found = method(grey)
    assert not found[grey == 0].any()
    assert found[grey != 0].any()
    assert not method(np.zeros((70, 80), np.uint8)).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_brightness_contrast_and_type_do_not_matter(
    grey: np.ndarray, method: Network, dtype: type
) -> None:
    picture = grey.astype(dtype) * dtype(50) + dtype(1000)
    picture[grey == 0] = np.nan if dtype == np.float32 else 0
    np.testing.assert_array_equal(method(picture), method(grey))


def test_standardised_levels_ignore_pixels_without_data() -> None:
    grey = np.array([[0, 2, 4], [0, 6, 8]], np.uint8)
    found = standardised(grey, grey != 0)
    assert found[:, 0].tolist() == [0, 0]
    assert found[:, 1:].mean() == pytest.approx(0, abs=1e-6)
    assert found[:, 1:].std() == pytest.approx(1, abs=1e-6)
    assert not standardised(np.full((4, 4), 7.0), np.ones((4, 4), bool)).any()


def test_one_network_per_process(method: Network) -> None:
    assert method._runner is method.model_copy(update={"threshold": 0.7})._runner


def test_the_threshold_is_a_probability(grey: np.ndarray, method: Network) -> None:
    shares = [method.model_copy(update={"threshold": t})(grey).mean() for t in (0.2, 0.5, 0.8)]
    assert shares[0] > shares[1] > shares[2]


def test_one_of_several_labels_is_taken(grey: np.ndarray, tmp_path: Path) -> None:
    path = written_segmenter(tmp_path / "two.safetensors", labels=("lamellar", "dendrite"))
    both = Network(model=str(path), tile_px=96, overlap_px=32)
    dendrite = both.model_copy(update={"label": "dendrite"})
    every = both.all_labels(grey)
    assert set(np.unique(every)) == {0, 1, 2}
    np.testing.assert_array_equal(both(grey), every == 1)
    np.testing.assert_array_equal(dendrite(grey), every == 2)
    with pytest.raises(ConfigError, match="no label 'pore', only lamellar, dendrite"):
        both.model_copy(update={"label": "pore"})(grey)


def test_tiles_that_do_not_fit_are_refused(grey: np.ndarray, method: Network) -> None:
    with pytest.raises(ConfigError, match="tile_px 100 must be a multiple of 32"):
        method.model_copy(update={"tile_px": 100})(grey)
    with pytest.raises(ConfigError, match="more than half of tile_px"):
        method.model_copy(update={"overlap_px": 80})(grey)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(grey: np.ndarray, method: Network) -> None:
    with pytest.raises(ResourceError, match=r"segment\.device is 'cuda'.*no CUDA device"):
        method.model_copy(update={"device": "cuda"})(grey)


@pytest.mark.gpu
def test_cpu_and_gpu_agree(grey: np.ndarray, method: Network) -> None:
    on_gpu = method.model_copy(update={"device": "cuda", "precision": "float32"})
    np.testing.assert_allclose(on_gpu.logits(grey), method.logits(grey), atol=1e-2)


def test_models_that_are_wrong_are_said(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ConfigError, match="'kompakt' is no model"):
        load_model("kompakt")
    with pytest.raises(UnreadableError, match=r"nowhere\.safetensors"):
        load_model(tmp_path / "nowhere.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnreadableError, match=r"cut\.safetensors"):
        load_model(cut)
    bare = tmp_path / "bare.pth"
    torch.save({"weight": torch.zeros(3)}, bare)
    with pytest.raises(InputError, match="no model card"):
        load_model(bare)
    other = tmp_path / "other.safetensors"
    save_weights(other, build_network(SMALL, 1, seed=0), card_of(SMALL, ("a", "b")))
    with pytest.raises(UnreadableError, match="do not fit"):
        load_model(other)


def test_half_precision_weights_load_as_float32(tmp_path: Path, weights: Path) -> None:
    full = load_model(weights)
    save_weights(tmp_path / "h.safetensors", full.net, full.card, dtype="float16")
    half = load_model(tmp_path / "h.safetensors")
    for name, tensor in half.net.state_dict().items():
        assert tensor.dtype == full.net.state_dict()[name].dtype
        torch.testing.assert_close(tensor, full.net.state_dict()[name], atol=1e-2, rtol=1e-3)


def test_an_unknown_network_is_refused_with_what_smp_says() -> None:
    for changes in ({"encoder": "resnet19"}, {"architecture": "Unett"}, {"options": {"dept": 3}}):
        with pytest.raises(ConfigError, match="segmentation-models-pytorch cannot make"):
            build_network(SegmenterSpec(**changes), 1)


def test_the_paper_preset_is_the_papers_network() -> None:
    spec = PRESETS["paper"]
    assert (spec.architecture, spec.encoder, spec.unshuffle) == (
        "UnetPlusPlus",
        "se_resnext50_32x4d",
        1,
    )


def test_a_seed_gives_the_same_network_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (build_network(SMALL, 1, seed=5).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_unshuffling_keeps_the_size() -> None:
    net = build_network(SMALL.model_copy(update={"unshuffle": 2}), 1, seed=0).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 64, 128)).shape == (1, 1, 64, 128)


def test_yaml_names_the_model(weights: Path) -> None:
    method = SEGMENTERS.parse({"method": "network", "model": str(weights)})
    assert isinstance(method, Network)
    assert method.fingerprint() == Network(model=str(weights)).fingerprint()
    assert Network(model="w/mine.safetensors").located(Path("/d")).model == "/d/w/mine.safetensors"
    assert Network().located(Path("/d")).model == "compact"
