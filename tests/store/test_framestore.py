"""Frames on disk: appended one by one, read one by one, unfinished ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from cemi_dask.errors import InputError, StoreError
from cemi_dask.store import (
    FrameWriter,
    create_frames,
    frame_count,
    open_frame_store,
    write_frames,
)


def stack(count, seed=0, shape=(30, 40), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 255, (count, *shape)).astype(dtype)


def store_frames(path, key, frames):
    with FrameWriter(path, key) as writer:
        for frame in frames:
            writer.append(frame)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_frames_of_several_sources_come_back_in_the_order_of_the_keys(tmp_path, dtype):
    first, second = stack(3, 0, dtype=dtype), stack(50, 1, dtype=dtype)
    store_frames(tmp_path, "raw/000_row-000", first)
    store_frames(tmp_path, "raw/001_row-001", second)
    lazy = open_frame_store(tmp_path, ["raw/001_row-001", "raw/000_row-000"])
    assert lazy.name.startswith("read-frames-")
    assert lazy.chunks == ((1,) * 53, (30,), (40,))
    assert lazy.dtype == dtype
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), np.concatenate([second, first]))
    assert frame_count(tmp_path, "raw/001_row-001") == 50


def test_a_repeated_attempt_starts_over(tmp_path):

    def damaged_video():
        yield from stack(20, 0)
        raise RuntimeError("decoder died")

    with pytest.raises(RuntimeError, match="decoder died"):
        store_frames(tmp_path, "a", damaged_video())
    with pytest.raises(StoreError, match="not written to its end"):
        open_frame_store(tmp_path, ["a"])
    again = stack(4, 1)
    store_frames(tmp_path, "a", again)
    np.testing.assert_array_equal(
        open_frame_store(tmp_path, ["a"]).compute(scheduler="sync"), again
    )
    assert len(list((tmp_path / "a" / "c").iterdir())) == 4


def test_rewritten_frames_are_read_anew_in_the_same_process(tmp_path):
    for seed in range(3):
        frames = stack(5, seed)
        store_frames(tmp_path, "a", frames)
        lazy = open_frame_store(tmp_path, ["a"])
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), frames)


def test_batches_may_be_written_in_any_order(tmp_path):
    raw = stack(7)
    store_frames(tmp_path, "raw/a", raw)
    create_frames(tmp_path, "denoised/a", like="raw/a")
    result = write_frames(tmp_path, "denoised/a", 4, [f[None] for f in 255 - raw[4:]])
    assert result == {"frames": 3, "bytes": 3 * 30 * 40}
    write_frames(tmp_path, "denoised/a", 0, 255 - raw[:4])
    lazy = open_frame_store(tmp_path, ["denoised/a"])
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), 255 - raw)


def test_a_lost_frame_is_an_error_not_black(tmp_path):
    store_frames(tmp_path, "raw/a", stack(7))
    create_frames(tmp_path, "denoised/a", like="raw/a")
    write_frames(tmp_path, "denoised/a", 0, stack(5))
    lazy = open_frame_store(tmp_path, ["denoised/a"])
    assert lazy[4].compute(scheduler="sync").any()
    with pytest.raises(StoreError, match=r"Frame 5 of .*denoised/a is missing"):
        lazy[5].compute(scheduler="sync")


def test_black_frames_are_kept(tmp_path):
    store_frames(tmp_path, "a", np.zeros((2, 30, 40), np.uint8))
    assert not open_frame_store(tmp_path, ["a"]).compute(scheduler="sync").any()


def test_mixed_sizes_are_named(tmp_path):
    with FrameWriter(tmp_path, "a") as writer:
        writer.append(stack(1)[0])
        with pytest.raises(InputError, match=r"Frame 1 .*\(30, 39\).*\(30, 40\)"):
            writer.append(stack(1)[0][:, 1:])
        with pytest.raises(InputError, match="uint16"):
            writer.append(stack(1)[0].astype(np.uint16))
    store_frames(tmp_path, "b", stack(2, shape=(20, 40)))
    with pytest.raises(InputError, match=r"b holds frames of \(20, 40\).*a of \(30, 40\)"):
        open_frame_store(tmp_path, ["a", "b"])


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(StoreError, match="nothing-here"):
        open_frame_store(tmp_path, ["nothing-here"])
    with pytest.raises(InputError, match="No source"):
        open_frame_store(tmp_path, [])
    with pytest.raises(InputError, match="No frame was given"):
        FrameWriter(tmp_path, "empty").close()


def test_frames_that_do_not_fit_are_refused(tmp_path):
    store_frames(tmp_path, "a", stack(3))
    create_frames(tmp_path, "b", like="a")
    with pytest.raises(InputError, match="Frame 3"):
        write_frames(tmp_path, "b", 2, stack(2))
    with pytest.raises(InputError, match=r"\(20, 40\)"):
        write_frames(tmp_path, "b", 0, stack(1, shape=(20, 40)))
