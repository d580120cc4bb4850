from typing import ClassVar

import dask
import dask.array as da
import numpy as np
import pytest

from cemi_dask.errors import ConfigError, InputError
from cemi_dask.segment import (
    PHASES,
    SEGMENTERS,
    Bandpass,
    Bradley,
    Coherence,
    Level,
    Levels,
    Mixture,
    Network,
    Otsu,
    Sauvola,
    segment,
)
from tests.segment.two_phase import colonies, record, stripes

METHODS = [
    Bradley(),
    Bradley(window_px=9, percent=5.0),
    Bradley(window_px=9, smooth_px=3, majority_px=5),
    Level(level=120.0),
    Levels(levels=(100.0, 130.0), majority_px=7),
    Otsu(),
    Otsu(phases=3, smooth_px=5),
    Mixture(smooth_px=3, majority_px=3),
    Sauvola(window_px=31),
    Sauvola(window_px=21, smooth_px=3, dark=False),
    Coherence(),
    Coherence(period_px=11.0),
    Bandpass(),
    Network(tile_px=256, overlap_px=64, device="cpu"),
]
CHUNKINGS = [(97, 131), (64, 300), ((3, 200, 77, 41), (1, 250, 129, 31))]


@pytest.fixture(scope="module")
def grey():
    field = colonies((321, 411), seed=5).grey
    field[200:] = 90 + 60 * stripes((121, 411), period_px=11.0, angle=0.3)
    picture = record(field, noise=25.0)
    picture[100:150, 180:260] = 0
    picture[:, :7] = 0
    return picture


def test_every_built_in_method_is_tested_here():
    assert {type(m) for m in METHODS} == {*PHASES.builtins, *SEGMENTERS.builtins}


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_chunks_equal_whole(grey, method, chunks):
    whole = method(grey)
    assert 0.0 < whole.mean() < 1.0
    lazy = segment(da.from_array(grey, chunks=chunks), method=method)
    with dask.config.set(scheduler="synchronous"):
        assert np.array_equal(lazy.compute(), whole)


@pytest.mark.parametrize(
    "method", [Bradley(), Coherence(), Otsu(smooth_px=3), Sauvola(), Mixture()], ids=repr
)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_chunks_equal_whole_for_other_types(grey, method, dtype):
    picture = grey.astype(dtype) * dtype(200 if dtype == np.uint16 else 0.937)
    if dtype == np.float32:
        picture[grey == 0] = np.nan
    lazy = segment(da.from_array(picture, chunks=(97, 131)), method=method)
    with dask.config.set(scheduler="synchronous"):
        assert np.array_equal(lazy.compute(), method(picture))


def test_labels_keep_shape_chunks_and_speak_on_the_dashboard(grey):
    mosaic = da.from_array(grey, chunks=(97, 131))
    lazy = segment(mosaic, method={"method": "bradley", "percent": 10})
    assert lazy.chunks == mosaic.chunks
    assert lazy.dtype == np.uint8
    assert lazy.name.startswith("segment-shard-")
    assert lazy.name == segment(mosaic, method=Bradley(percent=10)).name
    assert lazy.name != segment(mosaic, method=Bradley()).name


def test_a_chunk_reads_only_its_halo_from_storage(grey):
    class Source:
        shape, dtype, ndim = grey.shape, grey.dtype, 2
        read: ClassVar[list[int]] = []

        def __getitem__(self, key):
            part = grey[key]
            self.read.append(part.size)
            return part

    source = Source()
    mosaic = da.from_array(source, chunks=(160, 200), asarray=False)
    with dask.config.set(scheduler="synchronous"):
        segment(mosaic, method=Bradley(window_px=9)).blocks[0, 0].compute()
    assert sum(source.read) == (160 + 5) * (200 + 5)


def test_a_wrong_name_lists_the_right_ones(grey):
    with pytest.raises(
        ConfigError, match=r"'bradly'.*bandpass, bradley, coherence, level, levels, .*network"
    ):
        segment(grey, method="bradly")


def test_an_array_of_frames_is_refused():
    with pytest.raises(InputError, match=r"two dimensions.*\(3, 40, 40\)"):
        segment(da.zeros((3, 40, 40), chunks=40, dtype=np.uint8), method="bradley")
